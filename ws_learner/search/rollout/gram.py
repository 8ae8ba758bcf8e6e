"""Gram matrices of the layers' inputs, the statistics for least-squares regression.

For a layer with unfolded inputs X (D, N), H = X X^T / N. The squared error of weights v instead
of w is (v - w) H (v - w)^T per output row, independent of N.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from envs import LayerRow
from ws_learner.core import Inputs, count_of, run_model, say, track
from ws_learner.data import words_in
from ws_learner.pruning import (
    Convolution,
    Layout,
    Rows,
    Use,
    WeightUses,
    choose_positions,
    is_conv1d_of_transformers,
    watched_weights,
)
from ws_learner.search.rollout.tensor_file import TensorFile

__all__ = ["collect_grams", "spill_grams", "unfolded_inputs"]

_POSITIONS = 64
_WAITING = 2  # sets of input vectors that wait for their products
_CONVOLUTIONS = (
    nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
)


@torch.no_grad()
def collect_grams(
    model: nn.Module,
    batches: Iterable[Inputs],
    *,
    layers: Sequence[LayerRow],
    seed: int,
    positions: int = _POSITIONS,
    pad_id: int | None = None,
) -> list[Tensor]:
    """Compute every layer's Gram matrix by running the dense network on calibration inputs.

    Every use of a weight counts, whether its module is called or not, and each use in a forward
    pass. Neighbouring positions of an image are nearly redundant, so at most `positions` of them
    are used, drawn for every batch. A layer then costs 2 x images x positions x D^2 / groups flop
    in addition to the forward pass: 150 GFLOP for ResNet-20 at 512 images, about four training
    steps of 128 images. Padding of sentences is skipped.

    Args:
        model: Called in evaluation mode; its mode is restored.
        batches: Inputs on the model's device.
        layers: The L layers.
        seed: Seed of the draw of positions.
        positions: Maximum number of spatial positions (or tokens) per example.
        pad_id: Number that pads sentences; None counts every input.

    Returns:
        L float32 tensors (G, D, D), with G groups and D weights per output row. That of a layer or
        an expert that saw no input but zeros is a multiple of the unit matrix, so that pruning it
        is not free.
    """
    sums = _accumulate(model, batches, layers=layers, seed=seed, positions=positions, pad_id=pad_id)
    return [total.mean() for total in sums]


@torch.no_grad()
def spill_grams(
    model: nn.Module,
    batches: Iterable[Inputs],
    *,
    layers: Sequence[LayerRow],
    seed: int,
    pad_id: int | None,
    sums: TensorFile,
    into: TensorFile,
) -> None:
    """`collect_grams` into a file, with one layer's matrix in memory at a time; the same values.

    The products are computed in a thread of their own during the forward pass.

    Args:
        model: Called in evaluation mode; its mode is restored.
        batches: Inputs, on the CPU.
        layers: The L layers.
        seed: Seed of the draw of positions.
        pad_id: Number that pads sentences; None counts every input.
        sums: Has `total.0`, ..., zeros of float64 (G, D, D), which are overwritten.
        into: Receives `gram.0`, ..., float32 (G, D, D).
    """
    found = _accumulate(model, batches, layers=layers, seed=seed, pad_id=pad_id, sums=sums)
    for layer, total in enumerate(found):
        into.tensor(f"gram.{layer}", write=True).copy_(total.mean())


def _accumulate(
    model: nn.Module,
    batches: Iterable[Inputs],
    *,
    layers: Sequence[LayerRow],
    seed: int,
    positions: int = _POSITIONS,
    pad_id: int | None = None,
    sums: TensorFile | None = None,
) -> list[_Accumulator]:
    weights = watched_weights(model, [row.name for row in layers])
    totals = {
        weight.name: _Accumulator(weight.parameter, weight.layout, positions, sums, place)
        for place, weight in enumerate(weights)
    }
    uses = WeightUses(model, weights, lambda use: totals[use.weight.name].add(use))
    for index, total in enumerate(totals.values()):
        total.generator.manual_seed(seed * 1_000_003 + index)
    training = model.training
    model.eval()
    with _background() as submit, uses.observing():
        for inputs in batches if sums is None else _tracked(batches):
            words, count = words_in(inputs, pad_id=pad_id), count_of(inputs)
            for total in totals.values():
                total.words, total.batch = words, count
                if sums is not None:
                    total.submit = submit
            run_model(model, inputs)
            uses.forget()
    model.train(training)
    _say_unseen(totals)
    return list(totals.values())


def _tracked(batches: Iterable[Inputs]) -> Iterator[Inputs]:
    """The batches, with a progress bar."""
    known = list(batches)
    with track("layer database, inputs of the layers", total=len(known)) as progress:
        for batch in known:
            yield batch
            progress.advance()


@contextmanager
def _background() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Run functions one after the other in a thread; few wait, so that few inputs are held."""
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1) as thread:

        def submit(function: Callable[[], None]) -> None:
            waiting.append(thread.submit(function))
            while len(waiting) > _WAITING:
                waiting.popleft().result()

        yield submit
        for future in waiting:
            future.result()


def _at_once(function: Callable[[], None]) -> None:
    function()


def _say_unseen(sums: dict[str, _Accumulator]) -> None:
    unseen = [name for name, total in sums.items() if total.unseen]
    if unseen:
        say(
            f"layer database: no input of {_some(unseen)} was seen: such weights count by their "
            "squares, and are not regressed"
        )
    partly = [name for name, total in sums.items() if total.missed and not total.unseen]
    if partly:
        say(
            f"layer database: {_some(partly)}: used in other ways too, as an embedding or along "
            "the outputs, of which the error does not count"
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}"


class _Accumulator:
    """Sums one layer's Gram matrix over its uses, in float64 across batches."""

    def __init__(
        self,
        parameter: Tensor,
        layout: Layout,
        positions: int,
        file: TensorFile | None = None,
        place: int = 0,
    ) -> None:
        self._file, self._place = file, place
        self.submit: Callable[[Callable[[], None]], None] = _at_once
        self.positions = positions
        self.generator = torch.Generator()
        width, groups = layout.width(tuple(parameter.shape)), layout.groups
        device = parameter.device
        self._total: Tensor | None = None
        if file is None:
            self._total = torch.zeros(groups, width, width, dtype=torch.float64, device=device)
        self.count, self.missed = 0, False
        self.seen = torch.zeros(groups, dtype=torch.bool)
        self.words: Tensor | None = None  # (B, T) of the batch, False at padding
        self.batch = 1

    @property
    def total(self) -> Tensor:
        """The sum; one in a file is mapped while the result lives."""
        if self._total is None:
            assert self._file is not None
            return self._file.tensor(f"total.{self._place}", write=True)
        return self._total

    def add(self, use: Use) -> None:
        """Add the inputs of a use, if they are known."""
        if use.inputs is None or not use.weight.layout.known:
            self.missed = True
            return
        if isinstance(use.reads, Rows):
            self._add_rows(use.reads)
            return
        if isinstance(use.reads, Convolution):
            columns = use.reads.windows(use.inputs, self.positions, self.generator)
        elif use.reads is None:
            columns = self._vectors(use.inputs, use.there)
        else:
            columns = unfolded_inputs(
                use.reads, use.inputs, self.positions, self.generator, self.words, use.output
            )
        columns = columns.float()
        if self.submit is not _at_once and use.reads is None:
            columns = columns.clone()  # others are copies; this one the network may overwrite
        self.submit(lambda: self._add_products(columns))
        self.count += columns.shape[1]
        self.seen[:] = True

    def _add_products(self, columns: Tensor) -> None:
        total = self.total
        total += columns.mT @ columns

    def _vectors(self, inputs: Tensor, there: Tensor | None) -> Tensor:
        """(1, N, D) of vectors (B, T, D) of a recurrent network."""
        if there is None:
            return inputs[None]
        if self.words is not None and self.words.shape == there.shape:
            there = there & self.words
        chosen = choose_positions(inputs.shape[1], self.positions, self.generator)
        chosen = chosen.to(inputs.device)
        return inputs[:, chosen][there[:, chosen]][None]

    def _add_rows(self, rows: Rows) -> None:
        """Add vectors (S, N, C), which may be a part of the inputs, to the groups that read them.

        Of N vectors, more than `positions` for each example, some are drawn. Vectors at padding
        are known by their number.
        """
        vectors = rows.inputs
        if self.words is not None and vectors.shape[1] == self.words.numel():
            words = self.words.T if rows.time_first else self.words
            vectors = vectors[:, words.reshape(-1)]
        most = self.positions * self.batch
        chosen = choose_positions(vectors.shape[1], most, self.generator).to(vectors.device)
        vectors = vectors[:, chosen].float()
        self.submit(lambda: self._add_part(rows, vectors))
        self.seen[sorted({group for groups in rows.groups.tolist() for group in groups})] = True
        self.count += vectors.shape[1]

    def _add_part(self, rows: Rows, vectors: Tensor) -> None:
        products, total = (vectors.mT @ vectors).double(), self.total
        columns = rows.columns.to(vectors.device)
        place = (columns[:, None], columns[None])
        for groups, product in zip(rows.groups.tolist(), products, strict=True):
            for group in groups:
                total[group][place] += product

    @property
    def unseen(self) -> bool:
        """Whether nothing but zeros has come in."""
        return not bool(self.total.any())

    def mean(self) -> Tensor:
        """The Gram matrix; groups without any input count as if each input were noise alike."""
        mean = self.total / max(self.count, 1)
        diagonal = mean.diagonal(dim1=1, dim2=2)
        here = torch.ones_like(self.seen) if self.unseen else ~self.seen
        level = 1.0 if self.unseen else float(diagonal[~here].mean())
        mean[here] = level * torch.eye(mean.shape[1], dtype=mean.dtype, device=mean.device)
        return mean.float()


def unfolded_inputs(
    module: nn.Module,
    inputs: Tensor,
    positions: int | None = None,
    generator: torch.Generator | None = None,
    words: Tensor | None = None,
    output: Tensor | None = None,
) -> Tensor:
    """Input vectors of the layer's weight rows, (G, N, D).

    Args:
        module: A convolution or transposed convolution (any stride, padding, dilation, groups),
            Linear, or transformers' `Conv1D`.
        inputs: The module's input: (B, C, *spatial) or (B, *any, D).
        positions: Maximum number of positions per example; None uses all.
        generator: Generator for the positions, which are the same for all examples of the batch.
        words: (B, T) False at padding, which is dropped from inputs (B, T, D).
        output: The module's output, whose size a transposed convolution may be given.
    """
    if isinstance(module, nn.Linear) or is_conv1d_of_transformers(module):
        tokens = inputs.reshape(inputs.shape[0], -1, inputs.shape[-1])
        chosen = choose_positions(tokens.shape[1], positions, generator)
        chosen = chosen.to(inputs.device)
        if words is not None and words.shape == inputs.shape[:-1]:
            return tokens[:, chosen][words[:, chosen]][None]
        return tokens[:, chosen].reshape(1, -1, inputs.shape[-1])
    if not isinstance(module, _CONVOLUTIONS):
        raise TypeError(f"{type(module).__name__}: only convolutions and Linear are supported")
    return Convolution.of_module(module, inputs, output).windows(inputs, positions, generator)
