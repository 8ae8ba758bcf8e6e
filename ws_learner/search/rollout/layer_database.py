"""Layer database: error and regressed weights of every layer at every prune ratio.

Built once per dense network and calibration set, stored on disk, and used for every target. That
of a large network stays on disk, see `spilled_database.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from envs import FloatArray, LayerRow
from ws_learner.core import Inputs, forward_digest, say, state_digest, track
from ws_learner.pruning import (
    RIDGE,
    LayerRegression,
    Layout,
    PatternPlan,
    has_own_forward,
    keep_largest,
    layout_of,
    parameter_of,
    relative_error,
    relative_error_and_energy,
    watched_weights,
)
from ws_learner.search.rollout.database_file import (
    cache_tensors,
    content_digest,
    read_database,
    take_tensors,
)
from ws_learner.search.rollout.gram import collect_grams, spill_grams
from ws_learner.search.rollout.spilled_database import (
    SolvedLayers,
    SpilledDatabase,
    by_reference,
    gram_shapes,
    read_spilled,
    spills,
)
from ws_learner.search.rollout.tensor_file import MappedTensors, TensorFile

__all__ = ["LayerDatabase"]

_FORMAT = 1


class LayerDatabase:
    """Regressed weights of every layer at any number of zeros.

    Earlier requests are cached in memory, counts on the grid of levels are read from the file, and
    all others are solved on demand, with the same values. The file holds the Gram matrices, 4 G D^2
    bytes per layer (ResNet-20: 9 MB, ResNet-50: 0.5 GB), and the solved weights that fit in
    `memory` bytes. A process that solves holds up to three times the Gram matrices. Above
    `SPILLED` bytes of Gram matrices these, and all solved weights of the grid, are in a file of
    which only the layers in use are in memory.

    Args:
        weights: L dense weights.
        grams: L Gram matrices, (G, D, D).
        levels: (K,) ascending ratios of the error curves.
        ridge: See `regression.RIDGE`.
        memory: Size of the cache of solved weights, in bytes; the least recently used are dropped.
        plan: Pattern of each layer, in the order of `weights`; missing layers have none, and
            without a plan no layer has.
        names: L names of the layers in the plan.
        layouts: L layouts of the weights; by default outputs come first.
        spilled: The file of Gram matrices and solved weights; `grams` is not read then.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        grams: Sequence[Tensor],
        *,
        levels: Sequence[float],
        ridge: float = RIDGE,
        memory: int = 256 << 20,
        plan: PatternPlan | None = None,
        names: Sequence[str] = (),
        layouts: Sequence[Layout] = (),
        spilled: SpilledDatabase | None = None,
    ) -> None:
        self._layouts = tuple(layouts) or (Layout(),) * len(weights)
        self.grams: Sequence[Tensor] = tuple(grams)
        self._spilled = spilled
        if spilled is not None:
            self.grams = MappedTensors(spilled.file, "gram", len(weights))
        self._weights = tuple(weight.detach().clone() for weight in weights)
        self._levels = np.asarray(levels, dtype=np.float64)
        self._ridge, self._memory = ridge, memory
        self._plan, self._names = plan, tuple(names)
        self.key = ""
        """Identity of network, examples and settings, if it was opened."""
        self.held = 0  # bytes of solved weights
        self._solvers: dict[int, LayerRegression] = {}
        self._solved: OrderedDict[tuple[int, int], Tensor] = OrderedDict()
        self._errors: FloatArray | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without solved weights; a copy in another process solves them again.

        A file is named inside `by_reference`, else its Gram matrices are copied.
        """
        state = self.__dict__ | {"_solvers": {}, "_solved": OrderedDict(), "held": 0}
        if self._spilled is not None and not by_reference.get():
            state |= {"_spilled": None, "grams": tuple(gram.clone() for gram in self.grams)}
        return state

    def mask(self, layer: int, zeros: int) -> Tensor:
        """Mask of kept weights at `zeros` zeros, or the nearest count of the pattern."""
        weight, name = self._weights[layer], self._names[layer] if self._names else ""
        if self._plan is None or name not in self._plan.patterns:
            return keep_largest(weight.abs(), zeros)
        group = next((group for group in self._plan.groups if name in group), (name,))
        scores = {member: self._weights[self._names.index(member)].abs() for member in group}
        return self._plan.masks(scores, {name: self.fitted(layer, zeros)})[name]

    def fitted(self, layer: int, zeros: int) -> int:
        """The count of zeros nearest to `zeros` that the layer's pattern allows."""
        name = self._names[layer] if self._names else ""
        if self._plan is None or name not in self._plan.patterns:
            return int(zeros)
        return self._plan.patterns[name].feasible(self._plan.shapes[name], int(zeros))

    def weights(self, layer: int, zeros: int) -> Tensor:
        """The layer's weight with its `zeros` smallest pruned and the rest regressed.

        A count that the layer's pattern does not allow is rounded to the nearest one. Do not modify
        the result in place.
        """
        key = (layer, self.fitted(layer, zeros))
        if key not in self._solved:
            known = None if self._spilled is None else self._spilled.kept(*key)
            self._keep(key, self._solve(*key) if known is None else self._placed(*key, known))
        self._solved.move_to_end(key)
        return self._solved[key]

    def error(self, layer: int, zeros: int) -> float:
        """Squared error of the layer's outputs at `zeros` zeros, relative to their energy."""
        rows = self._layouts[layer].rows
        dense, pruned = rows(self._weights[layer]), rows(self.weights(layer, zeros))
        return relative_error(dense, pruned, self.grams[layer])

    def curves(self) -> tuple[FloatArray, FloatArray]:
        """Return the error curves, measured on the first call.

        Returns:
            (K,) ascending ratios and (L, K) relative squared errors.
        """
        if self._errors is None:
            self._errors = np.zeros((len(self._weights), len(self._levels)))
            with track("layer database", total=len(self._weights)) as progress:
                for layer, weight in enumerate(self._weights):
                    self._errors[layer] = [
                        self.error(layer, round(level * weight.numel())) for level in self._levels
                    ]
                    progress.advance()
        return self._levels.copy(), self._errors.copy()

    def wanda_scores(self) -> list[FloatArray]:
        """|w| times the norm of its input, of every weight of each layer, outputs first, flat.

        The score of Wanda (Sun et al., ICLR 2024). The norm is the root of the mean square over
        the calibration inputs, the Gram matrix's diagonal.
        """
        found = []
        for weight, gram, layout in zip(self._weights, self.grams, self._layouts, strict=True):
            norms = gram.diagonal(dim1=1, dim2=2).double().clamp(min=0).sqrt()[:, None]  # (G, 1, D)
            rows = layout.rows(weight).double().abs().reshape(len(norms), -1, norms.shape[-1])
            found.append((rows * norms).flatten().cpu().numpy())
        return found

    def _solve(self, layer: int, zeros: int) -> Tensor:
        dense = self._weights[layer]
        if zeros == 0:
            return dense
        layout = self._layouts[layer]
        if layer not in self._solvers:
            rows, gram = layout.rows(dense), self.grams[layer]
            self._solvers[layer] = LayerRegression(rows, gram, ridge=self._ridge)
        solved = self._solvers[layer].solve(layout.rows(self.mask(layer, zeros)))
        if self._spilled is not None:
            self._drop_solvers()
        return layout.stored(solved, tuple(dense.shape))

    def _placed(self, layer: int, zeros: int, kept: Tensor) -> Tensor:
        """The weight of kept values in the order of the mask."""
        weight = torch.zeros_like(self._weights[layer])
        weight[self.mask(layer, zeros)] = kept.to(weight.dtype)
        return weight

    def _drop_solvers(self) -> None:
        """Forget all but the latest that fit in half of `memory`."""
        room = self._memory // 2
        for layer in reversed(list(self._solvers)):
            room -= 4 * self.grams[layer].numel()
            if room < 0 and len(self._solvers) > 1:
                del self._solvers[layer]

    def _solved_layer(self, layer: int) -> SolvedLayers:
        """Errors and kept values at the levels, without a trace in the caches."""
        dense, gram, layout = self._weights[layer], self.grams[layer], self._layouts[layer]
        rows = layout.rows(dense)
        solver = LayerRegression(rows, gram, ridge=self._ridge)
        energy = None
        for place, level in enumerate(self._levels):
            zeros = self.fitted(layer, round(level * dense.numel()))
            mask = self.mask(layer, zeros) if zeros else None
            solved = rows if mask is None else solver.solve(layout.rows(mask))
            error, energy = relative_error_and_energy(rows, solved, gram, energy=energy)
            stored = layout.stored(solved, tuple(dense.shape))
            yield place, zeros, error, None if mask is None else stored[mask]

    def _keep(self, key: tuple[int, int], weight: Tensor) -> None:
        self._solved[key] = weight
        self.held += weight.nbytes
        while self.held > self._memory and len(self._solved) > 1:
            self.held -= self._solved.popitem(last=False)[1].nbytes

    @classmethod
    def open(
        cls,
        model: nn.Module,
        batches: Callable[[], Iterable[Inputs]],
        *,
        layers: Sequence[LayerRow],
        levels: Sequence[float],
        seed: int,
        facts: dict[str, Any],
        cache_dir: Path | None,
        plan: PatternPlan | None = None,
        pad_id: int | None = None,
    ) -> LayerDatabase:
        """Load the database of this network and these images, or build and save it.

        Args:
            model: The dense network.
            batches: Reads the calibration inputs; called only if there is no usable file.
            layers: The L layers.
            levels: (K,) ratios of the error curves.
            seed: Seed of the sampled positions.
            facts: JSON values that identify calibration set and settings.
            cache_dir: Folder of the file; None keeps everything in memory.
            plan: Pattern of each layer; None for no pattern.
            pad_id: Number that pads sentences, see `DataSplits.pad_id`.
        """
        names = [row.name for row in layers]
        layouts = [layout_of(model, name) for name in names]
        settings: dict[str, Any] = {"levels": levels, "plan": plan, "names": names}
        settings["layouts"] = layouts
        facts = {"seed": seed, "levels": list(levels), **facts}
        key = _identity(model, layers, layouts, plan, facts)
        weights = [parameter_of(model, row.name) for row in layers]
        path = cache_dir / f"layers-{key[:16]}.safetensors" if cache_dir else None
        shapes = gram_shapes(weights, layouts)
        if spills(shapes, weights):

            def collect(sums: TensorFile, into: TensorFile) -> None:
                spill_grams(
                    model,
                    batches(),
                    layers=layers,
                    seed=seed,
                    pad_id=pad_id,
                    sums=sums,
                    into=into,
                )

            return cls._open_spilled(path, key, weights, shapes, settings, collect)
        if path and path.exists():
            stored = read_database(path, key, shapes, weights, levels=len(settings["levels"]))
            grams = [] if stored is None else take_tensors(stored, "gram", len(weights))
            if grams and not all(bool(gram.any()) for gram in grams):
                say(f"layer database {path}: lacks the inputs of a layer; rebuilding it")
            elif stored is not None:
                database = cls(weights, grams, **settings)
                database._restore(stored)
                database.key = key
                return database
        grams = collect_grams(model, batches(), layers=layers, seed=seed, pad_id=pad_id)
        database = cls(weights, grams, **settings)
        database.curves()
        database.key = key
        if path:
            database._save(path, key)
        return database

    @classmethod
    def _open_spilled(
        cls,
        path: Path | None,
        key: str,
        weights: Sequence[Tensor],
        shapes: Sequence[tuple[int, int, int]],
        settings: dict[str, Any],
        collect: Callable[[TensorFile, TensorFile], None],
    ) -> LayerDatabase:
        """Read the file of a large network, or build it."""
        spilled = read_spilled(path, key, shapes) if path else None
        if spilled is None:
            spilled = SpilledDatabase.build(
                path,
                key,
                shapes,
                kept=cls(weights, [], **settings)._kept_counts(),
                levels=len(settings["levels"]),
                collect=collect,
                solve=lambda part: cls(weights, [], spilled=part, **settings)._solved_layer,
            )
        database = cls(weights, [], spilled=spilled, **settings)
        database._errors, database.key = spilled.errors(), key
        return database

    def _kept_counts(self) -> dict[tuple[int, int], int]:
        """Number of kept weights of each layer at each count of zeros on the grid, above 0."""
        counts = {
            (layer, self.fitted(layer, round(level * weight.numel()))): weight.numel()
            for layer, weight in enumerate(self._weights)
            for level in self._levels
        }
        return {key: size - key[1] for key, size in counts.items() if key[1]}

    def _save(self, path: Path, key: str) -> None:
        tensors = {f"gram.{layer}": gram for layer, gram in enumerate(self.grams)}
        tensors |= {f"weight.{layer}.{zeros}": w for (layer, zeros), w in self._solved.items()}
        tensors["errors"] = torch.from_numpy(self.curves()[1])
        tensors = {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}
        metadata = {"key": key, "sha256": content_digest(tensors)}
        cache_tensors(path, tensors, metadata)

    def _restore(self, stored: dict[str, Tensor]) -> None:
        self._errors = stored["errors"].numpy().copy()
        for name, tensor in stored.items():
            kind, _, rest = name.partition(".")
            if kind == "weight":
                layer, zeros = map(int, rest.split("."))
                self._keep((layer, zeros), tensor.to(self._weights[layer].device))
        device = self._weights[0].device
        self.grams = tuple(gram.to(device) for gram in self.grams)


def _identity(
    model: nn.Module,
    layers: Sequence[LayerRow],
    layouts: Sequence[Layout],
    plan: PatternPlan | None,
    facts: dict[str, Any],
) -> str:
    """Digest of everything that the database depends on."""
    about = {"format": _FORMAT, "ridge": RIDGE, "torch": torch.__version__}
    about |= {"network": state_digest(model), "forward": forward_digest(model), **facts}
    about["layers"] = [[row.name, *row.shape] for row in layers]
    names = [row.name for row in layers]
    turned = {name: own.axes for name, own in zip(names, layouts, strict=True)}
    if turned := {name: axes for name, axes in turned.items() if axes != "oi"}:
        about["layouts"] = turned
    watched = watched_weights(model, names)
    if any(len(weight.modules) > 1 for weight in watched):
        about["calls"] = "of every module"  # earlier files count the first module only
    if any(has_own_forward(module) for weight in watched for module in weight.modules):
        about["own forwards"] = "by their products"  # earlier files have the modules' inputs
    kinds = {str(kind) for kind in plan.patterns.values()} if plan else set()
    if plan and kinds != {"unstructured"}:  # files without a pattern omit the entry
        about["pattern"] = [*sorted(kinds), plan.pool]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
