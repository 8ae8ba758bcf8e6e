"""Process group of data-parallel training; for a single process every operation is a no-op."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ws_learner.core.errors import UserError

__all__ = ["ProcessGroup", "rank_slice"]

_OF_RANKS = 2**31  # separates the ranks' random streams from those of epochs


def rank_slice(count: int, *, rank: int, size: int) -> slice:
    """Rows of a batch of `count` that belong to `rank`: contiguous, sizes differ by at most 1."""
    return slice(rank * count // size, (rank + 1) * count // size)


@dataclass(frozen=True)
class ProcessGroup:
    """A rank of data-parallel training; `torch.distributed` must be initialised if size > 1.

    Every step takes the batch that a single process would read, and each rank takes a part of it.
    The number of ranks therefore changes neither the schedule nor the images of a step. Gradients
    are averages over the whole batch. Batch norm normalises each rank's part separately (Goyal et
    al. 2017, section 2.3). Running statistics are averaged over ranks after every step, so that
    all ranks always hold the same network.

    Attributes:
        rank: Number of this process, from 0; 0 writes files and reports.
        size: Number of processes.
    """

    rank: int = 0
    size: int = 1

    def check_batch(self, batch_size: int) -> None:
        """Raise an error if a batch leaves a rank without a row.

        Raises:
            UserError: There are more ranks than rows.
        """
        if batch_size < self.size:
            raise UserError(
                f"`batch_size` {batch_size}: fewer examples than the {self.size} ranks that "
                f"share a batch; ask for at most `ClusterConfig.workers`={batch_size}"
            )

    def seed(self, seed: int) -> None:
        """Seed PyTorch, differently per rank for dropout; rank 0 as in a single process."""
        if self.rank:
            words = np.random.SeedSequence([seed, _OF_RANKS + self.rank]).generate_state(1)
            seed = int(words[0])
        torch.manual_seed(seed)

    def parallel(self, model: nn.Module) -> nn.Module:
        """Wrap `model` so that gradients are averaged over the ranks; call the result instead."""
        if self.size == 1:
            return model
        from torch.nn.parallel import DistributedDataParallel

        known = inspect.signature(DistributedDataParallel).parameters
        # Its name since torch 2.13; `average_batchnorm_stats` synchronises the buffers.
        name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        options: dict[str, Any] = {name: False}
        return DistributedDataParallel(model, **options)

    def loss_scale(self, rows: int, batch_size: int) -> float:
        """Factor for this rank's mean loss, so that its average over ranks is the batch's mean."""
        return rows * self.size / batch_size

    def average_batchnorm_stats(self, model: nn.Module, loss: Tensor) -> Tensor:
        """Average the running statistics after a step; return the whole batch's mean loss.

        Args:
            model: Changed in place.
            loss: Scalar, scaled by `loss_scale`.
        """
        if self.size == 1:
            return loss
        statistics = [
            buffer
            for module in model.modules()
            if isinstance(module, _NormBase)
            for buffer in (module.running_mean, module.running_var)
            if buffer is not None
        ]
        flat = torch.cat([part.detach().float().flatten() for part in (loss, *statistics)])
        torch.distributed.all_reduce(flat)
        flat = flat / self.size
        begin = 1
        for buffer in statistics:
            buffer.copy_(flat[begin : begin + buffer.numel()].view_as(buffer))
            begin += buffer.numel()
        return flat[0]

    def all_reduce_minmax(self, ranges: Tensor) -> Tensor:
        """Minimum and maximum over all ranks of N ranges, (N, 2)."""
        if self.size == 1:
            return ranges
        flipped = ranges * ranges.new_tensor([-1.0, 1.0])
        torch.distributed.all_reduce(flipped, op=torch.distributed.ReduceOp.MAX)
        return flipped * ranges.new_tensor([-1.0, 1.0])

    def gather(self, value: Any) -> list[Any]:
        """Values of all ranks, in rank order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values

    def broadcast_decision(self, opinion: bool) -> bool:
        """Rank 0's decision, on every rank."""
        return bool(self.gather(opinion)[0])

    def assert_equal_across_ranks(self, name: str, state: Mapping[str, Any]) -> None:
        """Assert that all ranks hold bit-identical tensors.

        Raises:
            RuntimeError: They do not. This is a bug, or the network has state other than batch
                norm's.
        """
        if self.size == 1:
            return
        digests = self.gather({key: _digest(value) for key, value in state.items()})
        for rank, other in enumerate(digests):
            if different := [key for key, value in digests[0].items() if other[key] != value]:
                raise RuntimeError(f"{name} {different[0]} differs between rank 0 and rank {rank}")


def _digest(value: Any) -> str:
    digest = hashlib.sha256()
    for tensor in _tensors(value):
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _tensors(value: Any) -> list[Tensor]:
    """All tensors within nested dicts and lists, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [tensor for part in value for tensor in _tensors(part)]
    return []
