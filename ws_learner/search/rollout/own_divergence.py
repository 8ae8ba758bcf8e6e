"""Own divergences: what pruning one layer alone does to the network's outputs.

The divergences of single layers nearly add up to that of the network (the sum is 0.96 of it in the
median on ResNet-20), so their sum ranks profiles without a rollout.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from envs import FloatArray, IntArray, LayerRow
from ws_learner.core import Inputs, call_model, tensor_bytes, tensors_of, track, warn
from ws_learner.pruning import parameter_of
from ws_learner.search.rollout.database_file import cache_tensors
from ws_learner.search.rollout.scoring import WORST_DIVERGENCE, Scoring
from ws_learner.search.rollout.slopes import batch_statistics

__all__ = [
    "OWN_DENSITIES",
    "cached_divergences",
    "divergences_alone",
    "measure_alone",
    "measure_own_divergences",
    "open_own_divergences",
]

OWN_DENSITIES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7)
"""Densities at which a layer's own divergence is measured; 0 is the layer without weights."""


def open_own_divergences(
    dense: nn.Module,
    exam: Scoring,
    *,
    layers: Sequence[LayerRow],
    weight_at: Callable[[int, int], Tensor],
    examples: int,
    about: str,
    cache_dir: Path | None,
) -> FloatArray:
    """Load the own divergences from the cache, or measure and save them.

    Args:
        dense: As for `measure_own_divergences`, like `exam` to `examples`.
        exam: The scoring examples; their inputs are part of the file's identity.
        layers: The L layers.
        weight_at: The regressed weight of a layer with that many zeros.
        examples: Number of examples, rounded up to whole batches.
        about: Identity of the layer database and solver.
        cache_dir: Folder of the file; None keeps nothing.
    """
    return cached_divergences(
        lambda: measure_own_divergences(
            dense, exam, layers=layers, weight_at=weight_at, examples=examples
        ),
        shape=(len(layers), len(OWN_DENSITIES)),
        about=[about, OWN_DENSITIES, exam.outputs],
        exam=exam,
        examples=examples,
        cache_dir=cache_dir,
    )


def cached_divergences(
    measure: Callable[[], FloatArray],
    *,
    shape: tuple[int, int],
    about: Sequence[Any],
    exam: Scoring,
    examples: int,
    cache_dir: Path | None,
) -> FloatArray:
    """What `measure` gives, read from a file if it was measured before.

    Args:
        measure: Gives an array of the shape.
        shape: (L, J).
        about: JSON values that identify what is measured.
        exam: The scoring examples; their inputs are part of the file's identity.
        examples: Number of examples, rounded up to whole batches.
        cache_dir: Folder of the file; None keeps nothing.
    """
    if cache_dir is None:
        return measure()
    digest = hashlib.sha256(json.dumps(about).encode())
    for inputs, answers, counted in exam.compared(examples):
        for tensor in (*tensors_of(inputs), answers, counted):
            if tensor is not None:
                digest.update(tensor_bytes(tensor))
    key = digest.hexdigest()
    path = cache_dir / f"own-{key[:16]}.safetensors"
    known = _read(path, key, shape=shape)
    if known is not None:
        return known
    found = measure()
    tensors = {"own": torch.from_numpy(found)}
    metadata = {"key": key, "sum": hashlib.sha256(found.tobytes()).hexdigest()}
    cache_tensors(path, tensors, metadata)
    return found


def _read(path: Path, key: str, *, shape: tuple[int, int]) -> FloatArray | None:
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            found: FloatArray = file.get_tensor("own").double().numpy()
    except (OSError, SafetensorError, ValueError, TypeError, RuntimeError) as error:
        warn(f"own divergences {path}: cannot be read ({error}); measuring them again")
        return None
    intact = metadata.get("sum") == hashlib.sha256(found.tobytes()).hexdigest()
    if metadata.get("key") != key or found.shape != shape or not intact:
        warn(f"own divergences {path}: damaged, or of another network; measuring them again")
        return None
    return found


def measure_own_divergences(
    dense: nn.Module,
    exam: Scoring,
    *,
    layers: Sequence[LayerRow],
    weight_at: Callable[[int, int], Tensor],
    examples: int,
) -> FloatArray:
    """(L, J) divergence with one layer pruned and regressed, at each of `OWN_DENSITIES`.

    Arguments are as of `divergences_alone`.
    """
    sizes = [row.weights for row in layers]
    counts = [[n - round(density * n) for density in OWN_DENSITIES] for n in sizes]
    return divergences_alone(
        dense,
        exam,
        layers=layers,
        zeros=np.array(counts, dtype=np.int64),
        weight_at=weight_at,
        examples=examples,
    )


def divergences_alone(
    dense: nn.Module,
    exam: Scoring,
    *,
    layers: Sequence[LayerRow],
    zeros: IntArray,
    weight_at: Callable[[int, int], Tensor],
    examples: int,
) -> FloatArray:
    """(L, J) divergence with one layer pruned and regressed, at J counts of zeros of each.

    Batch norms use the statistics of the batch, in the dense network too. Exempt layers have zeros.

    Args:
        dense: The dense network, in evaluation mode; unchanged afterwards.
        exam: The scoring examples; what the outputs mean must be known.
        layers: The L layers.
        zeros: (L, J) counts.
        weight_at: The regressed weight of a layer with that many zeros.
        examples: Number of examples, rounded up to whole batches.
    """

    def weights(layer: int) -> Iterator[Tensor]:
        for count in zeros[layer].tolist() if not layers[layer].exempt else ():
            yield weight_at(layer, count)

    found = measure_alone(dense, exam, layers=layers, weights=weights, examples=examples)
    return np.array([own or [0.0] * zeros.shape[1] for own in found])


@torch.inference_mode()
def measure_alone(
    dense: nn.Module,
    exam: Scoring,
    *,
    layers: Sequence[LayerRow],
    weights: Callable[[int], Iterable[Tensor]],
    examples: int,
) -> list[list[float]]:
    """Divergence with one weight replaced, for each replacement of each layer.

    Args:
        dense: The dense network, in evaluation mode; unchanged afterwards.
        exam: The scoring examples; what the outputs mean must be known.
        layers: The L layers.
        weights: Replacements of a layer's weight.
        examples: Number of examples, rounded up to whole batches.
    """
    found: list[list[float]] = []
    batched = batch_statistics(dense, batched=exam.batched)
    with batched, track("own divergences", total=len(layers)) as progress:
        reference = [
            (inputs, call_model(dense, inputs).float(), counted)
            for inputs, _, counted in exam.compared(examples)
        ]
        for layer, row in enumerate(layers):
            progress.advance()
            weight = parameter_of(dense, row.name)
            whole = weight.detach().clone()
            own = []
            for replacement in weights(layer):
                weight.copy_(replacement)
                own.append(_mean_divergence(dense, exam, reference))
            weight.copy_(whole)
            found.append(own)
    return found


def _mean_divergence(
    network: nn.Module, exam: Scoring, reference: Sequence[tuple[Inputs, Tensor, Tensor | None]]
) -> float:
    """Mean divergence from the reference; the worst if the network fails, as in a rollout."""
    total, seen = 0.0, 0
    try:
        for inputs, answers, counted in reference:
            outputs = call_model(network, inputs)
            total += float(exam.divergence(outputs, answers, counted).double().sum())
            seen += len(answers)
    except Exception:  # a failing network must not end the search
        return WORST_DIVERGENCE
    return min(total / seen, WORST_DIVERGENCE) if math.isfinite(total) else WORST_DIVERGENCE
