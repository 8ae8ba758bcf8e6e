"""What a compiled network runs when its Sequentials are called as a whole."""

from __future__ import annotations

from torch import nn

from ws_learner.deploy.runtime.chain import Chain
from ws_learner.deploy.runtime.modules import Replaced

__all__ = ["chains_of"]


def chains_of(model: nn.Module) -> list[Chain]:
    """Layers that run as one."""
    steps = [step for m in model.modules() for step in getattr(m, "fused_steps", ())]
    return [s.run for s in steps if isinstance(s, Replaced) and isinstance(s.run, Chain)]
