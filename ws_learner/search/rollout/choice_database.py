"""Choice database: error and weights of every layer at every choice of pattern, zeros and format.

It stands on the layer database: the same Gram matrices, and where a choice is on its grid the same
errors and weights. The kept weights of the other choices are in a file of their own, 2.5 times the
weights of the network for each pattern.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs import FloatArray
from ws_learner.config import parse_pattern_spec
from ws_learner.core import (
    LayerChoice,
    NumberFormat,
    UserError,
    one_thread,
    say,
    tensor_bytes,
    tensors_of,
    track,
)
from ws_learner.pruning import Layout, TrainedBy, UnitRegression, layout_of
from ws_learner.search.rollout.choice_grid import (
    CHOICE_DENSITIES,
    ChoiceGrid,
    Remainder,
    choice_patterns,
)
from ws_learner.search.rollout.database_file import CACHE_REMEDY
from ws_learner.search.rollout.evaluator import RolloutEvaluator
from ws_learner.search.rollout.int8 import input_noise, rounded
from ws_learner.search.rollout.own_divergence import OWN_DENSITIES
from ws_learner.search.rollout.own_of_choices import own_of_choices
from ws_learner.search.rollout.spilled_database import by_reference, remove_stale
from ws_learner.search.rollout.tensor_file import TensorFile, refuse_full_disk

__all__ = ["ChoiceDatabase"]

_FORMAT = 1
_MEMORY = 256 << 20
_SOLVING = 1 << 30  # bytes that the layers which are solved together may take
_PER_ENTRY = 24  # bytes for each entry of a Gram matrix while its layer is solved


class ChoiceDatabase:
    """Errors, own divergences and weights of the choices of every layer.

    Weights are pruned by magnitude, regressed on the dense outputs and, for int8, rounded to
    nearest with a scale for each output; what the rounding of inputs adds is in the error, see
    `int8.py`. Rounding with compensation, as in GPTQ, would be lost in the training that follows.

    Args:
        rollouts: The evaluator, with the layer database.
        grid: The choices.
        noise: (L,) expected squared rounding error of an input, see `input_noise`.
        key: Identity of the contents.
    """

    def __init__(
        self, rollouts: RolloutEvaluator, grid: ChoiceGrid, *, noise: FloatArray, key: str
    ) -> None:
        self._rollouts, self._grid, self._noise, self.key = rollouts, grid, noise, key
        self._names = tuple(row.name for row in rollouts.layers)
        self._layouts = tuple(layout_of(rollouts.dense, name) for name in self._names)
        # Copies: while own divergences are measured, the dense network has other weights.
        self._dense = tuple(rollouts.database.weights(i, 0) for i in range(len(self._names)))
        self._errors: tuple[FloatArray, ...] = ()
        self._own: tuple[FloatArray, ...] | None = None
        self._file: TensorFile | None = None
        self._solvers: OrderedDict[int, UnitRegression] = OrderedDict()
        self._solved: OrderedDict[tuple[int, str, int], Tensor] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls,
        rollouts: RolloutEvaluator,
        *,
        patterns: Iterable[str],
        dtypes: Iterable[NumberFormat] = ("fp32",),
        remainder: Remainder = "pad",
        trained: TrainedBy = "masks",
        limits: Mapping[str, tuple[int, int]] | None = None,
    ) -> ChoiceDatabase:
        """Load the database of this network, these examples and choices, or build and save it.

        Args:
            rollouts: The evaluator, with the layer database. Its cache folder is used.
            patterns: Spellings, such as `AUTO_PATTERNS`.
            dtypes: Number formats.
            remainder: What to do with a layer that blocks do not divide; N:M need layers that they
                divide.
            trained: How the method trains patterns, see `trained_by`; layers have no pattern that
                it cannot train.
            limits: Least and most zeros of some layers, see `ChoiceGrid.build`.

        Raises:
            UserError: A pattern is decided by several layers together, or none fits.
        """
        names = [str(spec) for spec in choice_patterns(patterns)]
        dtypes = tuple(dict.fromkeys(dtypes))
        key = _identity(rollouts, names, dtypes, remainder, trained, limits or {})
        folder = rollouts.cache_dir
        path = folder / f"choices-{key[:16]}.safetensors" if folder else None
        file = _read(path, key, layers=len(rollouts.layers)) if path else None
        with one_thread():
            if file is not None:
                noise: FloatArray = file.tensor("noise").numpy().copy()
            elif "int8" in dtypes:
                inputs = rollouts.calibration_inputs
                noise = input_noise(rollouts.dense, inputs, layers=rollouts.layers)
            else:
                noise = np.full(len(rollouts.layers), np.nan)
            grid = ChoiceGrid.build(
                rollouts.dense,
                rollouts.layers,
                patterns=names,
                dtypes=dtypes,
                remainder=remainder,
                trained=trained,
                pool=rollouts.config.pool,
                levels=_levels(rollouts),
                without={"int8": _unseen(rollouts, noise)},
                limits=limits,
            )
            database = cls(rollouts, grid, noise=noise, key=key)
            if file is None:
                database._build(path)
            else:
                database._restore(file)
        return database

    @property
    def choices(self) -> tuple[tuple[LayerChoice, ...], ...]:
        """L tuples; the first choice of each layer is the dense fp32 layer."""
        return self._grid.choices

    def errors(self) -> tuple[FloatArray, ...]:
        """Squared error of each layer's outputs, relative to their energy, for each choice."""
        return tuple(errors.copy() for errors in self._errors)

    def own(self) -> tuple[FloatArray, ...] | None:
        """Divergence of each layer's choices, made in that layer alone; see `own_of_choices`.

        None if what the outputs mean is not known.
        """
        if self._own is None:
            with one_thread():
                self._own = own_of_choices(
                    self._rollouts,
                    choices=self.choices,
                    errors=self._errors,
                    curve_errors=self._curve_errors,
                    weight=self.scored_weight,
                    known=self._in_layer_database,
                    about=self.key,
                )
        return None if self._own is None else tuple(own.copy() for own in self._own)

    def mask(self, layer: int, choice: LayerChoice) -> Tensor:
        """Bool mask of the layer's weights, True = kept.

        Raises:
            ValueError: The choice does not fit the layer, see `refuse_unfit`.
        """
        self.refuse_unfit(layer, choice)
        name, weight = self._names[layer], self._dense[layer]
        if not choice.zeros:
            return torch.ones_like(weight, dtype=torch.bool)
        return self._grid.plans[choice.pattern].masks({name: weight.abs()}, {name: choice.zeros})[
            name
        ]

    def refuse_unfit(self, layer: int, choice: LayerChoice) -> None:
        """Refuse a choice that is impossible in a layer.

        Raises:
            ValueError: The pattern was not among those to choose from or does not fit the layer,
                or its whole units cannot make that many zeros.
        """
        name = self._names[layer]
        plan = self._grid.plans.get(choice.pattern)
        if choice.zeros and (plan is None or name not in plan.patterns):
            raise ValueError(f"{name}: the pattern {choice.pattern} is no choice of this layer")
        if plan is not None and choice.zeros:
            feasible = plan.patterns[name].feasible(plan.shapes[name], choice.zeros)
            if feasible != choice.zeros:
                raise ValueError(
                    f"{name}: whole units of {choice.pattern} cannot make {choice.zeros} zeros; "
                    f"the nearest count is {feasible}"
                )

    def weight(self, layer: int, choice: LayerChoice) -> Tensor:
        """The layer's weight: pruned, regressed, for int8 rounded. Do not modify it in place.

        Raises:
            ValueError: The choice does not fit the layer, see `refuse_unfit`.
        """
        weight = self._regressed(layer, choice)
        return rounded(weight, self._layouts[layer]) if choice.dtype == "int8" else weight

    def scored_weight(self, layer: int, choice: LayerChoice) -> Tensor:
        """The weight that a rollout begins with: not regressed yet if Adam does that, or nothing.

        Raises:
            ValueError: The choice does not fit the layer, see `refuse_unfit`.
        """
        if self._rollouts.config.rg_solver == "closed-form":
            return self.weight(layer, choice)
        weight = self._dense[layer] * self.mask(layer, choice)
        return rounded(weight, self._layouts[layer]) if choice.dtype == "int8" else weight

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without solved weights; the file is named inside `naming_files` only."""
        state = self.__dict__ | {"_solvers": OrderedDict(), "_solved": OrderedDict(), "_held": 0}
        state |= {"_file": self._file if by_reference.get() else None}
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"_lock": threading.Lock()}

    def _regressed(self, layer: int, choice: LayerChoice) -> Tensor:
        if not choice.zeros:
            return self._dense[layer]
        if self._in_layer_database(layer, choice.pattern):
            with self._lock:
                return self._rollouts.database.weights(layer, choice.zeros)
        key = (layer, choice.pattern, choice.zeros)
        if key not in self._solved:
            name = _kept(layer, choice)
            if self._file is not None and name in self._file.entries:
                weight = torch.zeros_like(self._dense[layer])
                weight[self.mask(layer, choice)] = self._file.tensor(name).to(weight)
            else:
                weight = self._solve(self._solver(layer), layer, choice)
            self._keep(key, weight)
        self._solved.move_to_end(key)
        return self._solved[key]

    def _in_layer_database(self, layer: int, pattern: str) -> bool:
        """Whether the layer database has this pattern in this layer."""
        plan = self._rollouts.plan
        return pattern == _spelling(self._rollouts) and self._names[layer] in plan.patterns

    def _keep(self, key: tuple[int, str, int], weight: Tensor) -> None:
        self._solved[key] = weight
        self._held += weight.nbytes
        while self._held > _MEMORY and len(self._solved) > 1:
            self._held -= self._solved.popitem(last=False)[1].nbytes

    def _solver(self, layer: int) -> UnitRegression:
        """The layer's solver; the latest that fit in half of the memory are kept."""
        if layer not in self._solvers:
            self._solvers[layer] = self._new_solver(layer)
        self._solvers.move_to_end(layer)
        grams = self._rollouts.database.grams
        while len(self._solvers) > 1 and 8 * sum(grams[i].numel() for i in self._solvers) > _MEMORY:
            self._solvers.popitem(last=False)
        return self._solvers[layer]

    def _new_solver(self, layer: int) -> UnitRegression:
        rows = self._layouts[layer].rows(self._dense[layer])
        return UnitRegression(rows, self._rollouts.database.grams[layer])

    def _solve(self, solver: UnitRegression, layer: int, choice: LayerChoice) -> Tensor:
        layout, shape = self._layouts[layer], tuple(self._dense[layer].shape)
        return layout.stored(solver.solve(layout.rows(self.mask(layer, choice))), shape)

    def _build(self, path: Path | None) -> None:
        """Solve all choices of all layers, into a file if there is a folder.

        Raises:
            UserError: The disk has no room.
        """
        self._rollouts.database.curves()
        part = None
        try:
            file = None
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                remove_stale(path.parent)
                part = path.parent / f".{path.stem}-{os.getpid()}.part"
                file = self._laid_out(part)
            self._errors = self._solve_all(file)
            if file is None or path is None or part is None:
                return
            for layer, errors in enumerate(self._errors):
                file.tensor(f"errors.{layer}", write=True).copy_(torch.from_numpy(errors))
            file.tensor("noise", write=True).copy_(torch.from_numpy(self._noise))
            file.seal()
            part.replace(path)
            self._file = TensorFile.open(path)
        except OSError as error:
            raise UserError(
                f"choice database {path}: {error.strerror or error}; {CACHE_REMEDY}, then run the "
                "same command again"
            ) from error
        finally:
            if part is not None:
                part.unlink(missing_ok=True)

    def _laid_out(self, part: Path) -> TensorFile:
        """The file, whose space is taken."""
        layout: dict[str, tuple[str, tuple[int, ...]]] = {"noise": ("F64", (len(self._names),))}
        for layer, choices in enumerate(self.choices):
            layout[f"errors.{layer}"] = ("F64", (len(choices),))
            for choice in choices:
                if choice.zeros and not self._in_layer_database(layer, choice.pattern):
                    kept = self._dense[layer].numel() - choice.zeros
                    layout[_kept(layer, choice)] = ("F32", (kept,))
        refuse_full_disk(part.parent, sum(8 * shape[0] for _, shape in layout.values()))
        return TensorFile.create(part, layout, key=self.key)

    def _solve_all(self, file: TensorFile | None) -> tuple[FloatArray, ...]:
        """Errors of all choices, several layers at once, large ones first."""
        costs = [gram.numel() for gram in self._rollouts.database.grams]
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        together = max(1, min(cores, _SOLVING // (_PER_ENTRY * max(costs))))
        order = sorted(range(len(costs)), key=lambda layer: -costs[layer])
        with (
            track("choice database", total=len(costs)) as progress,
            ThreadPoolExecutor(together) as threads,
        ):

            def run(layer: int) -> FloatArray:
                with torch.no_grad():
                    errors = self._errors_of(layer, file)
                progress.advance()
                return errors

            futures = {layer: threads.submit(run, layer) for layer in order}
            try:
                return tuple(futures[layer].result() for layer in range(len(costs)))
            finally:
                for future in futures.values():
                    future.cancel()

    def _errors_of(self, layer: int, file: TensorFile | None) -> FloatArray:
        """Errors of the layer's choices; the kept values go into the file."""
        judge = _Judge(
            self._dense[layer], self._rollouts.database.grams[layer], self._layouts[layer]
        )
        known = self._known(layer)
        solver: UnitRegression | None = None
        errors = np.zeros(len(self.choices[layer]))
        fp32: dict[tuple[str, int], tuple[Tensor, float]] = {}
        for place, choice in enumerate(self.choices[layer]):
            point = (choice.pattern, choice.zeros)
            if point not in fp32:
                if not choice.zeros or self._in_layer_database(layer, choice.pattern):
                    weight = self._regressed(layer, choice)
                else:
                    solver = solver or self._new_solver(layer)
                    weight = self._solve(solver, layer, choice)
                    if file is not None:
                        kept = weight[self.mask(layer, choice)]
                        file.tensor(_kept(layer, choice), write=True).copy_(kept)
                error = known.get(point)
                fp32[point] = weight, judge.error(weight) if error is None else error
            weight, errors[place] = fp32[point]
            if choice.dtype == "int8":
                errors[place] = judge.rounding(
                    weight, rounded(weight, self._layouts[layer]), float(self._noise[layer])
                )
        return errors

    def _known(self, layer: int) -> dict[tuple[str, int], float]:
        """Errors that the layer database has, by pattern and zeros."""
        database, found = self._rollouts.database, {}
        levels, errors = database.curves()
        size = self._dense[layer].numel()
        for pattern in self._grid.plans:
            if self._in_layer_database(layer, pattern):
                for level, error in zip(levels, errors[layer], strict=True):
                    found[pattern, database.fitted(layer, round(level * size))] = float(error)
        return found

    def _curve_errors(self, layer: int) -> FloatArray:
        """Errors at the densities of own divergences: those of the error curve where it has them.

        Counts that differ by less than 0.2 % of the layer are taken as the same.
        """
        database, size = self._rollouts.database, self._dense[layer].numel()
        levels, errors = database.curves()
        known = [database.fitted(layer, round(level * size)) for level in levels]
        found = []
        for density in OWN_DENSITIES:
            count = database.fitted(layer, size - round(density * size))
            nearest = min(range(len(known)), key=lambda i: abs(known[i] - count))
            if 500 * abs(known[nearest] - count) <= size:
                found.append(errors[layer, nearest])
            elif count == size:
                found.append(1.0)
            else:
                judge = _Judge(self._dense[layer], database.grams[layer], self._layouts[layer])
                found.append(judge.error(database.weights(layer, count)))
        return np.array(found)

    def _restore(self, file: TensorFile) -> None:
        self._errors = tuple(
            file.tensor(f"errors.{layer}").numpy().copy() for layer in range(len(self._names))
        )
        self._file = file


class _Judge:
    """Squared errors of a layer's outputs, relative to their energy."""

    def __init__(self, dense: Tensor, gram: Tensor, layout: Layout) -> None:
        self._layout, self._groups = layout, gram.shape[0]
        self._gram = gram.float()
        self._dense = self._rows(dense)
        self._energy = float(((self._dense.double() @ gram.double()) * self._dense).sum())

    def error(self, weight: Tensor) -> float:
        """Of a layer with these weights."""
        if self._energy <= 0:
            return 0.0
        change = self._rows(weight) - self._dense
        return max(float(((change @ self._gram) * change).sum(dtype=torch.float64)), 0.0) / (
            self._energy
        )

    def rounding(self, weight: Tensor, rounded_weight: Tensor, noise: float) -> float:
        """Of a layer with rounded weights and inputs."""
        if self._energy <= 0:
            return 0.0
        more = noise * float(self._rows(rounded_weight).double().square().sum())
        return self.error(rounded_weight) + more / self._energy

    def _rows(self, weight: Tensor) -> Tensor:
        rows = self._layout.rows(weight).float()
        return rows.reshape(self._groups, -1, self._gram.shape[-1])


def _kept(layer: int, choice: LayerChoice) -> str:
    return f"kept.{layer}.{choice.pattern}.{choice.zeros}"


def _unseen(rollouts: RolloutEvaluator, noise: FloatArray) -> list[str]:
    return [row.name for row, own in zip(rollouts.layers, noise, strict=True) if np.isnan(own)]


def _spelling(rollouts: RolloutEvaluator) -> str:
    """Pattern of the layer database."""
    return str(parse_pattern_spec(rollouts.config.pattern))


def _levels(rollouts: RolloutEvaluator) -> dict[str, dict[str, list[int]]]:
    """Counts of zeros of each layer that the layer database has already, by its pattern."""
    pattern = _spelling(rollouts)
    if parse_pattern_spec(pattern).kind in ("n:m", "any:m"):
        return {}
    ratios, found = rollouts.database.curves()[0], {}
    for layer, row in enumerate(rollouts.layers):
        zeros = {rollouts.database.fitted(layer, round(r * row.weights)) for r in ratios}
        found[row.name] = sorted(count for count in zeros if 0 < count < row.weights)
    return {pattern: found}


def _identity(
    rollouts: RolloutEvaluator,
    patterns: Sequence[str],
    dtypes: Sequence[NumberFormat],
    remainder: Remainder,
    trained: TrainedBy,
    limits: Mapping[str, tuple[int, int]],
) -> str:
    """Digest of everything that the database depends on."""
    about: dict[str, Any] = {"format": _FORMAT, "layers": rollouts.database.key}
    about |= {"patterns": patterns, "dtypes": dtypes, "remainder": remainder}
    about["trained"] = trained
    about |= {"pool": rollouts.config.pool, "densities": CHOICE_DENSITIES}
    about["exempt"] = [row.name for row in rollouts.layers if row.exempt]
    if limits:
        about["limits"] = {name: list(pair) for name, pair in limits.items()}
    if "int8" in dtypes:
        inputs = hashlib.sha256()
        for batch in rollouts.calibration_inputs:
            for tensor in tensors_of(batch):
                inputs.update(tensor_bytes(tensor))
        about["inputs"] = inputs.hexdigest()
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _read(path: Path, key: str, *, layers: int) -> TensorFile | None:
    """The file; None, with a line, if it must be built again."""
    if not path.exists():
        return None
    try:
        file = TensorFile.open(path)
        if file.metadata.get("key") != key:
            say(f"choice database {path}: belongs to another network or setting; rebuilding it")
        elif file.metadata.get("sha256") != file.digest():
            say(f"choice database {path}: is damaged; rebuilding it")
        elif all(f"errors.{layer}" in file.entries for layer in range(layers)):
            return file
    except (OSError, ValueError, KeyError, TypeError) as error:
        say(f"choice database {path}: cannot be read ({error}); rebuilding it")
    return None
