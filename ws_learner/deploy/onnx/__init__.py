"""Export to ONNX, and checks of the exported files."""
