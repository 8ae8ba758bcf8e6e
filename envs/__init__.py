"""Ground: the decision problem, NumPy and gymnasium only."""
