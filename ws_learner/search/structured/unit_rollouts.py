"""Rollouts of structured profiles: prune, regress, recalibrate, compare with the dense network."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import islice

import numpy as np
import torch
from torch import nn

from envs import FloatArray
from ws_learner.config import RolloutConfig
from ws_learner.core import ComputeDevice, Inputs, call_model, one_thread, track
from ws_learner.data import DataSplits, by_length
from ws_learner.search.rollout.batchnorm import recalibrate
from ws_learner.search.rollout.calibration import draw_inputs, place_batch
from ws_learner.search.rollout.scoring import WORST_DIVERGENCE, Scoring
from ws_learner.search.rollout.slopes import batch_statistics
from ws_learner.search.structured.unit_database import UnitDatabase
from ws_learner.training import Loss, Metric, epoch_seed

__all__ = ["UnitRollouts"]

_SHARES = (0.75, 0.5, 0.25, 0.0)
_CALIBRATION, _NORMS, _SEARCH = range(3)


class UnitRollouts:
    """Scores numbers of kept units by the divergence from the dense network's outputs.

    Args:
        dense: In evaluation mode, on the device.
        data: `train` for Gram matrices and recalibration, `search` for scoring.
        loss: Task loss.
        metric: Score of each example.
        config: Numbers of examples.
        seed: Of the draw of examples.
        compute: Device and memory layout.
    """

    def __init__(
        self,
        dense: nn.Module,
        data: DataSplits,
        *,
        loss: Loss,
        metric: Metric,
        config: RolloutConfig,
        seed: int,
        compute: ComputeDevice,
    ) -> None:
        self.dense, self._data, self._config = dense, data, config
        self._seed, self._compute = seed, compute
        with one_thread():
            self._norms = self._inputs(config.nb_smpls_bn, _NORMS)
            reader = data.search.batches(config.batch_size_eval, seed=epoch_seed(seed, _SEARCH))
            most = config.nb_iters_feval if config.nb_iters_feval > 0 else None
            batches = by_length(list(islice(reader, most)), pad_id=data.pad_id)
            self._exam = Scoring(
                dense,
                [place_batch(batch, compute) for batch in batches],
                metric=metric,
                outputs=data.outputs,
                num_classes=data.num_classes,
                loss=loss,
                pad_id=data.pad_id,
            )

    def calibration(self) -> list[Inputs]:
        """Inputs behind the Gram matrices."""
        return self._inputs(self._config.nb_smpls_rg, _CALIBRATION)

    def _inputs(self, images: int, purpose: int) -> list[Inputs]:
        return draw_inputs(
            self._data.train,
            images,
            size=self._config.batch_size,
            seed=epoch_seed(self._seed, purpose),
            compute=self._compute,
            pad_id=self._data.pad_id,
        )

    def network(self, database: UnitDatabase, kept: Sequence[int]) -> nn.Module:
        """The pruned, regressed and recalibrated network, in evaluation mode."""
        network = copy.deepcopy(self.dense)
        with one_thread():
            database.prune(network, kept)
            recalibrate(network, self._norms)
        return network

    def divergence(self, database: UnitDatabase, kept: Sequence[int]) -> float:
        """Mean divergence from the dense network on the search examples; 100 if it fails."""
        network = self.network(database, kept)
        try:
            with one_thread():
                found = self._exam.mark(network)[1]
        except FloatingPointError:
            return WORST_DIVERGENCE
        return WORST_DIVERGENCE if found is None else found

    def own_curves(
        self, database: UnitDatabase, levels: Sequence[Sequence[int]]
    ) -> list[FloatArray]:
        """For each set, the divergence at each of its levels if it alone is pruned.

        Measured at four levels; between them it is linear in the least-squares error. Batch norms
        use the statistics of the batch, in the dense network too.
        """
        errors, found = database.errors(levels), []
        batched = batch_statistics(self.dense, batched=self._exam.batched)
        with one_thread(), torch.inference_mode(), batched:
            reference = [
                (inputs, call_model(self.dense, inputs).float(), counted)
                for inputs, _, counted in self._exam.compared(self._config.nb_smpls_own)
            ]
            with track("own divergences", total=len(levels)) as progress:
                for place, own in enumerate(levels):
                    chosen = sorted({_near(own, share) for share in _SHARES})
                    values = [self._alone(database, levels, place, own[i], reference)
                              for i in chosen]  # fmt: skip
                    found.append(_interpolated(errors[place], chosen, values))
                    progress.advance()
        return found

    def _alone(
        self,
        database: UnitDatabase,
        levels: Sequence[Sequence[int]],
        place: int,
        count: int,
        reference: Sequence[tuple[Inputs, torch.Tensor, torch.Tensor | None]],
    ) -> float:
        kept = [own[-1] for own in levels]
        kept[place] = count
        network = copy.deepcopy(self.dense)
        database.prune(network, kept)
        total, seen = 0.0, 0
        for inputs, answers, counted in reference:
            outputs = call_model(network, inputs)
            total += float(self._exam.divergence(outputs, answers, counted).double().sum())
            seen += len(answers)
        mean = total / seen
        return min(mean, WORST_DIVERGENCE) if np.isfinite(mean) else WORST_DIVERGENCE


def _near(own: Sequence[int], share: float) -> int:
    return min(range(len(own) - 1), key=lambda i: abs(own[i] - share * own[-1]), default=0)


def _interpolated(errors: FloatArray, chosen: Sequence[int], values: Sequence[float]) -> FloatArray:
    """Divergence at every level from that at some, by the error; it never falls with the error."""
    at = np.array([0.0, *(float(errors[i]) for i in reversed(chosen))])
    of = np.maximum.accumulate(np.array([0.0, *reversed(values)]))
    order = np.argsort(at, kind="stable")
    return np.asarray(np.interp(errors, at[order], of[order]), dtype=np.float64)
