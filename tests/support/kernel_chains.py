"""Layers for chains of kernels, and the result of the same kernels run one by one."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tests.support.sparse_layers import block_matrix
from ws_learner.deploy.runtime.codegen.cpu import ISAS, usable_isas
from ws_learner.deploy.runtime.codegen.spec import Spec
from ws_learner.deploy.runtime.modules import LayerData
from ws_learner.deploy.runtime.quantisation import InputScale


def spec_of(isa: str, kind: str, vectors: int) -> Spec:
    """A kernel that exists on `isa`; AMX has none of floats."""
    if kind == "fp32":
        own = "avx512vnni" if isa == "amx" else isa
        return Spec(isa=own, dot="fma", rows=4, inputs=1, group=4, vectors=vectors)
    dot = ISAS[isa].dot
    return Spec(
        isa=isa,
        dot=dot,
        rows=16,
        inputs=4,
        group=16 if dot == "amx" else 4,
        vectors=vectors,
    )


def layers(
    widths: list[int], rows: int, inputs: int, *, density: float = 0.3, seed: int = 0
) -> list[LayerData]:
    rng = np.random.default_rng(seed)
    found = []
    for number, (k, n) in enumerate(itertools.pairwise(widths)):
        last = number == len(widths) - 2
        found.append(
            LayerData(
                weight=block_matrix(rng, (n, k), (rows, inputs), density),
                bias=rng.standard_normal(n).astype(np.float32),
                activation="none" if last else ("relu", "gelu")[number % 2],
                source=InputScale.of_range(-3.0, 5.0),
            )
        )
    return found


def one_by_one(datas: list[LayerData], specs: list[Spec], x: Tensor) -> Tensor:
    """Bytes as bytes, and floats as floats, in memory as PyTorch has them."""
    for number, (data, spec) in enumerate(zip(datas, specs, strict=True)):
        before = "u8" if number and spec.int8 else "f32"
        after = "u8" if spec.int8 and number + 1 < len(datas) else "f32"
        target = datas[number + 1].source if after == "u8" else None
        x = data.kernel(replace(spec, source=before, result=after), target=target).tokens(x)
    return x


def long_chain() -> tuple[list[LayerData], list[Spec], Tensor]:
    """More tokens than a block holds, so that parts have several."""
    isa = usable_isas()[-1].name
    specs = [spec_of(isa, "fp32", 2)] * 2
    datas = layers([40, 3000, 24], 4, 1, density=0.05)
    return datas, specs, torch.randn(331, 40, generator=torch.Generator().manual_seed(2))
