"""The methods by the name they have on the command line (`--ws_method`)."""

from __future__ import annotations

from ws_learner.methods.gradient_sensitivity import GradientSensitivityConfig
from ws_learner.methods.gradual import GradualConfig
from ws_learner.methods.group_lasso import GroupLassoConfig
from ws_learner.methods.mdgf import MdgfConfig
from ws_learner.methods.method import MethodConfig
from ws_learner.methods.movement import MovementConfig
from ws_learner.methods.pattern_lock import PatternLockConfig
from ws_learner.methods.sdgf import SdgfConfig
from ws_learner.methods.srste import SrSteConfig

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
