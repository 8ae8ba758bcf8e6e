"""Pruning of PyTorch modules: layer table, patterns, criteria, schedules, methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ws_learner.core.lazy import lazy_names

if TYPE_CHECKING:
    from ws_learner.pruning.criteria import (
        Criterion,
        Magnitude,
        Sensitivity,
        build_criterion,
        magnitude,
    )
    from ws_learner.pruning.functional import (
        add_group_lasso,
        group_lasso_regularize,
        prune_gradient_with_magnitude,
        prune_weights_with_magnitude,
    )
    from ws_learner.pruning.layer_solvers.layer_problem import DAMPING, Compare, LayerTarget, Solved
    from ws_learner.pruning.layer_solvers.least_squares import (
        RIDGE,
        LayerRegression,
        relative_error,
        relative_error_and_energy,
    )
    from ws_learner.pruning.layer_solvers.solver import Solver, build_solver, solve_layer
    from ws_learner.pruning.layer_solvers.unit_least_squares import UnitRegression
    from ws_learner.pruning.layers.attention_heads import find_attention
    from ws_learner.pruning.layers.attention_names import ATTENTION_WIDTHS, HEAD_COUNTS
    from ws_learner.pruning.layers.convolution_windows import Convolution, choose_positions
    from ws_learner.pruning.layers.coupled_units import (
        CoupledUnits,
        LayerWidth,
        UnitPart,
        layer_widths,
        zero_units,
    )
    from ws_learner.pruning.layers.frozen import frozen_names, is_adapter, leave_out_frozen
    from ws_learner.pruning.layers.given_choices import read_layer_choices
    from ws_learner.pruning.layers.layer_plan import (
        build_pattern_plan,
        drop_unfitting,
        fitting_rows,
        snap_profile,
        with_default_pattern,
    )
    from ws_learner.pruning.layers.lazy import refuse_lazy
    from ws_learner.pruning.layers.matrix_use import Rows
    from ws_learner.pruning.layers.module_uses import Use, has_own_forward
    from ws_learner.pruning.layers.no_units import refuse_no_units
    from ws_learner.pruning.layers.prunable import (
        default_names,
        parameter_of,
        shared_with_embedding,
        unlisted_weights,
        watched_weights,
    )
    from ws_learner.pruning.layers.replaced import refuse_replaced
    from ws_learner.pruning.layers.roles import filter_by_role, weight_roles
    from ws_learner.pruning.layers.stays_dense import dense_weights
    from ws_learner.pruning.layers.table import layer_table, modules_by_weight
    from ws_learner.pruning.layers.table_for_settings import table_for_settings
    from ws_learner.pruning.layers.unit_groups import check_groups, find_groups, pattern_conflict
    from ws_learner.pruning.layers.weight_kinds import (
        is_conv1d_of_transformers,
        kinds_of,
        layout_of,
        name_layout,
    )
    from ws_learner.pruning.layers.weight_uses import WeightUses
    from ws_learner.pruning.layers.whole_units import check_whole_units
    from ws_learner.pruning.layers.zeros_to_keep import (
        PRUNED_FROM,
        masks_to_keep,
        with_kept_zeros,
        zeros_to_keep,
    )
    from ws_learner.pruning.methods.gradient_sensitivity import GradientSensitivityConfig
    from ws_learner.pruning.methods.gradual import GradualConfig
    from ws_learner.pruning.methods.group_lasso import GroupLassoConfig
    from ws_learner.pruning.methods.mdgf import MdgfConfig
    from ws_learner.pruning.methods.method import MethodConfig
    from ws_learner.pruning.methods.movement import MovementConfig
    from ws_learner.pruning.methods.nm_config import NMConfig
    from ws_learner.pruning.methods.pattern_lock import (
        PatternLockConfig,
        found_zeros,
        warn_of_unlocked,
    )
    from ws_learner.pruning.methods.sdgf import SdgfConfig
    from ws_learner.pruning.methods.srste import SrSteConfig
    from ws_learner.pruning.methods.stored_masks import StoredMasks
    from ws_learner.pruning.methods.threshold_movement import ThresholdMovementConfig
    from ws_learner.pruning.methods.trainable import TrainedBy, is_trainable, trained_by
    from ws_learner.pruning.one_shot import prune_once
    from ws_learner.pruning.optimizer_steps import OptimizerSteps
    from ws_learner.pruning.patterns.blocks import BlockPattern, ChannelPattern, HeadPattern
    from ws_learner.pruning.patterns.laid_out import counts_of
    from ws_learner.pruning.patterns.layout import Layout
    from ws_learner.pruning.patterns.mask import count_zeros, keep_largest
    from ws_learner.pruning.patterns.model_plan import PatternPlan
    from ws_learner.pruning.patterns.nm import NM
    from ws_learner.pruning.patterns.pattern import (
        ByRole,
        Pattern,
        PerLayerPatterns,
        Unstructured,
        as_pattern,
        parse_pattern,
    )
    from ws_learner.pruning.patterns.per_layer_nm import PerLayerNM
    from ws_learner.pruning.patterns.structured import Member, UnitGroup
    from ws_learner.pruning.remembered_zeros import RememberedZeros, remember_zeros
    from ws_learner.pruning.schedules.epoch_schedule import EpochFormula, EpochLinearSchedule
    from ws_learner.pruning.schedules.movement_warmup import check_warm_up
    from ws_learner.pruning.schedules.oneshot import BeyondHeld, OneShotSchedule
    from ws_learner.pruning.schedules.polynomial import (
        USUAL_INTERVAL,
        Schedule,
        ramp_steps,
        usual_interval,
    )
    from ws_learner.pruning.schedules.registry import build_schedule
    from ws_learner.pruning.sparsifier import Sparsifier
    from ws_learner.pruning.tensor_report import tensor_table, tensor_totals
    from ws_learner.pruning.unfelt_layers import UnfeltLayers
    from ws_learner.pruning.wrapped_optimizers import unwrap_optimizer

__all__ = [
    "ATTENTION_WIDTHS",
    "DAMPING",
    "HEAD_COUNTS",
    "NM",
    "PRUNED_FROM",
    "RIDGE",
    "USUAL_INTERVAL",
    "BeyondHeld",
    "BlockPattern",
    "ByRole",
    "ChannelPattern",
    "Compare",
    "Convolution",
    "CoupledUnits",
    "Criterion",
    "EpochFormula",
    "EpochLinearSchedule",
    "GradientSensitivityConfig",
    "GradualConfig",
    "GroupLassoConfig",
    "HeadPattern",
    "LayerRegression",
    "LayerTarget",
    "LayerWidth",
    "Layout",
    "Magnitude",
    "MdgfConfig",
    "Member",
    "MethodConfig",
    "MovementConfig",
    "NMConfig",
    "OneShotSchedule",
    "OptimizerSteps",
    "Pattern",
    "PatternLockConfig",
    "PatternPlan",
    "PerLayerNM",
    "PerLayerPatterns",
    "RememberedZeros",
    "Rows",
    "Schedule",
    "SdgfConfig",
    "Sensitivity",
    "Solved",
    "Solver",
    "Sparsifier",
    "SrSteConfig",
    "StoredMasks",
    "ThresholdMovementConfig",
    "TrainedBy",
    "UnfeltLayers",
    "UnitGroup",
    "UnitPart",
    "UnitRegression",
    "Unstructured",
    "Use",
    "WeightUses",
    "add_group_lasso",
    "as_pattern",
    "build_criterion",
    "build_pattern_plan",
    "build_schedule",
    "build_solver",
    "check_groups",
    "check_warm_up",
    "check_whole_units",
    "choose_positions",
    "count_zeros",
    "counts_of",
    "default_names",
    "dense_weights",
    "drop_unfitting",
    "filter_by_role",
    "find_attention",
    "find_groups",
    "fitting_rows",
    "found_zeros",
    "frozen_names",
    "group_lasso_regularize",
    "has_own_forward",
    "is_adapter",
    "is_conv1d_of_transformers",
    "is_trainable",
    "keep_largest",
    "kinds_of",
    "layer_table",
    "layer_widths",
    "layout_of",
    "leave_out_frozen",
    "magnitude",
    "masks_to_keep",
    "modules_by_weight",
    "name_layout",
    "parameter_of",
    "parse_pattern",
    "pattern_conflict",
    "prune_gradient_with_magnitude",
    "prune_once",
    "prune_weights_with_magnitude",
    "ramp_steps",
    "read_layer_choices",
    "refuse_lazy",
    "refuse_no_units",
    "refuse_replaced",
    "relative_error",
    "relative_error_and_energy",
    "remember_zeros",
    "shared_with_embedding",
    "snap_profile",
    "solve_layer",
    "table_for_settings",
    "tensor_table",
    "tensor_totals",
    "trained_by",
    "unlisted_weights",
    "unwrap_optimizer",
    "usual_interval",
    "warn_of_unlocked",
    "watched_weights",
    "weight_roles",
    "with_default_pattern",
    "with_kept_zeros",
    "zero_units",
    "zeros_to_keep",
]

_MODULES = {
    "criteria": [
        "Criterion",
        "Magnitude",
        "Sensitivity",
        "build_criterion",
        "magnitude",
    ],
    "functional": [
        "add_group_lasso",
        "group_lasso_regularize",
        "prune_gradient_with_magnitude",
        "prune_weights_with_magnitude",
    ],
    "layer_solvers.layer_problem": [
        "DAMPING",
        "Compare",
        "LayerTarget",
        "Solved",
    ],
    "layer_solvers.least_squares": [
        "RIDGE",
        "LayerRegression",
        "relative_error",
        "relative_error_and_energy",
    ],
    "layer_solvers.solver": [
        "Solver",
        "build_solver",
        "solve_layer",
    ],
    "layer_solvers.unit_least_squares": [
        "UnitRegression",
    ],
    "layers.attention_heads": [
        "find_attention",
    ],
    "layers.attention_names": [
        "ATTENTION_WIDTHS",
        "HEAD_COUNTS",
    ],
    "layers.convolution_windows": [
        "Convolution",
        "choose_positions",
    ],
    "layers.given_choices": [
        "read_layer_choices",
    ],
    "layers.layer_plan": [
        "build_pattern_plan",
        "drop_unfitting",
        "fitting_rows",
        "snap_profile",
        "with_default_pattern",
    ],
    "layers.matrix_use": [
        "Rows",
    ],
    "layers.module_uses": [
        "Use",
        "has_own_forward",
    ],
    "layers.no_units": [
        "refuse_no_units",
    ],
    "layers.prunable": [
        "default_names",
        "parameter_of",
        "shared_with_embedding",
        "unlisted_weights",
        "watched_weights",
    ],
    "layers.replaced": [
        "refuse_replaced",
    ],
    "layers.roles": [
        "filter_by_role",
        "weight_roles",
    ],
    "layers.stays_dense": [
        "dense_weights",
    ],
    "layers.table": [
        "layer_table",
        "modules_by_weight",
    ],
    "layers.table_for_settings": [
        "table_for_settings",
    ],
    "layers.unit_groups": [
        "check_groups",
        "find_groups",
        "pattern_conflict",
    ],
    "layers.weight_kinds": [
        "is_conv1d_of_transformers",
        "kinds_of",
        "layout_of",
        "name_layout",
    ],
    "layers.weight_uses": [
        "WeightUses",
    ],
    "layers.whole_units": [
        "check_whole_units",
    ],
    "layers.zeros_to_keep": [
        "PRUNED_FROM",
        "masks_to_keep",
        "with_kept_zeros",
        "zeros_to_keep",
    ],
    "methods.gradient_sensitivity": [
        "GradientSensitivityConfig",
    ],
    "methods.gradual": [
        "GradualConfig",
    ],
    "methods.group_lasso": [
        "GroupLassoConfig",
    ],
    "methods.mdgf": [
        "MdgfConfig",
    ],
    "methods.method": [
        "MethodConfig",
    ],
    "methods.movement": [
        "MovementConfig",
    ],
    "methods.nm_config": [
        "NMConfig",
    ],
    "methods.pattern_lock": [
        "PatternLockConfig",
        "found_zeros",
        "warn_of_unlocked",
    ],
    "methods.sdgf": [
        "SdgfConfig",
    ],
    "methods.srste": [
        "SrSteConfig",
    ],
    "methods.stored_masks": [
        "StoredMasks",
    ],
    "methods.threshold_movement": [
        "ThresholdMovementConfig",
    ],
    "methods.trainable": [
        "TrainedBy",
        "is_trainable",
        "trained_by",
    ],
    "optimizer_steps": [
        "OptimizerSteps",
    ],
    "patterns.blocks": [
        "BlockPattern",
        "ChannelPattern",
        "HeadPattern",
    ],
    "patterns.laid_out": [
        "counts_of",
    ],
    "patterns.layout": [
        "Layout",
    ],
    "patterns.mask": [
        "count_zeros",
        "keep_largest",
    ],
    "patterns.model_plan": [
        "PatternPlan",
    ],
    "patterns.nm": [
        "NM",
    ],
    "patterns.pattern": [
        "ByRole",
        "Pattern",
        "PerLayerPatterns",
        "Unstructured",
        "as_pattern",
        "parse_pattern",
    ],
    "patterns.per_layer_nm": [
        "PerLayerNM",
    ],
    "patterns.structured": [
        "Member",
        "UnitGroup",
    ],
    "schedules.epoch_schedule": [
        "EpochFormula",
        "EpochLinearSchedule",
    ],
    "schedules.movement_warmup": [
        "check_warm_up",
    ],
    "schedules.oneshot": [
        "BeyondHeld",
        "OneShotSchedule",
    ],
    "schedules.polynomial": [
        "Schedule",
        "USUAL_INTERVAL",
        "ramp_steps",
        "usual_interval",
    ],
    "schedules.registry": [
        "build_schedule",
    ],
    "layers.coupled_units": [
        "CoupledUnits",
        "LayerWidth",
        "UnitPart",
        "layer_widths",
        "zero_units",
    ],
    "layers.frozen": [
        "frozen_names",
        "is_adapter",
        "leave_out_frozen",
    ],
    "layers.lazy": [
        "refuse_lazy",
    ],
    "one_shot": [
        "prune_once",
    ],
    "remembered_zeros": [
        "RememberedZeros",
        "remember_zeros",
    ],
    "sparsifier": [
        "Sparsifier",
    ],
    "tensor_report": [
        "tensor_table",
        "tensor_totals",
    ],
    "unfelt_layers": [
        "UnfeltLayers",
    ],
    "wrapped_optimizers": [
        "unwrap_optimizer",
    ],
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES, moved={"Pruning": "ws_learner.Pruning"})
