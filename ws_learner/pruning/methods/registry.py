"""The methods by the name they have on the command line (`--ws_method`)."""

from __future__ import annotations

from ws_learner.pruning.methods.gradient_sensitivity import GradientSensitivityConfig
from ws_learner.pruning.methods.gradual import GradualConfig
from ws_learner.pruning.methods.group_lasso import GroupLassoConfig
from ws_learner.pruning.methods.mdgf import MdgfConfig
from ws_learner.pruning.methods.method import MethodConfig
from ws_learner.pruning.methods.movement import MovementConfig
from ws_learner.pruning.methods.pattern_lock import PatternLockConfig
from ws_learner.pruning.methods.sdgf import SdgfConfig
from ws_learner.pruning.methods.srste import SrSteConfig

__all__ = ["METHODS"]

METHODS: dict[str, type[MethodConfig]] = {
    "gradual": GradualConfig,
    "group_lasso": GroupLassoConfig,
    "pattern_lock": PatternLockConfig,
    "gradient_sensitivity": GradientSensitivityConfig,
    "movement": MovementConfig,
    "srste": SrSteConfig,
    "mdgf": MdgfConfig,
    "sdgf": SdgfConfig,
}
"""Name -> frozen dataclass of the method's settings. A new method adds one line."""
