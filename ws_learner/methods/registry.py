"""The methods by the name they have on the command line (`--ws_method`)."""

from __future__ import annotations

from ws_learner.methods.gradual import GradualConfig

__all__ = ["METHODS"]

METHODS = {"gradual": GradualConfig}
"""Name -> frozen dataclass of the method's settings. A new method adds one line."""
