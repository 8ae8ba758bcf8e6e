from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from experiments.inspect_model import main as inspect
from experiments.models.vit import vit
from tests.support.nm_oracle import mask_of
from ws_learner.core.errors import UserError
from ws_learner.deploy.shrinking.permute_mlp import find_mlps, permute_mlps, search_permutation
from ws_learner.deploy.shrinking.semi_structured import (
    is_two_of_four,
    size_limits,
    to_semi_structured,
    why_dense,
)
from ws_learner.pruning.methods.sdgf import SdgfConfig
from ws_learner.pruning.patterns.nm import NM
from ws_learner.pruning.sparsifier import Sparsifier


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(8, 32), nn.Linear(16, 8)  # a GLU halves the units


def test_mlps_are_permuted_and_outputs_stay() -> None:
    torch.manual_seed(0)
    model = vit(image=8, patch=2, width=16, depth=2, heads=2).double().eval()
    before, inputs = copy.deepcopy(model), torch.randn(2, 3, 8, 8).double()
    assert find_mlps(model) == (
        ("blocks.0.mlp.fc1", "blocks.0.mlp.fc2"),
        ("blocks.1.mlp.fc1", "blocks.1.mlp.fc2"),
    )
    done = permute_mlps(model, NM(2, 4))
    torch.testing.assert_close(model(inputs), before(inputs), rtol=1e-12, atol=1e-12)
    for row in done:
        weight = before.get_submodule(row.second).weight.detach().numpy()
        kept = (np.abs(weight) * mask_of(weight, 2, 4)).sum() / np.abs(weight).sum()
        assert row.before == pytest.approx(kept)
        assert row.after > row.before  # random weights always leave something to gain
    assert find_mlps(Gated()) == ()


@settings(max_examples=40)
@given(
    outputs=st.integers(1, 6),
    inputs=st.integers(1, 30),
    m=st.integers(2, 8),
    seed=st.integers(0, 9),
)
def test_a_permutation_never_keeps_less(outputs: int, inputs: int, m: int, seed: int) -> None:
    weight = np.random.default_rng(seed).normal(size=(outputs, inputs))
    order = search_permutation(torch.from_numpy(weight), NM(1, m), rounds=30).numpy()
    assert sorted(order) == list(range(inputs))
    tail = inputs - inputs % m
    np.testing.assert_array_equal(order[tail:], np.arange(tail, inputs))
    kept = [(np.abs(w) * mask_of(w, 1, m)).sum() for w in (weight, weight[:, order])]
    assert kept[1] >= kept[0] - 1e-12


def test_what_counts_as_two_of_four() -> None:
    weight = torch.randn(8, 32)
    assert not is_two_of_four(weight)
    for n, m in ((2, 4), (1, 4), (2, 8), (1, 16)):
        assert is_two_of_four(weight * NM(n, m).whole_mask(weight.abs()))
    assert not is_two_of_four(weight * NM(4, 8).whole_mask(weight.abs()).logical_or(weight > 9))
    assert not is_two_of_four(torch.zeros(4, 6))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_why_a_weight_stays_dense(dtype: torch.dtype) -> None:
    rows, columns = size_limits(dtype)

    def pruned(outputs: int, inputs: int) -> torch.Tensor:
        return torch.tensor([1.0, 0, 0, 1]).repeat(outputs, inputs // 4)

    kind = torch.sparse.SparseSemiStructuredTensorCUSPARSELT
    if torch.sparse.SparseSemiStructuredTensor._FORCE_CUTLASS:
        kind = torch.sparse.SparseSemiStructuredTensorCUTLASS
    for outputs, inputs in ((rows, columns), (3 * rows, 2 * columns)):
        assert why_dense(pruned(outputs, inputs), dtype=dtype) is None
        # torch's own check agrees; it looks at nothing but the shape and the kind of number
        kind._validate_device_dim_dtype_shape(_Placed(pruned(outputs, inputs).to(dtype)))
    for outputs, inputs in ((rows + 1, columns), (rows, columns + 4), (rows // 2, columns)):
        wanted = f"is {outputs}x{inputs}; torch takes multiples of {rows}x{columns}"
        assert why_dense(pruned(outputs, inputs), dtype=dtype) == wanted
        with pytest.raises(RuntimeError, match="multiple of"):
            kind._validate_device_dim_dtype_shape(_Placed(pruned(outputs, inputs).to(dtype)))
    assert why_dense(torch.ones(rows, columns), dtype=dtype) == "is not 2:4"


class _Placed:
    """A tensor that says it is on a GPU."""

    is_cuda = True

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tensor, name)


def test_without_a_gpu_the_line_says_so() -> None:
    with pytest.raises(UserError, match="the network is on cpu"):
        to_semi_structured(nn.Linear(64, 64))
    with pytest.raises(UserError, match="float16 or bfloat16"):
        to_semi_structured(nn.Linear(64, 64), dtype=torch.float32)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_outputs_stay() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(128, 256), nn.GELU(), nn.Linear(256, 128))
    with torch.no_grad():
        for name in (0, 2):
            weight = model[name].weight
            weight.mul_(NM(2, 4).whole_mask(weight.abs()))
    half = copy.deepcopy(model).cuda().half()
    inputs = torch.randn(64, 128, device="cuda", dtype=torch.float16)
    assert to_semi_structured(model.cuda()) == ["0.weight", "2.weight"]
    torch.testing.assert_close(model(inputs), half(inputs), rtol=1e-2, atol=1e-2)
    with pytest.raises(UserError, match=r"no Linear weight fits \(weight is not 2:4\)"):
        to_semi_structured(nn.Linear(128, 128).cuda())


def test_inspect_verifies_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    config = SdgfConfig(pattern=NM(2, 4))
    sparsifier = Sparsifier(model, config, ratios={"0.weight": 0.5}, total_steps=8)
    sparsifier.attach(optimizer)
    for _ in range(8):
        model(torch.randn(2, 16)).sum().backward()
        optimizer.step()
    save_file(sparsifier.finalize().state_dict(), tmp_path / "m.safetensors")
    assert inspect([str(tmp_path / "m.safetensors"), "--pattern", "2:4", "--csv"]) == 0
    rows = [line.split(",") for line in capsys.readouterr().out.splitlines()]
    share = {row[0]: row[rows[0].index("block_sparsity")] for row in rows[1:]}
    assert (float(share["0.weight"]), float(share["1.weight"])) == (1, 0)
    assert inspect([str(tmp_path / "m.safetensors"), "--pattern", "1:8@ff"]) == 2
