"""NNCF's movement-sparsity JSON files."""
