"""Protocols: layer table and target in, a profile of zero counts out."""
