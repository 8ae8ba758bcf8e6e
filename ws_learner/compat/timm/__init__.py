"""timm's YAML files with N:M keys."""
