"""Pruning of PyTorch modules: layer table, patterns, criteria, schedules, methods."""

from ws_learner.core.lazy import lazy_names

__getattr__, __dir__ = lazy_names(__name__, {}, moved={"Pruning": "ws_learner.Pruning"})
