"""Kernel selection: time all suitable kernels on a layer's inputs and keep the fastest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ws_learner.deploy.runtime.autotune import fastest
from ws_learner.deploy.runtime.candidates import candidates, is_known, largest_block
from ws_learner.deploy.runtime.codegen.cpu import usable_isas
from ws_learner.deploy.runtime.codegen.spec import Spec
from ws_learner.deploy.runtime.dense_baselines import Runner
from ws_learner.deploy.runtime.modules import LayerData, Replaced
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
    weight = data.weight
    specs = _specs(data, sample, int8=int8)
    runs: dict[str, Callable[[], Tensor]] = {}
    for name, run in _runs(data, specs, int8=int8).items():
        module = Replaced(data, lambda run=run: run, threads=threads)  # type: ignore[misc]
        runs[name] = lambda module=module: module(sample)  # type: ignore[misc]
    with torch.no_grad():
        wanted = dense(sample)
        bytes_ = _BYTES_SLACK[0] * _error(data, sample) + _BYTES_SLACK[1] if int8 else 0.0
        sound = {
            name: run
            for name, run in runs.items()
            if is_sound(run(), wanted, within=bytes_ if "int8" in name else _FLOATS_WITHIN)
        }
        trial = fastest({DENSE: lambda: dense(sample)} | sound, DENSE, threads=threads)
    return KernelChoice(
        kernel=trial.winner,
        speedup=trial.speedup,
        pattern=largest_block(weight),
        density=float(np.count_nonzero(weight)) / max(weight.size, 1),
        shape=tuple(sample.shape),
        spec=specs.get(trial.winner),
    )


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
        return Replaced(data, partial(data.kernel, choice.spec), threads=threads)
    return Replaced(data, partial(_baseline, data, choice.kernel), threads=threads)


def _baseline(data: LayerData, name: str) -> Runner:
    """That engine, or PyTorch's layer where this build of PyTorch lacks it."""
    return data.rival(name) or data.dense()


def _specs(data: LayerData, sample: Tensor, *, int8: bool) -> dict[str, Spec]:
    channels = data.geometry is not None
    # Positions of an image, at most; a convolution's kernel works image by image.
    tokens = int(np.prod(sample.shape[2:] if channels else sample.shape[:-1]))
    found = candidates(data.weight, tokens=tokens, channels=channels, int8=int8)
    return {label(spec): replace(spec, activation=data.activation) for spec in found}


def label(spec: Spec) -> str:
    """What a report calls a kernel."""
    return f"{spec.name} {spec.group}x{spec.vectors}" + (" vector" * (spec.layout == "vector"))


def _runs(data: LayerData, specs: dict[str, Spec], *, int8: bool) -> dict[str, Any]:
    runs: dict[str, Any] = {label: data.kernel(spec) for label, spec in specs.items()}
    baselines = ["dense onednn", *["dense int8"] * int8]
    if data.geometry is not None:
        baselines.append("dense channels_last")
    elif not usable_isas():
        baselines.append("torch csr")
    return runs | {name: run for name in baselines if (run := data.rival(name)) is not None}


def _error(data: LayerData, sample: Tensor) -> float:
    """Relative error of the layer's output in INT8."""
    if data.source is None:
        return float("inf")
    flat = sample if data.geometry is None else data.geometry.columns(sample).transpose(1, 2)
    x = flat.detach().reshape(-1, data.weight.shape[1]).numpy()
    weight, scales = data.quantised()
    rough = (data.source.quantise(x).astype(np.float32) - data.source.zero) * data.source.scale
    exact = x @ data.weight.T
    moved = rough @ (weight.astype(np.float32) * scales[:, None]).T - exact
    return float(np.linalg.norm(moved) / max(float(np.linalg.norm(exact)), 1e-12))
