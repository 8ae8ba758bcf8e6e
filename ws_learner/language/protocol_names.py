"""Protocols that language models have. Free of torch."""

from __future__ import annotations

__all__ = ["BY_BLOCK", "BY_LAYER", "LANGUAGE_PROTOCOLS", "SEARCHES"]

BY_LAYER = ("uniform", "heurist", "erk", "knapsack")
BY_BLOCK = ("progression", "owl", "divergence")
SEARCHES = ("random", "evolution", "bayesian", "ddpg", "surrogate", "optimal")
LANGUAGE_PROTOCOLS = (*BY_LAYER, *BY_BLOCK, *SEARCHES, "given")
