"""LPOT's YAML files and its Python interface."""
