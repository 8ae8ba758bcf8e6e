"""Kernel selection: time all suitable kernels on a layer's inputs and keep the fastest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ws_learner.deploy.runtime.autotune import TimedTrial, fastest
from ws_learner.deploy.runtime.candidates import candidates, is_known, largest_block
from ws_learner.deploy.runtime.codegen.cpu import usable_isas
from ws_learner.deploy.runtime.codegen.sparse_kernel import Tokens
from ws_learner.deploy.runtime.codegen.spec import Spec
from ws_learner.deploy.runtime.dense_baselines import Runner
from ws_learner.deploy.runtime.direct_candidates import with_direct
from ws_learner.deploy.runtime.modules import LayerData, Replaced, Run
from ws_learner.deploy.runtime.number_formats import Dtype
from ws_learner.deploy.runtime.output_comparison import distance

__all__ = [
    "DENSE",
    "KernelChoice",
    "build",
    "is_sound",
    "label",
    "may_be_bytes",
    "select_kernel",
]

DENSE = "dense"
_MOST_ERROR = 0.02
_FLOATS_WITHIN = 1e-3
_MOST_GAIN = {"dense onednn": 4.0, "dense int8": 16.0}  # over PyTorch's layer, on any processor
_CACHED = 1 << 17  # weights that are made floats at a time
_BYTES_SLACK = (4.0, 0.1)  # times the error that bytes cost anyway, and more


@dataclass(frozen=True, kw_only=True)
class KernelChoice:
    """The kernel chosen for a layer.

    Attributes:
        kernel: `dense` (the layer as it was), `dense onednn` (weight laid out beforehand),
            `dense channels_last` (convolutions), `dense int8`, `torch csr`, or a sparse kernel.
        speedup: Times faster than the dense layer, measured on this layer in isolation.
        pattern: Largest block shape that the zeros come in, outputs x inputs, or `dense`; the
            kernel's own may be smaller.
        density: Share of nonzero weights.
        shape: Of the input it was timed on.
        spec: Settings of the sparse kernel, or None.
    """

    kernel: str
    speedup: float
    pattern: str
    density: float
    shape: tuple[int, ...]
    spec: Spec | None = None

    @property
    def in_bytes(self) -> bool:
        """Whether inputs and weights are multiplied as bytes."""
        return self.kernel == "dense int8" if self.spec is None else self.spec.int8

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def read(cls, plain: dict[str, Any]) -> KernelChoice:
        """The counterpart of `plain`.

        Raises:
            KeyError, TypeError, ValueError: Something is missing, or no such kernel is made.
        """
        spec = None if plain["spec"] is None else Spec(**plain["spec"])
        if spec is not None and not is_known(spec):
            raise ValueError(f"kernel {plain['kernel']}")
        return cls(**{**plain, "shape": tuple(plain["shape"]), "spec": spec})


def select_kernel(
    data: LayerData,
    dense: Callable[[Tensor], Tensor],
    sample: Tensor,
    *,
    int8: bool,
    threads: int,
) -> KernelChoice:
    """Hold the trial for one layer.

    Args:
        data: The layer.
        dense: The layer as it was, activation included.
        sample: An input of it.
        int8: Whether bytes may be tried, too; see `may_be_bytes`.
        threads: That kernels may use.
    """
    specs = _specs(data, sample, int8=int8)
    kernels: dict[str, Run] = {n: data.bound(spec) for n, spec in specs.items()}
    with torch.no_grad():
        wanted = dense(sample)
        within = _BYTES_SLACK[0] * _error(data, sample) + _BYTES_SLACK[1] if int8 else 0.0
        trial = _Trial(
            data=data, dense=dense, sample=sample, wanted=wanted, within=within, threads=threads
        )
        in_turn = kernels and data.geometry is None
        found = trial.of(kernels) if in_turn else None
        rivals = _rivals(data, found, int8=int8)
        if found is None or rivals:
            kept = [found.winner] if found else list(kernels)
            found = trial.of({n: kernels[n] for n in kept if n in kernels} | rivals)
    return KernelChoice(
        kernel=found.winner,
        speedup=found.speedup,
        pattern=largest_block(data.live),
        density=data.live.density,
        shape=tuple(sample.shape),
        spec=specs.get(found.winner),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Trial:
    """What all candidates of one layer have in common."""

    data: LayerData
    dense: Callable[[Tensor], Tensor]
    sample: Tensor
    wanted: Tensor
    within: float
    threads: int

    def of(self, runners: Mapping[str, Run]) -> TimedTrial:
        """Compare the sound ones with the dense layer, without Python around the kernels."""
        sample, dense = self.sample, self.dense
        runs: dict[str, Callable[[], object]] = {DENSE: lambda: dense(sample)}
        empty = sample[:0] if sample.dim() > 1 else None
        idle = None if empty is None else (lambda: dense(empty))
        reach: Callable[[], object] | None = None
        flat = sample.detach().reshape(-1, sample.shape[-1]).contiguous()
        for name, run in runners.items():
            module = Replaced(self.data, lambda run=run: run, threads=self.threads)  # type: ignore[misc]
            within = self.within if "int8" in name else _FLOATS_WITHIN
            if not is_sound(module(sample), self.wanted, within=within):
                continue
            if isinstance(run, Tokens) and self.data.geometry is None:
                runs[name] = run.timed(flat, threads=self.threads)
                reach = None if empty is None else (lambda module=module: module(empty))
            else:
                runs[name] = lambda module=module: module(sample)  # type: ignore[misc]
        return fastest(runs, DENSE, threads=self.threads, idle=idle, reach=reach)


def may_be_bytes(data: LayerData, sample: Tensor, dtype: Dtype) -> bool:
    """Whether a layer may be multiplied in bytes.

    `fp32`: never; `int8`: always; `auto`: where its output moves by at most 2 % of its size.
    """
    if dtype == "fp32" or data.source is None:
        return False
    return dtype == "int8" or _error(data, sample) <= _MOST_ERROR


def is_sound(got: Tensor, wanted: Tensor, *, within: float) -> bool:
    """Whether outputs match the layer's within a relative tolerance; every engine is checked."""
    error, norm = distance(got, wanted)
    return error <= within * norm + 1e-6


def build(data: LayerData, choice: KernelChoice, *, threads: int) -> nn.Module | None:
    """The module for a choice, bound when it is first needed; None where the layer stays."""
    if choice.kernel == DENSE:
        return None
    if choice.spec is not None:
        return Replaced(data, partial(data.bound, choice.spec), threads=threads)
    return Replaced(data, partial(_baseline, data, choice.kernel), threads=threads)


def _baseline(data: LayerData, name: str) -> Runner:
    """That engine, or PyTorch's layer where this build of PyTorch lacks it."""
    return data.rival(name) or data.dense()


def _specs(data: LayerData, sample: Tensor, *, int8: bool) -> dict[str, Spec]:
    channels = data.geometry is not None
    # Positions of an image, at most; a convolution's kernel works image by image.
    tokens = int(np.prod(sample.shape[2:] if channels else sample.shape[:-1]))
    found = candidates(data.live, tokens=tokens, channels=channels, int8=int8)
    if data.geometry is not None:
        found = with_direct(found, data.geometry, channels=sample.shape[-3])
    return {label(spec): replace(spec, activation=data.activation) for spec in found}


def label(spec: Spec) -> str:
    """What a report calls a kernel."""
    more = {"vector": " vector", "images": " direct"}.get(spec.layout, "")
    return f"{spec.name} {spec.group}x{spec.vectors}{more}"


def _rivals(data: LayerData, found: TimedTrial | None, *, int8: bool) -> dict[str, Runner]:
    """Other engines of the layer, without those that the best kernel has left far behind."""
    names = ["dense onednn", *["dense int8"] * int8]
    if data.geometry is not None:
        names.append("dense channels_last")
    elif not usable_isas():
        names.append("torch csr")
    if found is not None:
        ahead = found.seconds[DENSE] / max(min(found.seconds.values()), 1e-9)
        names = [name for name in names if ahead < _MOST_GAIN.get(name, math.inf)]
    return {name: run for name in names if (run := data.rival(name)) is not None}


def _error(data: LayerData, sample: Tensor) -> float:
    """Relative error of the layer's output in INT8."""
    if data.source is None:
        return float("inf")
    flat = sample if data.geometry is None else data.geometry.columns(sample).transpose(1, 2)
    x = flat.detach().reshape(-1, data.weight.shape[1]).numpy()
    weight, scales = data.quantised()
    rough = (data.source.quantise(x).astype(np.float32) - data.source.zero) * data.source.scale
    moved = size = 0.0
    step = max(1, _CACHED // max(weight.shape[1], 1))
    for first in range(0, len(weight), step):  # floats of a large weight would leave the caches
        part = slice(first, first + step)
        exact = x @ data.weight[part].T
        got = rough @ (weight[part].astype(np.float32) * scales[part, None]).T
        moved += float(np.square(got - exact, dtype=np.float64).sum())
        size += float(np.square(exact, dtype=np.float64).sum())
    return math.sqrt(moved) / max(math.sqrt(size), 1e-12)
