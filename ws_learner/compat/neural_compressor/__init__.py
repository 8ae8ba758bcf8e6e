"""Neural Compressor 2.x's Python interface."""
