"""Data sets: found, checked, split, and read in batches."""
