"""Budgets in any unit: costs of layers, the allocation problem in units of cost."""
