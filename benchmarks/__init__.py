"""Benchmarks behind the numbers in the documents; each prints its result and its target."""
