"""The layer database of a large network: built layer by layer into a file, and read from there.

Beside the Gram matrices the file holds the kept values of every layer at every level; which weights
they are follows from the dense weights. All levels of ResNet-50 take as much as its Gram matrices.
The layers are solved in parallel, each on one thread, so that the values are those of one thread.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from envs import FloatArray
from ws_learner.core import UserError, one_thread, say, track
from ws_learner.pruning import Layout
from ws_learner.search.rollout.database_file import CACHE_REMEDY
from ws_learner.search.rollout.tensor_file import TensorFile, refuse_full_disk

__all__ = [
    "SPILLED",
    "SolvedLayers",
    "SpilledDatabase",
    "by_reference",
    "gram_shapes",
    "naming_files",
    "read_spilled",
    "remove_stale",
    "spills",
]

SPILLED = 128 << 20
"""Bytes of Gram matrices above which a database stays on disk."""

_SOLVING = 1 << 30
"""Bytes that the layers which are solved together may take."""

_PER_ENTRY = 24  # bytes for each entry of a Gram matrix while its layer is solved
_STALE = 86400.0  # seconds after which the file of an unfinished build is left over

SolvedLayers = Iterator[tuple[int, int, float, Tensor | None]]
"""Index of the level, zeros, relative error and kept values; None: all, as they are."""

by_reference: ContextVar[bool] = ContextVar("by_reference", default=False)


@contextmanager
def naming_files() -> Iterator[None]:
    """Inside, pickled databases name their file: for processes of this machine."""
    token = by_reference.set(True)
    try:
        yield
    finally:
        by_reference.reset(token)


def gram_shapes(
    weights: Sequence[Tensor], layouts: Sequence[Layout]
) -> tuple[tuple[int, int, int], ...]:
    """(G, D, D) of each layer's Gram matrices."""
    widths = [
        layout.width(tuple(weight.shape)) for weight, layout in zip(weights, layouts, strict=True)
    ]
    return tuple(
        (layout.groups, width, width) for layout, width in zip(layouts, widths, strict=True)
    )


def spills(shapes: Sequence[tuple[int, ...]], weights: Sequence[Tensor]) -> bool:
    """Whether the database stays on disk: a large one on the CPU."""
    return 4 * sum(map(prod, shapes)) > SPILLED and all(w.device.type == "cpu" for w in weights)


@dataclass(frozen=True)
class SpilledDatabase:
    """Gram matrices, errors and kept values in a file.

    Attributes:
        file: Has `gram.LAYER`, `kept.LAYER.ZEROS` and `errors`.
    """

    file: TensorFile

    def kept(self, layer: int, zeros: int) -> Tensor | None:
        """Kept values at that many zeros, in the order of the mask; None if not on the grid."""
        name = f"kept.{layer}.{zeros}"
        return self.file.tensor(name) if name in self.file.entries else None

    def errors(self) -> FloatArray:
        """(L, K) relative squared errors."""
        found: FloatArray = self.file.tensor("errors").numpy().copy()
        return found

    @classmethod
    def build(
        cls,
        path: Path | None,
        key: str,
        shapes: Sequence[tuple[int, int, int]],
        *,
        kept: Mapping[tuple[int, int], int],
        levels: int,
        collect: Callable[[TensorFile, TensorFile], None],
        solve: Callable[[SpilledDatabase], Callable[[int], SolvedLayers]],
    ) -> SpilledDatabase:
        """Collect the Gram matrices and solve all layers.

        Args:
            path: The file; None: a temporary one, which goes with the last reference.
            key: Identity of the contents.
            shapes: L shapes of Gram matrices.
            kept: Number of kept weights by layer and zeros.
            levels: K, the number of levels.
            collect: `spill_grams` as a function of its `sums` and `into`.
            solve: Makes the function that solves a layer with these Gram matrices.

        Raises:
            UserError: The disk has no room.
        """
        home = path.parent if path else Path(tempfile.mkdtemp(prefix="ws_learner-layers-"))
        home.mkdir(parents=True, exist_ok=True)
        remove_stale(home)
        final = path or home / "layers.safetensors"
        layout: dict[str, tuple[str, tuple[int, ...]]] = {
            f"gram.{layer}": ("F32", shape) for layer, shape in enumerate(shapes)
        }
        layout |= {f"kept.{i}.{zeros}": ("F32", (count,)) for (i, zeros), count in kept.items()}
        layout["errors"] = ("F64", (len(shapes), levels))
        entries = sum(map(prod, shapes))
        part = home / f".layers-{key[:16]}-{os.getpid()}.part"
        sums = part.with_suffix(".sums.part")
        try:
            refuse_full_disk(home, 12 * entries + 4 * sum(kept.values()) + (64 << 20))
            file = TensorFile.create(part, layout, key=key)
            totals = {f"total.{i}": ("F64", shape) for i, shape in enumerate(shapes)}
            collect(TensorFile.create(sums, totals), file)
            sums.unlink()
            _solve_all(cls(file), shapes, levels=levels, solve=solve(cls(file)))
            file.seal()
            part.replace(final)
        except OSError as error:
            raise UserError(
                f"layer database in {home}: {error.strerror or error}; {CACHE_REMEDY}, then run "
                "the same command again"
            ) from error
        finally:
            sums.unlink(missing_ok=True)
            part.unlink(missing_ok=True)
            if path is None and not final.exists():
                home.rmdir()
        built = cls(TensorFile.open(final))
        if path is None:
            weakref.finalize(built, shutil.rmtree, home, ignore_errors=True)
        return built


def _solve_all(
    spilled: SpilledDatabase,
    shapes: Sequence[tuple[int, int, int]],
    *,
    levels: int,
    solve: Callable[[int], SolvedLayers],
) -> None:
    """Solve all layers, large ones first, as many together as cores and memory allow."""
    file = spilled.file
    errors = file.tensor("errors", write=True)
    costs = [prod(shape) for shape in shapes]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    together = max(1, min(cores, _SOLVING // (_PER_ENTRY * max(costs))))

    def run(layer: int) -> None:
        with torch.no_grad():
            for place, zeros, error, values in solve(layer):
                errors[layer, place] = error
                if values is not None:
                    file.tensor(f"kept.{layer}.{zeros}", write=True).copy_(values)
                progress.advance(costs[layer])

    order = sorted(range(len(shapes)), key=lambda layer: -costs[layer])
    with (
        one_thread(),
        track("layer database", total=levels * sum(costs)) as progress,
        ThreadPoolExecutor(together) as threads,
    ):
        futures = [threads.submit(run, layer) for layer in order]
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()


def read_spilled(
    path: Path, key: str, shapes: Sequence[tuple[int, int, int]]
) -> SpilledDatabase | None:
    """The database of a file; None, with a line, if it must be built again."""
    if not path.exists():
        return None
    try:
        file = TensorFile.open(path)
        if file.metadata.get("key") != key:
            say(f"layer database {path}: belongs to another network or setting; rebuilding it")
        elif file.metadata.get("sha256") != file.digest():
            say(f"layer database {path}: is damaged; rebuilding it")
        elif not all(bool(file.tensor(f"gram.{i}").any()) for i in range(len(shapes))):
            say(f"layer database {path}: lacks the inputs of a layer; rebuilding it")
        else:
            return SpilledDatabase(file)
    except (OSError, ValueError, KeyError, TypeError) as error:
        say(f"layer database {path}: cannot be read ({error}); rebuilding it")
    return None


def remove_stale(folder: Path) -> None:
    """Remove what killed builds of databases left behind."""
    for part in (*folder.glob(".layers-*.part"), *folder.glob(".choices-*.part")):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > _STALE:
                part.unlink()
