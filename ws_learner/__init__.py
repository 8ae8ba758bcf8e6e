"""The weight-sparse learner: an agent picks each layer's prune ratio, training takes it there.

Names are handed out when first asked for, so that importing the package needs no torch.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
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
    from ws_learner.export.crop import crop
    from ws_learner.export.cropped_files import load_cropped, save_cropped
    from ws_learner.export.onnx_file import check_onnx, export_onnx
    from ws_learner.export.permute_mlp import permute_mlps
    from ws_learner.export.semi_structured import to_semi_structured
    from ws_learner.export.shrink import shrink
    from ws_learner.export.shrunk_file import load_shrunk, save_shrunk
    from ws_learner.learner import Result, WeightSparseLearner
    from ws_learner.methods.gradient_sensitivity import GradientSensitivityConfig
    from ws_learner.methods.gradual import GradualConfig
    from ws_learner.methods.group_lasso import GroupLassoConfig
    from ws_learner.methods.mdgf import MdgfConfig
    from ws_learner.methods.movement import MovementConfig
    from ws_learner.methods.pattern_lock import PatternLockConfig
    from ws_learner.methods.sdgf import SdgfConfig
    from ws_learner.methods.srste import SrSteConfig
    from ws_learner.methods.threshold_movement import ThresholdMovementConfig
    from ws_learner.pruning import Pruning
    from ws_learner.recipe import Recipe
    from ws_learner.runtime import compile_sparse, load_sparse
    from ws_learner.sparsifier import Sparsifier
    from ws_learner.sparsity.nm import NM
    from ws_learner.sparsity.pattern import parse_pattern
    from ws_learner.unit_groups import Member, UnitGroup

__all__ = [
    "NM",
    "DataSplits",
    "GradientSensitivityConfig",
    "GradualConfig",
    "GroupLassoConfig",
    "MdgfConfig",
    "Member",
    "MovementConfig",
    "PatternLockConfig",
    "Pruning",
    "Recipe",
    "Result",
    "SdgfConfig",
    "Sparsifier",
    "SrSteConfig",
    "ThresholdMovementConfig",
    "UnitGroup",
    "UserError",
    "WeightPruningConfig",
    "WeightSparseConfig",
    "WeightSparseLearner",
    "check_onnx",
    "common",
    "compile_sparse",
    "crop",
    "export_onnx",
    "load_cropped",
    "load_shrunk",
    "load_sparse",
    "make_pruning_env",
    "parse_pattern",
    "permute_mlps",
    "prepare_compression",
    "prepare_pruning",
    "save_cropped",
    "save_shrunk",
    "shrink",
    "split_dataset",
    "to_semi_structured",
    "top_k_accuracy",
]

_HOMES = {
    "DataSplits": "data.splits",
    "GradientSensitivityConfig": "methods.gradient_sensitivity",
    "GradualConfig": "methods.gradual",
    "GroupLassoConfig": "methods.group_lasso",
    "MdgfConfig": "methods.mdgf",
    "Member": "unit_groups",
    "MovementConfig": "methods.movement",
    "NM": "sparsity.nm",
    "PatternLockConfig": "methods.pattern_lock",
    "Pruning": "pruning",
    "Recipe": "recipe",
    "Result": "learner",
    "SdgfConfig": "methods.sdgf",
    "Sparsifier": "sparsifier",
    "SrSteConfig": "methods.srste",
    "ThresholdMovementConfig": "methods.threshold_movement",
    "UnitGroup": "unit_groups",
    "UserError": "errors",
    "WeightPruningConfig": "dialects.weight_pruning_conf",
    "WeightSparseConfig": "config",
    "WeightSparseLearner": "learner",
    "check_onnx": "export.onnx_file",
    "common": "common",
    "compile_sparse": "runtime",
    "crop": "export.crop",
    "export_onnx": "export.onnx_file",
    "load_cropped": "export.cropped_files",
    "load_shrunk": "export.shrunk_file",
    "load_sparse": "runtime",
    "make_pruning_env": "allocation.environment",
    "parse_pattern": "sparsity.pattern",
    "permute_mlps": "export.permute_mlp",
    "prepare_compression": "dialects.weight_pruning",
    "prepare_pruning": "dialects.weight_pruning",
    "save_cropped": "export.cropped_files",
    "save_shrunk": "export.shrunk_file",
    "shrink": "export.shrink",
    "split_dataset": "data.split_dataset",
    "to_semi_structured": "export.semi_structured",
    "top_k_accuracy": "evaluation",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        try:
            return version("weight-sparse-learner")
        except PackageNotFoundError:  # run from a checkout that was not installed
            return "unknown"
    if name not in _HOMES:
        raise AttributeError(f"module 'ws_learner' has no attribute {name!r}")
    home = importlib.import_module(f"ws_learner.{_HOMES[name]}")
    return home if name == "common" else getattr(home, name)


def __dir__() -> list[str]:
    return sorted(__all__)
