"""Schedules: the sparsity after each optimizer step."""
