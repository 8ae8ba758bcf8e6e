"""The weight-sparse learner: an agent sets each layer's prune ratio, training reaches it.

Names are imported on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from ws_learner.core import install, lazy_names

if TYPE_CHECKING:
    from ws_learner.compat import (
        Pruning,
        WeightPruningConfig,
        prepare_compression,
        prepare_pruning,
        read_timm,
        run_lpot,
        run_nncf,
    )
    from ws_learner.compat.lpot import common
    from ws_learner.config import Recipe, WeightSparseConfig
    from ws_learner.core import UserError
    from ws_learner.data import DataSplits, as_splits, split_dataset
    from ws_learner.deploy import (
        check_onnx,
        compile_sparse,
        crop,
        export_onnx,
        load_cropped,
        load_shrunk,
        load_sparse,
        permute_mlps,
        save_cropped,
        save_shrunk,
        shrink,
        to_semi_structured,
        write_deploy_folder,
    )
    from ws_learner.learner import WeightSparseLearner
    from ws_learner.one_call import prune
    from ws_learner.pruning import (
        NM,
        GradientSensitivityConfig,
        GradualConfig,
        GroupLassoConfig,
        MdgfConfig,
        Member,
        MovementConfig,
        PatternLockConfig,
        SdgfConfig,
        Sparsifier,
        SrSteConfig,
        ThresholdMovementConfig,
        UnitGroup,
        parse_pattern,
    )
    from ws_learner.search import make_pruning_env, sensitivity
    from ws_learner.training import (
        LoadedRun,
        MetricSpec,
        Result,
        load_run,
        perplexity,
        top_k_accuracy,
    )

__all__ = [
    "NM",
    "DataSplits",
    "GradientSensitivityConfig",
    "GradualConfig",
    "GroupLassoConfig",
    "LoadedRun",
    "MdgfConfig",
    "Member",
    "MetricSpec",
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
    "as_splits",
    "check_onnx",
    "common",
    "compile_sparse",
    "crop",
    "export_onnx",
    "load_cropped",
    "load_run",
    "load_shrunk",
    "load_sparse",
    "make_pruning_env",
    "parse_pattern",
    "permute_mlps",
    "perplexity",
    "prepare_compression",
    "prepare_pruning",
    "prune",
    "read_timm",
    "run_lpot",
    "run_nncf",
    "save_cropped",
    "save_shrunk",
    "sensitivity",
    "shrink",
    "split_dataset",
    "to_semi_structured",
    "top_k_accuracy",
    "write_deploy_folder",
]

_MODULES = {
    "compat.lpot": ["common"],
    "compat.lpot.pruning": ["Pruning"],
    "compat.lpot.run": ["run_lpot"],
    "compat.neural_compressor.api": ["prepare_compression", "prepare_pruning"],
    "compat.neural_compressor.config": ["WeightPruningConfig"],
    "compat.nncf.run": ["run_nncf"],
    "compat.timm.reader": ["read_timm"],
    "config.learner": ["WeightSparseConfig"],
    "config.recipe": ["Recipe"],
    "core.errors": ["UserError"],
    "data.to_splits": ["as_splits"],
    "data.user_dataset": ["split_dataset"],
    "data.splits": ["DataSplits"],
    "deploy.folder.write": ["write_deploy_folder"],
    "deploy.onnx.export": ["check_onnx", "export_onnx"],
    "deploy.runtime": ["compile_sparse", "load_sparse"],
    "deploy.shrinking.crop": ["crop"],
    "deploy.shrinking.cropped_file": ["load_cropped", "save_cropped"],
    "deploy.shrinking.permute_mlp": ["permute_mlps"],
    "deploy.shrinking.semi_structured": ["to_semi_structured"],
    "deploy.shrinking.shrink": ["shrink"],
    "deploy.shrinking.shrunk_file": ["load_shrunk", "save_shrunk"],
    "learner": ["WeightSparseLearner"],
    "one_call": ["prune"],
    "pruning.layers.unit_groups": ["Member", "UnitGroup"],
    "pruning.methods.gradient_sensitivity": ["GradientSensitivityConfig"],
    "pruning.methods.gradual": ["GradualConfig"],
    "pruning.methods.group_lasso": ["GroupLassoConfig"],
    "pruning.methods.mdgf": ["MdgfConfig"],
    "pruning.methods.movement": ["MovementConfig"],
    "pruning.methods.pattern_lock": ["PatternLockConfig"],
    "pruning.methods.sdgf": ["SdgfConfig"],
    "pruning.methods.srste": ["SrSteConfig"],
    "pruning.methods.threshold_movement": ["ThresholdMovementConfig"],
    "pruning.patterns.nm": ["NM"],
    "pruning.patterns.pattern": ["parse_pattern"],
    "pruning.sparsifier": ["Sparsifier"],
    "search.gym_env": ["make_pruning_env"],
    "search.layer_sensitivity": ["sensitivity"],
    "training.evaluation": ["perplexity", "top_k_accuracy"],
    "training.loaded_run": ["LoadedRun", "load_run"],
    "training.metric_spec": ["MetricSpec"],
    "training.result": ["Result"],
}

install()
_lazy, __dir__ = lazy_names(__name__, _MODULES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        try:
            return version("weight-sparse-learner")
        except PackageNotFoundError:  # run from a source checkout without installation
            return "unknown"
    return _lazy(name)
