"""Prunable layers: the layer table, layer roles, and profiles mapped to layers."""
