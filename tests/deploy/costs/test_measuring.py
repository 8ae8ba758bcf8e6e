"""Measurements are made once, kept, and refused where they would mean nothing."""

from __future__ import annotations

import fcntl
import importlib.util
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from envs import LayerRow
from ws_learner.config import parse_budgets
from ws_learner.core import LayerChoice, UserError
from ws_learner.deploy import (
    MeasuredCosts,
    dense_latency,
    dense_paces,
    measure_costs,
    measure_latency,
    measure_together,
)
from ws_learner.deploy.costs import engines, trials
from ws_learner.deploy.costs.cache import measuring_alone
from ws_learner.deploy.costs.specimens import find_specimens
from ws_learner.deploy.costs.timing import Timing
from ws_learner.pruning import layer_table

X = torch.randn(2, 16)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.Linear(32, 32)).eval()


def choices(layers: tuple[LayerRow, ...], dtype: Any = "fp32") -> list[list[LayerChoice]]:
    dense = LayerChoice(pattern="unstructured", zeros=0, dtype=dtype)
    return [
        [dense, LayerChoice(pattern="4x1", zeros=row.weights // 8 * 4, dtype=dtype)]
        for row in layers
    ]


@pytest.mark.long
def test_a_second_call_reads_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    layers = layer_table(model, X)
    options: dict[str, Any] = {"engine": "wsr", "cache_dir": tmp_path, "densities": (0.1, 0.5)}
    first = measure_costs(model, X, layers, choices(layers), **options)
    assert first.dense_ms is not None
    assert first.dense_ms > 0
    assert all(first.cost(i, c) > 0 for i, own in enumerate(choices(layers)) for c in own)
    kinds = {key for row in first.layers for key in row.calls}
    assert len(kinds) == 2, "the last two layers are alike, the first has another shape"
    monkeypatch.setattr(trials, "KernelTrials", None)
    again = measure_costs(network(), X, layers, choices(layers), **options)
    assert again == first
    assert again.digest == first.digest


def test_engines_without_sparse_kernels_say_that_zeros_gain_nothing(tmp_path: Path) -> None:
    model = network()
    layers = layer_table(model, X)
    own = choices(layers)
    table = measure_costs(model, X, layers, own, engine="torch", cache_dir=tmp_path)
    for place, (dense, sparse) in enumerate(own):
        assert table.cost(place, dense) == table.cost(place, sparse) >= table.floor
    whole = table.overhead + sum(table.cost(i, dense) for i, (dense, _) in enumerate(own))
    assert whole == pytest.approx(table.dense_ms), "the dense network is met"
    assert table.unit == "latency@torch"


def test_layers_are_counted_as_often_as_they_run() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.again, self.lstm = nn.Linear(16, 16), nn.LSTM(16, 16)

        def forward(self, x: torch.Tensor) -> Any:
            return self.lstm(self.again(self.again(x)))[0]

    model = Twice().eval()
    row = LayerRow(name="", kind="linear", role="other", shape=(16, 16), weights=256, macs=0)
    names = ("again.weight", "lstm.weight_ih_l0")
    calls, found = find_specimens(model, X, [replace(row, name=name) for name in names])
    assert [sum(calls[name].values()) for name in names] == [2, 0]
    assert len(found) == 1


def test_a_single_layer_is_a_network() -> None:
    model = nn.Linear(16, 8)
    layers = layer_table(model, X)
    calls, _ = find_specimens(model, X, layers)
    assert sum(calls["weight"].values()) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"engine": "tensorrt"}, "`engine` tensorrt: .*Allowed: onnxruntime, openvino, torch, wsr"),
        ({"threads": 0}, "threads 0"),
        ({"densities": (0.0, 0.5)}, "`densities`"),
        ({"choices": []}, "there are 0 for 3 layers"),
        ({"choices": [[LayerChoice(pattern="mha", zeros=16)]] * 3}, "`pattern` mha: goes across"),
        ({"engine": "torch", "choices": "int8"}, "`dtype` int8: PyTorch runs float32"),
    ],
)
def test_refused_before_anything_is_measured(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model = network()
    layers = layer_table(model, X)
    given: dict[str, Any] = {"engine": "wsr", "choices": choices(layers)} | change
    if given["choices"] == "int8":
        given["choices"] = choices(layers, "int8")
    own = given.pop("choices")
    with pytest.raises(UserError, match=message):
        measure_costs(model, X, layers, own, cache_dir=tmp_path, **given)
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        engines.importlib.util, "find_spec", lambda n: None if n == "openvino" else find(n)
    )
    with pytest.raises(UserError, match=r"`engine` openvino: .*pip install openvino"):
        measure_latency(network(), X, engine="openvino")
    assert "openvino" not in engines.installed_engines()


@pytest.mark.parametrize("dtype", ["int4", {"0.weight": "int4"}])
def test_formats_are_checked(dtype: Any) -> None:
    with pytest.raises(UserError, match=r"`dtype` int4: .*Allowed: fp32, int8"):
        measure_latency(network(), X, engine="torch", dtype=dtype)


def test_torch_does_not_pretend_to_run_bytes() -> None:
    with pytest.raises(UserError, match="`dtype` int8: PyTorch runs"):
        measure_latency(network(), X, engine="torch", dtype={"0.weight": "int8"})


def test_latency_of_a_network_that_stays_as_it_was() -> None:
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = measure_latency(model, X, engine="torch")
    assert found.median_ms > 0
    assert found.spread >= 0
    assert (found.engine, found.threads) == ("torch", 1)
    assert found.versions == {"torch": torch.__version__}
    assert all(torch.equal(model.state_dict()[name], own) for name, own in before.items())


def test_networks_in_turn() -> None:
    networks: dict[str, Any] = {"one": (network(), "fp32"), "other": (nn.Linear(16, 4), "fp32")}
    found = measure_together(networks, X, engine="torch")
    assert list(found) == ["one", "other"]
    assert all(own.median_ms > 0 and own.rounds > 1 for own in found.values())


def test_the_fastest_dense_engine(capsys: pytest.CaptureFixture[str]) -> None:
    found = dense_latency(network(), X, engines=["torch"])
    assert found.engine == "torch"
    assert capsys.readouterr().err == "", "there is nothing to compare"
    with pytest.raises(UserError, match="`engine` tpu"):
        dense_latency(network(), X, engines=["tpu"])


def test_only_one_process_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The lock belongs to an open file, so that two in one process stand for two processes."""
    other = (tmp_path / ".measuring").open("w")
    fcntl.flock(other, fcntl.LOCK_EX)
    end = threading.Timer(0.2, other.close)
    end.start()
    with measuring_alone(tmp_path):
        assert other.closed, "it waited"
    end.join()
    assert "another process is measuring" in capsys.readouterr().err


def test_a_pace_takes_the_machines_speed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine at half its speed doubles both times, and the answer stays."""
    pace = dense_paces(network(), X, engines=["torch"])["torch"]
    pace = replace(pace, latency=replace(pace.latency, median_ms=4.0))
    for slower in (1.0, 2.0):
        times = {"": 3.0 * slower, "the pace": 4.0 * slower}

        def timed(runs: Mapping[str, object], own: dict[str, float] = times, **_: int) -> object:
            return {n: Timing(median_ms=own[n], low_ms=0, high_ms=0, rounds=9) for n in runs}

        monkeypatch.setattr("ws_learner.deploy.costs.latency._quiet_times", timed)
        assert measure_latency(network(), X, engine="torch", pace=pace).median_ms == 3.0
        alone = measure_latency(network(), X, engine="torch").median_ms
        assert alone == 3.0 * slower


def test_the_dense_network_is_compiled_once_for_its_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[object]()

    def counted(*given: Any, **words: Any) -> Any:
        made.append(words["engines"])
        return dense_paces(*given, **words)

    monkeypatch.setattr("ws_learner.deploy.costs.source.dense_paces", counted)
    source, (budget,) = MeasuredCosts(network(), X), parse_budgets("latency=0.5@torch")
    assert source.pace(budget, earlier=7.0) == 7.0
    assert source.pace(budget) == source.pace(budget, earlier=7.0) == 7.0
    assert len(made) == 1
