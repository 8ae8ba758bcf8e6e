"""Training: loop, callbacks, dense and sparse phases, distillation, evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ws_learner.core.lazy import lazy_names

if TYPE_CHECKING:
    from ws_learner.training.argument_check import check_copies, check_network, check_run_arguments
    from ws_learner.training.batch_check import check_batches, first_batch, output_entries
    from ws_learner.training.callbacks import MetricsCallback, Stateful
    from ws_learner.training.data_check import check_splits
    from ws_learner.training.dense import train_dense
    from ws_learner.training.distillation import DistillationLoss
    from ws_learner.training.evaluation import Loss, evaluate, perplexity, top_k_accuracy
    from ws_learner.training.fitted_length import FittedLength, fit_batch, fit_length
    from ws_learner.training.frozen_layers import freeze_as
    from ws_learner.training.loaded_run import LoadedRun, load_run
    from ws_learner.training.majority import say_majority
    from ws_learner.training.metric_spec import Metric, MetricMean, MetricSpec, as_metric
    from ws_learner.training.not_finite import explained, refuse_broken_inputs
    from ws_learner.training.outcome import (
        build_summary,
        metric_entries,
        split_sizes,
        verified_table,
    )
    from ws_learner.training.outputs import (
        counted_positions,
        infer_output_kind,
        resolve_output_kind,
    )
    from ws_learner.training.phase import TrainingPhase
    from ws_learner.training.quantization_aware import (
        FakeQuantizer,
        QuantConfig,
        calibration,
        whole_weights,
    )
    from ws_learner.training.ray.env_vars import prepare, token_exists
    from ws_learner.training.ray.run_phase import run_phase
    from ws_learner.training.ray.session import ray_session, store_for
    from ws_learner.training.rehearsal import rehearse
    from ws_learner.training.result import Result
    from ws_learner.training.run_identity import (
        build_run_identity,
        config_identity,
        owned_run,
        progress_of,
    )
    from ws_learner.training.sparse import (
        PruningCallback,
        build_method_config,
        build_training_loss,
        check_steps,
        reinitialised,
        train_sparse,
    )
    from ws_learner.training.task_check import check_metric, check_task, network_answers
    from ws_learner.training.task_choice import Task, usual_task
    from ws_learner.training.trainer import (
        Callback,
        Trainer,
        TrainingLoss,
        build_optimizer,
        epoch_seed,
    )


__all__ = [
    "Callback",
    "DistillationLoss",
    "FakeQuantizer",
    "FittedLength",
    "LoadedRun",
    "Loss",
    "Metric",
    "MetricMean",
    "MetricSpec",
    "MetricsCallback",
    "PruningCallback",
    "QuantConfig",
    "Result",
    "Stateful",
    "Task",
    "Trainer",
    "TrainingLoss",
    "TrainingPhase",
    "as_metric",
    "build_method_config",
    "build_optimizer",
    "build_run_identity",
    "build_summary",
    "build_training_loss",
    "calibration",
    "check_batches",
    "check_copies",
    "check_metric",
    "check_network",
    "check_run_arguments",
    "check_splits",
    "check_steps",
    "check_task",
    "config_identity",
    "counted_positions",
    "epoch_seed",
    "evaluate",
    "explained",
    "first_batch",
    "fit_batch",
    "fit_length",
    "freeze_as",
    "infer_output_kind",
    "load_run",
    "metric_entries",
    "network_answers",
    "output_entries",
    "owned_run",
    "perplexity",
    "prepare",
    "progress_of",
    "ray_session",
    "refuse_broken_inputs",
    "rehearse",
    "reinitialised",
    "resolve_output_kind",
    "run_phase",
    "say_majority",
    "split_sizes",
    "store_for",
    "token_exists",
    "top_k_accuracy",
    "train_dense",
    "train_sparse",
    "usual_task",
    "verified_table",
    "whole_weights",
]

_MODULES = {
    "argument_check": [
        "check_copies",
        "check_network",
        "check_run_arguments",
    ],
    "batch_check": [
        "check_batches",
        "first_batch",
        "output_entries",
    ],
    "callbacks": [
        "MetricsCallback",
        "Stateful",
    ],
    "data_check": [
        "check_splits",
    ],
    "not_finite": [
        "explained",
        "refuse_broken_inputs",
    ],
    "majority": [
        "say_majority",
    ],
    "dense": [
        "train_dense",
    ],
    "distillation": [
        "DistillationLoss",
    ],
    "evaluation": [
        "Loss",
        "evaluate",
        "perplexity",
        "top_k_accuracy",
    ],
    "fitted_length": [
        "FittedLength",
        "fit_batch",
        "fit_length",
    ],
    "frozen_layers": [
        "freeze_as",
    ],
    "loaded_run": [
        "LoadedRun",
        "load_run",
    ],
    "metric_spec": [
        "Metric",
        "MetricMean",
        "MetricSpec",
        "as_metric",
    ],
    "outcome": [
        "build_summary",
        "metric_entries",
        "split_sizes",
        "verified_table",
    ],
    "outputs": [
        "counted_positions",
        "infer_output_kind",
        "resolve_output_kind",
    ],
    "phase": [
        "TrainingPhase",
    ],
    "quantization_aware": [
        "FakeQuantizer",
        "QuantConfig",
        "calibration",
        "whole_weights",
    ],
    "ray.env_vars": [
        "prepare",
        "token_exists",
    ],
    "ray.run_phase": [
        "run_phase",
    ],
    "ray.session": [
        "ray_session",
        "store_for",
    ],
    "rehearsal": [
        "rehearse",
    ],
    "result": [
        "Result",
    ],
    "run_identity": [
        "build_run_identity",
        "config_identity",
        "owned_run",
        "progress_of",
    ],
    "sparse": [
        "PruningCallback",
        "build_method_config",
        "build_training_loss",
        "check_steps",
        "reinitialised",
        "train_sparse",
    ],
    "task_check": [
        "check_metric",
        "check_task",
        "network_answers",
    ],
    "trainer": [
        "Callback",
        "Trainer",
        "TrainingLoss",
        "build_optimizer",
        "epoch_seed",
    ],
    "task_choice": [
        "Task",
        "usual_task",
    ],
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
