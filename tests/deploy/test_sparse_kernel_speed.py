"""The one test that looks at a clock: zeros must not stop paying. Loose, and of processor time."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from benchmarks.paired import paired
from tests.support.sparse_layers import block_matrix
from ws_learner.deploy.runtime.codegen.cpu import usable_isas
from ws_learner.deploy.runtime.codegen.sparse_kernel import SparseKernel
from ws_learner.deploy.runtime.codegen.spec import Spec

AVX512 = "avx512" in {isa.name for isa in usable_isas()}


@pytest.mark.long
@pytest.mark.skipif(not AVX512, reason="the gate is set for AVX-512")
def test_blocks_of_four_at_80_percent_are_twice_as_fast_as_dense() -> None:
    weight = block_matrix(np.random.default_rng(0), (1024, 768), (4, 1), 0.2)
    spec = Spec(isa="avx512", dot="fma", rows=4, inputs=1, group=4, vectors=4)
    kernel, dense = SparseKernel(spec, weight, None), torch.from_numpy(weight)
    x = torch.randn(128, 768)
    result = paired(
        lambda: torch.nn.functional.linear(x, dense),
        lambda: kernel.tokens(x),
        rounds=30,
        clock=time.thread_time,
    )
    assert result.median >= 2, result
