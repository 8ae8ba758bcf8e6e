"""Verbs on finished and running runs: list, compare, label."""
