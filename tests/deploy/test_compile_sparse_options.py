"""Options of the runtime: what is refused, what a report says, what calibration does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.sparse_layers import pruned
from ws_learner.core.errors import UserError
from ws_learner.deploy.runtime import compile_sparse, load_sparse, read_wsr, write_wsr
from ws_learner.deploy.runtime import selection as choice
from ws_learner.deploy.runtime.autotune import TimedTrial
from ws_learner.deploy.runtime.candidates import candidates, is_known, largest_block
from ws_learner.deploy.runtime.codegen.cpu import ISAS, usable_isas
from ws_learner.deploy.runtime.quantisation import RangeObserver
from ws_learner.deploy.runtime.selection import KernelChoice


def small(pattern: str = "4x1") -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 5)]
    return pruned(nn.Sequential(*layers), pattern, 0.6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calibration_method": "entropy"}, "calibration_method entropy: Allowed: auto, minmax"),
        ({"dtype": "int4"}, "`dtype` int4"),
        ({"threads": 0}, "threads 0"),
        ({"threads": 1.5}, r"threads 1\.5"),
        ({"example_inputs": torch.zeros(0, 24)}, "example_inputs"),
    ],
)
def test_unknown_options(options: dict[str, Any], message: str) -> None:
    given = {"example_inputs": torch.randn(4, 24)} | options
    with pytest.raises(UserError, match=message):
        compile_sparse(small(), **given)


@pytest.mark.long
def test_files_that_say_too_little_or_nonsense(tmp_path: Path) -> None:
    path = tmp_path / "m.wsr"
    compile_sparse(small(), torch.randn(4, 24)).save(path)
    with pytest.raises(UserError, match="threads 0"):
        load_sparse(path, threads=0)
    tensors, facts = read_wsr(path)
    for name in facts.keys() - {"kind", "fused", "norms"}:  # the last two came later
        write_wsr(path, tensors, metadata={k: v for k, v in facts.items() if k != name})
        with pytest.raises(UserError, match=name):
            load_sparse(path)
    first = facts["choices"]["0"]
    group = {"isa": "avx2", "dot": "fma", "rows": 4, "inputs": 1, "group": 64, "vectors": 2}
    wrong: list[dict[str, Any]] = [
        {"choices": 3},
        {"choices": {"0": {}}},
        {"choices": {"0": first | {"spec": group}}},  # would write beyond its memory
        {"choices": {"0": first | {"spec": {"isa": "avx2"}}}},
        {"choices": {"9": first}},
        {"sources": []},
        {"sources": {"0": [0.0, 3], "2": None}},
        {"architecture": {"class": "Linear", "settings": {"in_features": "a"}}},
        {"architecture": 7},
        {"dtype": "int4"},
        {"speedup": None},
        {"fused": 3},
        {"fused": [3]},
    ]
    for change in wrong:
        write_wsr(path, tensors, metadata=facts | change)
        with pytest.raises(UserError, match=r"m\.wsr"):
            load_sparse(path)
    write_wsr(path, {"w": torch.ones(2, 2)}, metadata={"kind": "compiled"})
    with pytest.raises(UserError, match="does not say architecture"):
        load_sparse(path)


def test_every_kernel_that_is_tried_is_known_and_no_other() -> None:
    rng = np.random.default_rng(0)
    weight = np.kron(rng.random((4, 32)) < 0.3, np.ones((16, 4))).astype(np.float32)
    for isa in ISAS.values():
        for tokens in (1, 7, 17, 40, 128, 1000):
            found = candidates(weight, tokens=tokens, int8=True, isas=(isa,))
            found += candidates(weight, tokens=tokens, channels=True, int8=True, isas=(isa,))
            assert found
            assert all(is_known(spec) for spec in found)
            for spec in found:
                for name, value in (("group", 64), ("rows", 3), ("vectors", 64), ("isa", "x")):
                    plain = {**vars(spec), name: value}
                    with pytest.raises((KeyError, TypeError, ValueError)):
                        KernelChoice.read({"kernel": "k", "shape": [1], "spec": plain})


@pytest.mark.parametrize("shape", [(64, 128), (61, 130)])
@pytest.mark.parametrize("pattern", ["16x4", "4x4", "1x4", "4x1", "2x1", "unstructured"])
def test_the_pattern_named_is_the_coarsest_there_is(pattern: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    rows, inputs = (1, 1) if pattern == "unstructured" else map(int, pattern.split("x"))
    live = rng.random((-(-shape[0] // rows), -(-shape[1] // inputs))) < 0.15
    weight = np.kron(live, np.ones((rows, inputs)))[: shape[0], : shape[1]]
    assert largest_block(weight) == pattern
    assert largest_block(np.ones(shape)) == "dense"


@pytest.mark.long
def test_the_report_of_dense_and_of_blocked_layers() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 48), nn.Linear(48, 10), nn.Linear(10, 70))
    pruned(model[1], "16x4", 0.7)
    report = compile_sparse(model.eval(), torch.randn(2, 40)).report()
    assert list(report["pattern"]) == ["dense", "16x4", "dense"]


def test_percentiles_are_those_of_the_data() -> None:
    torch.manual_seed(0)
    values = torch.rand(10_000) * 2 - 0.5
    values[17] = 1e4  # one in 10,000 beyond all others
    least, inner = RangeObserver("minmax"), RangeObserver("percentile", percentile=99.9)
    for observer in (least, inner):
        observer.see(values)
    low, high = np.quantile(values.numpy().astype(np.float64), [0.001, 0.999])
    found = inner.settle()
    assert found.scale == pytest.approx((high - low) / 255, rel=1e-3)
    assert found.zero == pytest.approx(-low / found.scale, abs=1)
    assert least.settle().scale > 1000 * found.scale


@pytest.mark.long
@pytest.mark.skipif(not usable_isas(), reason="no generated kernels here")
def test_percentile_calibration_of_a_network_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "fastest", bytes_win)
    monkeypatch.setattr("ws_learner.deploy.runtime.acceptance.fastest", bytes_win)
    model, x = small("4x4"), torch.randn(40_000, 24)
    far = x.clone()
    far[3, 5] = 3e3
    errors = {}
    for method in ("minmax", "percentile", "auto"):
        fast = compile_sparse(
            model, x[:200], dtype="int8", calibration=[far], calibration_method=method
        )
        with torch.no_grad():
            errors[method] = float((fast(x) - model(x)).norm() / model(x).norm())
    assert errors["percentile"] < 0.05 < 0.2 < errors["minmax"]
    far_error = {}
    for method in ("minmax", "percentile", "auto"):
        fast = compile_sparse(
            model, far[:200], dtype="int8", calibration=[far], calibration_method=method
        )
        with torch.no_grad():
            far_error[method] = float((fast(far) - model(far)).norm())
    assert far_error["auto"] == min(far_error.values())  # of the data that it was shown


def bytes_win(runs: dict[str, object], base: str, **_: object) -> TimedTrial:
    wanted = [n for n in runs if n.startswith(("int8", "compiled"))] or [base]
    return TimedTrial(winner=wanted[-1], speedup=2.0, seconds={n: 1.0 + (n == base) for n in runs})


@pytest.mark.long
@pytest.mark.skipif(not usable_isas(), reason="no generated kernels here")
def test_auto_uses_bytes_only_where_they_move_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "fastest", bytes_win)
    monkeypatch.setattr("ws_learner.deploy.runtime.acceptance.fastest", bytes_win)
    model, x = small("4x4"), torch.randn(500, 24)
    fine = compile_sparse(model, x, dtype="auto", calibration=[x])
    assert fine.report()["kernel"].str.startswith("int8").all()
    assert fine.agreement["relative_error"] < 0.05
    x[:, 0] *= 2000  # all other inputs fall into one step of the bytes
    with torch.no_grad():
        model[0].weight[:, 0] = 0  # type: ignore[index]
    coarse = compile_sparse(model, x, dtype="auto", calibration=[x])
    assert list(coarse.report()["kernel"].str.startswith("int8")) == [False, True]
