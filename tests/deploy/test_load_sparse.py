"""What `load_sparse` refuses, and how large layers may be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.sparse_layers import pruned
from ws_learner.core.errors import UserError
from ws_learner.deploy.runtime import compile_sparse, load_sparse, read_wsr, write_wsr
from ws_learner.deploy.runtime.candidates import candidates
from ws_learner.deploy.runtime.codegen.cpu import ISAS, usable_isas
from ws_learner.deploy.runtime.codegen.sparse_kernel import SparseKernel
from ws_learner.deploy.runtime.codegen.spec import MOST_TILE_INPUTS, Spec


def saved(path: Path) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 5)]
    model = pruned(nn.Sequential(*layers), "4x1", 0.6)
    compile_sparse(model, torch.randn(4, 24)).save(path)
    return model


def test_a_file_of_weights_alone_is_no_network(tmp_path: Path) -> None:
    write_wsr(tmp_path / "w.wsr", {"0.weight": torch.eye(4)})
    with pytest.raises(UserError, match="holds only weights"):
        load_sparse(tmp_path / "w.wsr")


def test_layers_that_are_not_pytorchs_are_not_built(tmp_path: Path) -> None:
    saved(tmp_path / "m.wsr")
    tensors, facts = read_wsr(tmp_path / "m.wsr")
    facts["architecture"]["parts"]["1"]["class"] = "Popen"
    write_wsr(tmp_path / "m.wsr", tensors, metadata=facts)
    with pytest.raises(UserError, match="cannot be built"):
        load_sparse(tmp_path / "m.wsr")


@pytest.mark.parametrize(
    "other",
    [
        nn.Sequential(nn.Linear(24, 17), nn.ReLU(), nn.Linear(17, 5)),
        nn.Sequential(nn.Linear(24, 16), nn.ReLU()),
        nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 5), nn.Linear(5, 5)),
    ],
    ids=["wider", "shorter", "longer"],
)
def test_a_network_that_the_file_is_not_of(tmp_path: Path, other: nn.Module) -> None:
    saved(tmp_path / "m.wsr")
    with pytest.raises(UserError, match=r"m\.wsr"):
        load_sparse(tmp_path / "m.wsr", other)


def test_a_file_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "m.wsr"
    model = saved(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="damaged or incomplete"):
        load_sparse(path, model)


def test_more_inputs_than_tiles_can_index() -> None:
    wide = np.zeros((16, MOST_TILE_INPUTS + 4), np.float32)
    wide[:, -4:] = 1
    specs = candidates(wide, tokens=32, fp32=False, int8=True, isas=tuple(ISAS.values()))
    assert specs
    assert all(spec.dot != "amx" for spec in specs)
    narrow = candidates(wide[:, 4:], tokens=32, fp32=False, int8=True, isas=tuple(ISAS.values()))
    assert any(spec.dot == "amx" for spec in narrow)
    if any(isa.dot == "amx" for isa in usable_isas()):
        spec = Spec(isa="amx", dot="amx", rows=16, inputs=4, group=16, vectors=1)
        with pytest.raises(ValueError, match="at most"):
            SparseKernel(spec, wide.astype(np.int8), None)


@pytest.mark.skipif(not usable_isas(), reason="no generated kernels here")
def test_inputs_beyond_the_range_of_an_index() -> None:
    """Indices have 16 bits and count within a panel: a layer may be wider than they reach."""
    isa, inputs = usable_isas()[-1], 70_001
    spec = Spec(isa=isa.name, dot="fma", rows=1, inputs=1, group=1, vectors=1)
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((3, inputs)) * (rng.random((3, inputs)) < 0.01)).astype("f4")
    x = rng.standard_normal((2, inputs)).astype(np.float32)
    got = SparseKernel(spec, weight, None).tokens(torch.from_numpy(x)).numpy()
    wanted = x.astype(np.float64) @ weight.T.astype(np.float64)
    np.testing.assert_allclose(got, wanted, atol=1e-3)
