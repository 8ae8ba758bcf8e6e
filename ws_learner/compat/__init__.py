"""Other tools' config files, translated into this project's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ws_learner.core.lazy import lazy_names

if TYPE_CHECKING:
    from ws_learner.compat.lpot.data import LimitedSplit, find_data_folder
    from ws_learner.compat.lpot.distillation import build_lpot_distillation_loss, teacher_outputs
    from ws_learner.compat.lpot.epoch_plan import EpochPlan
    from ws_learner.compat.lpot.epoch_pruner import EpochPruner
    from ws_learner.compat.lpot.plan import build_plans
    from ws_learner.compat.lpot.pruning import Pruning
    from ws_learner.compat.lpot.reader import is_lpot, parse_lpot, read_lpot
    from ws_learner.compat.lpot.run import LPOT_COPY, run_lpot
    from ws_learner.compat.lpot.schema import LpotConf, TrainSection
    from ws_learner.compat.lpot.settings import (
        build_lpot_recipe,
        build_lpot_training_loss,
        load_lpot_data,
        lpot_distils,
        with_data_folder,
    )
    from ws_learner.compat.lpot.training_function import (
        build_loss,
        build_lpot_optimizer,
        load_conf_splits,
    )
    from ws_learner.compat.neural_compressor.api import prepare_compression, prepare_pruning
    from ws_learner.compat.neural_compressor.config import WeightPruningConfig
    from ws_learner.compat.nncf.plan import (
        build_movement_config,
        build_nncf_distillation_loss,
        build_quant_config,
    )
    from ws_learner.compat.nncf.reader import is_nncf, parse_nncf, read_nncf
    from ws_learner.compat.nncf.run import NNCF_COPY, Deployment, run_nncf
    from ws_learner.compat.nncf.schema import NncfConf
    from ws_learner.compat.nncf.scopes import quantized_layers
    from ws_learner.compat.timm.reader import TimmNM, is_timm_nm, parse_timm_nm, read_timm
    from ws_learner.compat.values import MOST_CONFIG

__all__ = [
    "LPOT_COPY",
    "MOST_CONFIG",
    "NNCF_COPY",
    "Deployment",
    "EpochPlan",
    "EpochPruner",
    "LimitedSplit",
    "LpotConf",
    "NncfConf",
    "Pruning",
    "TimmNM",
    "TrainSection",
    "WeightPruningConfig",
    "build_loss",
    "build_lpot_distillation_loss",
    "build_lpot_optimizer",
    "build_lpot_recipe",
    "build_lpot_training_loss",
    "build_movement_config",
    "build_nncf_distillation_loss",
    "build_plans",
    "build_quant_config",
    "find_data_folder",
    "is_lpot",
    "is_nncf",
    "is_timm_nm",
    "load_conf_splits",
    "load_lpot_data",
    "lpot_distils",
    "parse_lpot",
    "parse_nncf",
    "parse_timm_nm",
    "prepare_compression",
    "prepare_pruning",
    "quantized_layers",
    "read_lpot",
    "read_nncf",
    "read_timm",
    "run_lpot",
    "run_nncf",
    "teacher_outputs",
    "with_data_folder",
]

_MODULES = {
    "lpot.data": [
        "LimitedSplit",
        "find_data_folder",
    ],
    "lpot.distillation": [
        "build_lpot_distillation_loss",
        "teacher_outputs",
    ],
    "lpot.epoch_plan": [
        "EpochPlan",
    ],
    "lpot.epoch_pruner": [
        "EpochPruner",
    ],
    "lpot.plan": [
        "build_plans",
    ],
    "lpot.pruning": [
        "Pruning",
    ],
    "lpot.reader": [
        "is_lpot",
        "parse_lpot",
        "read_lpot",
    ],
    "lpot.run": [
        "LPOT_COPY",
        "run_lpot",
    ],
    "lpot.schema": [
        "LpotConf",
        "TrainSection",
    ],
    "lpot.settings": [
        "build_lpot_recipe",
        "build_lpot_training_loss",
        "load_lpot_data",
        "lpot_distils",
        "with_data_folder",
    ],
    "lpot.training_function": [
        "build_loss",
        "build_lpot_optimizer",
        "load_conf_splits",
    ],
    "neural_compressor.api": [
        "prepare_compression",
        "prepare_pruning",
    ],
    "neural_compressor.config": [
        "WeightPruningConfig",
    ],
    "nncf.plan": [
        "build_movement_config",
        "build_nncf_distillation_loss",
        "build_quant_config",
    ],
    "nncf.reader": [
        "is_nncf",
        "parse_nncf",
        "read_nncf",
    ],
    "nncf.run": [
        "Deployment",
        "NNCF_COPY",
        "run_nncf",
    ],
    "nncf.schema": [
        "NncfConf",
    ],
    "nncf.scopes": [
        "quantized_layers",
    ],
    "timm.reader": [
        "TimmNM",
        "is_timm_nm",
        "parse_timm_nm",
        "read_timm",
    ],
    "values": [
        "MOST_CONFIG",
    ],
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
