"""Sparse-training methods, one file each; `registry.py` lists them."""
