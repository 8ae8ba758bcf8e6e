"""The rollout evaluator: prune, regress, recalibrate, fine-tune and evaluate a candidate."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from envs import FloatArray, IntArray, LayerRow, Score, as_scored
from ws_learner.config import RolloutConfig, WeightSparseConfig
from ws_learner.core import (
    AnyPath,
    ComputeDevice,
    Inputs,
    OutputKind,
    UserError,
    as_path,
    choose_device,
    one_thread,
    say,
    widened,
)
from ws_learner.data import PAD, DataSplits, Split, by_length, has_targets, split_digest
from ws_learner.pruning import (
    build_pattern_plan,
    counts_of,
    drop_unfitting,
    parameter_of,
    parse_pattern,
    snap_profile,
)
from ws_learner.search.context import AllocationContext, allocation_context
from ws_learner.search.rollout.adam_regression import regress_by_adam
from ws_learner.search.rollout.batchnorm import recalibrate
from ws_learner.search.rollout.calibration import draw_batches, draw_inputs, place_batch
from ws_learner.search.rollout.finetune import fine_tune
from ws_learner.search.rollout.layer_database import LayerDatabase
from ws_learner.search.rollout.own_divergence import OWN_DENSITIES, open_own_divergences
from ws_learner.search.rollout.scoring import Scoring, reward_of, scored_twice
from ws_learner.search.rollout.slopes import divergence_gradients, log_density_slopes
from ws_learner.training import Loss, Metric, epoch_seed, refuse_broken_inputs

__all__ = ["RolloutEvaluator"]

_CALIBRATION, _NORMS, _FINE_TUNING, _REGRESSION, _SEARCH = range(5)


class _Source(TypedDict):
    seed: int
    compute: ComputeDevice


class RolloutEvaluator:
    """Scores candidates: arrays (L,) of zero counts over the layer table.

    Images are drawn, and the dense network's outputs computed, once. A score depends only on the
    candidate, not on earlier candidates or the process. Computation is float32, or the network's
    float64, in the machine's
    memory layout, on one CPU thread. An evaluator can be pickled (with cloudpickle if loss, metric
    or model are defined in a script).

    Args:
        model: The dense network; copied.
        data: Data splits: `train` for calibration and fine-tuning, `search` for scoring.
        layers: The L layers of its table.
        loss: Task loss of fine-tuning.
        metric: Score of each example.
        config: Rollout settings.
        seed: Seed of the draw of images.
        cache_dir: Folder of the layer database; None keeps it in memory.
        device: `cpu` or `cuda`; None uses a GPU if there is one.
        outputs: What the outputs mean; None takes what the data say, or infers it.

    Attributes:
        outputs: What the outputs mean; None if it is not known and only the metric is rewarded.

    Raises:
        UserError: The metric, or what the outputs mean, does not fit the dense network's outputs;
            or inputs or these outputs hold NaN or infinity.
    """

    def __init__(
        self,
        model: nn.Module,
        data: DataSplits,
        *,
        layers: Sequence[LayerRow],
        loss: Loss,
        metric: Metric,
        config: RolloutConfig,
        seed: int,
        cache_dir: AnyPath | None,
        device: str | None = None,
        outputs: OutputKind | None = None,
    ) -> None:
        cache_dir = None if cache_dir is None else as_path(cache_dir, name="cache_dir")
        self.layers, self.config = tuple(layers), config
        self.loss, self.metric, self._seed = loss, metric, seed
        self._cache_dir = cache_dir
        self._compute = choose_device("fp32", device)
        self.dense = self._compute.place_model(widened(copy.deepcopy(model))).eval()
        for row in layers:
            parameter_of(self.dense, row.name).requires_grad_(True)
        pattern = parse_pattern(config.pattern)
        every = [row.name for row in layers]
        dense_ones = set(drop_unfitting(self.dense, every, pattern=pattern, remainder="pad"))
        open_ = [name for name in every if name not in dense_ones]
        self._planned = self.layers  # the names used by the plan
        self.plan = build_pattern_plan(self.dense, open_, pattern=pattern, pool=config.pool)
        self._sizes = np.array([row.weights for row in layers], dtype=np.int64)
        self.outputs, self._num_classes = outputs or data.outputs, data.num_classes
        train, size, self._pad_id = data.train, config.batch_size, data.pad_id
        by_adam = config.nb_iters_rg if config.rg_solver == "adam" else 0
        with one_thread():
            self._norm_images = draw_inputs(
                train,
                config.nb_smpls_bn,
                size=size,
                pad_id=self._pad_id,
                **self._source(_NORMS),
            )
            self._tuning = draw_batches(
                train, config.nb_iters_ft, size=config.batch_size_ft, **self._source(_FINE_TUNING)
            )
            if not all(has_targets(targets) for _, targets in self._tuning):
                say("data without targets: rollouts are not fine-tuned (`ws_nb_iters_ft` is 0)")
                self._tuning = []
            fitting = draw_batches(train, by_adam, size=size, **self._source(_REGRESSION))
            self._fitting = [inputs for inputs, _ in fitting]
            self._exam = self._examination(data.search, config.nb_iters_feval, name="search")
            self.outputs = self._exam.outputs
            self._own: FloatArray | None = None
            self.database = LayerDatabase.open(
                self.dense,
                lambda: draw_inputs(
                    train,
                    config.nb_smpls_rg,
                    size=size,
                    pad_id=self._pad_id,
                    **self._source(_CALIBRATION),
                ),
                layers=self.layers,
                levels=self._levels(),
                seed=seed,
                facts={"data": data.digest, "images": config.nb_smpls_rg, "batch": size}
                | asdict(self._compute)
                | {"examples": split_digest(train)}
                | _padding_fact(data),
                cache_dir=cache_dir,
                plan=self.plan,
                pad_id=self._pad_id,
            )

    def context(self, config: WeightSparseConfig) -> AllocationContext:
        """The context of the closed-form protocols at the target of the settings.

        Raises:
            UserError: The bounds do not allow the target.
        """
        return allocation_context(
            self.dense,
            self.layers,
            config,
            curves=self.curves,
            wanda_scores=self.wanda_scores,
            own=self.own_divergences,
        )

    @property
    def cache_dir(self) -> Path | None:
        """Folder of the layer database."""
        return self._cache_dir

    @property
    def exam(self) -> Scoring:
        """The scoring examples."""
        return self._exam

    @property
    def calibration_inputs(self) -> list[Inputs]:
        """Training inputs that recalibrate batch norms, or the scored ones if there are none."""
        return self._norm_images or self._exam.inputs

    def rewarded(self) -> str:
        """What the reward measures; empty for an accuracy, and for the KL of (B, C) classes."""
        return self._exam.described(self.config.reward_signal)

    def on(self, split: Split) -> RolloutEvaluator:
        """Return a copy of this evaluator that scores on all images of the select split."""
        other = copy.copy(self)
        other.config = replace(self.config, nb_smpls_slope=0)
        with one_thread():
            other._exam = self._examination(split, 0, name="select")
        return other

    def curves(self) -> tuple[FloatArray, FloatArray]:
        """(K,) ratios and (L, K) relative errors of every layer after closed-form regression."""
        with one_thread():
            return self.database.curves()

    def wanda_scores(self) -> list[FloatArray]:
        """|w| times the norm of its input, see `LayerDatabase.wanda_scores`."""
        return self.database.wanda_scores()

    def own_divergences(self) -> tuple[FloatArray, FloatArray] | None:
        """(J,) ascending densities and (L, J) divergence of each layer pruned alone.

        None if what the outputs mean is not known. Cached with the layer database.
        """
        if self._exam.outputs is None:
            return None
        if self._own is None:
            with one_thread():
                self._own = open_own_divergences(
                    self.dense,
                    self._exam,
                    layers=self.layers,
                    weight_at=self._weight_at,
                    examples=self.config.nb_smpls_own,
                    about=f"{self.database.key} {self.config.rg_solver}",
                    cache_dir=self._cache_dir,
                )
        return np.array(OWN_DENSITIES), self._own.copy()

    def score(self, zeros: IntArray) -> Score:
        """Score a candidate; if it fails twice, return the worst score with the reason.

        Raises:
            ValueError: The candidate does not match the layer table.
        """
        zeros = self.checked(zeros)
        return scored_twice(lambda: self._score(zeros))

    def scored(self, zeros: IntArray) -> IntArray:
        """The milder profile, in whole units of the pattern, that a rollout builds for `zeros`."""
        milder = as_scored(self.checked(zeros), self._sizes, power=self.config.score_power)
        return snap_profile(milder, self._planned, self.plan)

    def network(self, zeros: IntArray) -> nn.Module:
        """Build the scored network of a candidate: pruned, repaired, fine-tuned, in eval mode.

        Raises:
            ValueError: The candidate does not match the layer table.
        """
        zeros = self.checked(zeros)
        with one_thread():
            network, masks = self._prune(zeros)
            self.fine_tune(network, masks)
        return network

    def _score(self, zeros: IntArray) -> Score:
        milder = self.scored(zeros)
        network, masks = self._prune(milder)
        score = self.judged(network, masks, zeros=zeros)
        slopes = self._slopes(network, milder) if self.config.nb_smpls_slope else None
        return replace(score, slopes=slopes)

    def judged(
        self,
        network: nn.Module,
        masks: Sequence[Tensor],
        *,
        zeros: IntArray,
        tuned: Callable[[nn.Module], None] | None = None,
    ) -> Score:
        """Score a network that `assembled` built, fine-tuned in place if the settings say so.

        Args:
            network: Pruned, repaired, in evaluation mode.
            masks: L masks of kept weights.
            zeros: (L,) zeros that the reward is for.
            tuned: Called after the fine-tuning.

        Raises:
            FloatingPointError: The score is not finite.
        """
        before, divergence = self._exam.mark(network)
        accuracy = before
        if self._tuning:
            self.fine_tune(network, masks)
            if tuned is not None:
                tuned(network)
            accuracy, divergence = self._exam.mark(network)
        quality = self._exam.quality(accuracy)
        score = Score(
            reward=reward_of(quality, divergence, zeros, layers=self.layers, config=self.config),
            accuracy=accuracy,
            accuracy_before=before,
            divergence=divergence,
        )
        if not score.finite:
            raise FloatingPointError(
                f"the score is not finite: accuracy {accuracy}, {before} before fine-tuning, "
                f"divergence {divergence}"
            )
        return score

    def _slopes(self, network: nn.Module, zeros: IntArray) -> tuple[float, ...] | None:
        """Slopes of the divergence at the scored network; None if there is no divergence."""
        if self._exam.outputs is None:
            return None
        gradients = divergence_gradients(
            network,
            self._exam,
            weights=[parameter_of(network, row.name) for row in self.layers],
            examples=self.config.nb_smpls_slope,
        )
        return log_density_slopes(
            gradients,
            kept=self._sizes - zeros,
            sizes=self._sizes,
            weight_at=self._weight_at,
            fitted=self.database.fitted,
        )

    def _weight_at(self, layer: int, zeros: int) -> Tensor:
        """A layer's weight with that many zeros, as `_prune` sets it before any Adam step."""
        if self.config.rg_solver == "closed-form":
            return self.database.weights(layer, zeros)
        weight = parameter_of(self.dense, self.layers[layer].name).detach()
        return weight * self.database.mask(layer, zeros)

    def _prune(self, zeros: IntArray) -> tuple[nn.Module, list[Tensor]]:
        """Build the pruned, regressed and recalibrated network, and its masks."""
        counts = list(enumerate(zeros.tolist()))
        masks = [self.database.mask(layer, count) for layer, count in counts]
        weights = (self._weight_at(layer, count) for layer, count in counts)
        return self.assembled(weights, masks), masks

    def assembled(
        self,
        weights: Iterable[Tensor],
        masks: Sequence[Tensor],
    ) -> nn.Module:
        """The dense network with other weights; regressed by Adam if that is set, recalibrated.

        Args:
            weights: L weights, in the order of the layers.
            masks: L masks of kept weights.
        """
        network = copy.deepcopy(self.dense)
        for row, weight in zip(self.layers, weights, strict=True):
            with torch.no_grad():
                parameter_of(network, row.name).copy_(weight)
        if self.config.rg_solver == "adam":
            regress_by_adam(
                network,
                self.dense,
                layers=self.layers,
                masks=masks,
                batches=self._fitting,
                lrn_rate=self.config.lrn_rate_rg,
            )
        recalibrate(network, self._norm_images)
        return network

    def fine_tune(self, network: nn.Module, masks: Sequence[Tensor]) -> None:
        """Fine-tune a network that `assembled` built, in place, as the settings say."""
        fine_tune(
            network,
            self._tuning,
            loss=self.loss,
            lrn_rate=self.config.lrn_rate_ft,
            parameters=[parameter_of(network, row.name) for row in self.layers],
            masks=masks,
        )

    def checked(self, zeros: IntArray) -> IntArray:
        """Check a candidate; return it as int64, rounded to whole units of the pattern.

        Raises:
            ValueError: The candidate does not match the layer table.
        """
        zeros = np.asarray(zeros)
        if zeros.shape != self._sizes.shape or not np.issubdtype(zeros.dtype, np.integer):
            raise ValueError(
                f"candidate of shape {zeros.shape} and type {zeros.dtype}: must be "
                f"{len(self._sizes)} whole numbers, one per layer"
            )
        for row, value in zip(self.layers, zeros.tolist(), strict=True):
            if not 0 <= value <= row.weights:
                raise ValueError(f"{row.name}: {value} zeros is outside [0, {row.weights}]")
        return snap_profile(zeros.astype(np.int64), self._planned, self.plan)

    def _levels(self) -> tuple[float, ...]:
        """Ratios of the error curves; with a choice of N in N:M exactly the possible ones."""
        ratios = {
            count / row.weights
            for row in self.layers
            for count in counts_of(self.plan.patterns.get(row.name), row.shape) or ()
        }
        return tuple(sorted(ratios)) or self.config.levels

    def _examination(self, split: Split, batches: int, *, name: str) -> Scoring:
        reader = split.batches(self.config.batch_size_eval, seed=epoch_seed(self._seed, _SEARCH))
        chosen = by_length(
            list(islice(reader, batches if batches > 0 else None)), pad_id=self._pad_id
        )
        for inputs, _ in chosen:
            refuse_broken_inputs(split, name, batch=inputs)
        placed = [place_batch(batch, self._compute) for batch in chosen]
        try:
            return Scoring(
                self.dense,
                placed,
                metric=self.metric,
                outputs=self.outputs,
                num_classes=self._num_classes,
                loss=self.loss,
                compares=self.config.reward_signal == "kl",
                pad_id=self._pad_id,
            )
        except UserError:
            raise
        except (RuntimeError, ValueError, IndexError) as error:
            if self._pad_id is None:
                raise
            raise UserError(
                f"`pad_id` {self._pad_id}: the network fails on batches cut to their longest "
                f"sentence ({str(error).splitlines()[0]}); it must take sentences of any length, "
                "or leave `pad_id` out"
            ) from error

    def _source(self, purpose: int) -> _Source:
        """Draw order of images, different for every purpose."""
        return {"seed": epoch_seed(self._seed, purpose), "compute": self._compute}


def _padding_fact(data: DataSplits) -> dict[str, int | None]:
    """Part of the layer database's identity; files of sentences padded with 0 have no entry."""
    rows = len(data.input_shape) == 1 and data.pad_id != PAD
    return {"pad_id": data.pad_id} if rows else {}
