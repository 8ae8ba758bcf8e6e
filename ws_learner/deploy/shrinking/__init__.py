"""Smaller dense networks: channels, heads and neurons that are zero are removed."""
