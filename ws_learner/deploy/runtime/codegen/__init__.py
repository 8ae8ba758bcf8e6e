"""Generates and compiles the sparse kernels."""
