"""The weight-sparse learner: an agent picks each layer's prune ratio, training takes it there.

Names are handed out when first asked for, so that importing the package needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ws_learner import common
    from ws_learner.allocation.environment import make_pruning_env
    from ws_learner.config import WeightSparseConfig
    from ws_learner.data.split_dataset import split_dataset
    from ws_learner.data.splits import DataSplits
    from ws_learner.dialects.weight_pruning import prepare_compression, prepare_pruning
    from ws_learner.dialects.weight_pruning_conf import WeightPruningConfig
    from ws_learner.errors import UserError
    from ws_learner.evaluation import top_k_accuracy
    from ws_learner.learner import Result, WeightSparseLearner
    from ws_learner.methods.gradual import GradualConfig
    from ws_learner.methods.mdgf import MdgfConfig
    from ws_learner.methods.sdgf import SdgfConfig
    from ws_learner.methods.srste import SrSteConfig
    from ws_learner.pruning import Pruning
    from ws_learner.recipe import Recipe
    from ws_learner.sparsifier import Sparsifier

__all__ = [
    "DataSplits",
    "GradualConfig",
    "MdgfConfig",
    "Pruning",
    "Recipe",
    "Result",
    "SdgfConfig",
    "Sparsifier",
    "SrSteConfig",
    "UserError",
    "WeightPruningConfig",
    "WeightSparseConfig",
    "WeightSparseLearner",
    "common",
    "make_pruning_env",
    "prepare_compression",
    "prepare_pruning",
    "split_dataset",
    "top_k_accuracy",
]

_HOMES = {
    "DataSplits": "ws_learner.data.splits",
    "GradualConfig": "ws_learner.methods.gradual",
    "MdgfConfig": "ws_learner.methods.mdgf",
    "Pruning": "ws_learner.pruning",
    "Recipe": "ws_learner.recipe",
    "Result": "ws_learner.learner",
    "SdgfConfig": "ws_learner.methods.sdgf",
    "Sparsifier": "ws_learner.sparsifier",
    "SrSteConfig": "ws_learner.methods.srste",
    "UserError": "ws_learner.errors",
    "WeightPruningConfig": "ws_learner.dialects.weight_pruning_conf",
    "WeightSparseConfig": "ws_learner.config",
    "WeightSparseLearner": "ws_learner.learner",
    "common": "ws_learner.pruning",
    "make_pruning_env": "ws_learner.allocation.environment",
    "prepare_compression": "ws_learner.dialects.weight_pruning",
    "prepare_pruning": "ws_learner.dialects.weight_pruning",
    "split_dataset": "ws_learner.data.split_dataset",
    "top_k_accuracy": "ws_learner.evaluation",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ws_learner' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
