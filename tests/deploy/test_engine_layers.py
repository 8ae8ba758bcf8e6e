"""Latency by tables of layers: staircase kept, interpolation, calibration, cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.structured_nets import NETS
from ws_learner.core import UserError
from ws_learner.deploy import engine_unit_costs, find_coupled_units, network_ms, shrunk_ms
from ws_learner.deploy.costs import engine_layers
from ws_learner.deploy.costs.single_layers import LayerShape, layer_ms

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_layers_and_networks_take_time(engine: str) -> None:
    conv = LayerShape("conv", (1, 8, 8), (3, 3), (1, 1), (1, 1), (1, 1))
    depthwise = LayerShape("depthwise", (1, 8, 8), (3, 3), (1, 1), (1, 1), (1, 1))
    for shape in (conv, depthwise, LayerShape("linear", (4,))):
        assert layer_ms(shape, 4, 6, engine=engine) > 0
    model, example = NETS["chain"]()
    assert network_ms(model, example, engine=engine) > 0
    assert shrunk_ms(model, example, engine=engine) > 0


def fake_ms(shape: LayerShape, inputs: int, outputs: int, **_: object) -> float:
    """A staircase in the outputs, blocks of four."""
    return 1e-3 * inputs * -(-outputs // 4) * 4


def test_predictions_are_the_tables_and_the_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    model, example = NETS["chain"]()
    sets = find_coupled_units(model, example).sets
    monkeypatch.setattr(engine_layers, "layer_ms", fake_ms)

    def network(kept: dict[str, int]) -> float:
        a, b, c = (kept[name] for name in ("0", "3", "8"))
        up = [4 * -(-n // 4) for n in (a, b, c)]
        layers = 3 * up[0] + a * up[1] + 4 * b * up[2] + c * 4
        return 0.5 + 2e-3 * layers

    def measure(pruned: nn.Module) -> float:
        kept = {}
        for one in sets:
            weight = pruned.get_parameter(f"{one.name}.weight").flatten(1)
            kept[one.name] = int(weight.any(1).sum())
        return network(kept)

    costs = engine_unit_costs(model, example, sets, engine="onnxruntime", measure=measure)
    rng = np.random.default_rng(0)
    for _ in range(20):
        kept = [int(rng.choice(own)) for own in costs.levels]
        wanted = network({one.name: n for one, n in zip(sets, kept, strict=True)})
        assert costs.total(kept) == pytest.approx(wanted, rel=1e-3)
    assert costs.dense_ms == network({"0": 6, "3": 5, "8": 7})
    assert costs.unit == "latency@onnxruntime"


def test_times_are_kept_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, example = NETS["chain"]()
    sets = find_coupled_units(model, example).sets
    calls = []

    def counted(shape: LayerShape, inputs: int, outputs: int, **words: object) -> float:
        calls.append((shape, inputs, outputs))
        return fake_ms(shape, inputs, outputs)

    monkeypatch.setattr(engine_layers, "layer_ms", counted)
    made = [
        engine_unit_costs(
            model,
            example,
            sets,
            engine="onnxruntime",
            measure=lambda network: 1.0,
            points=3,
            cache_dir=tmp_path,
        )
        for _ in range(2)
    ]
    assert len(calls) == len(set(calls)) > 0
    assert made[0].digest == made[1].digest
    (file,) = tmp_path.iterdir()
    file.write_text("damaged")
    engine_unit_costs(
        model, example, sets, engine="onnxruntime", measure=lambda network: 1.0, points=3,
        cache_dir=tmp_path,
    )  # fmt: skip
    assert len(calls) == 2 * len(set(calls))


def test_an_unknown_engine_is_refused() -> None:
    model, example = NETS["chain"]()
    sets = find_coupled_units(model, example).sets
    with pytest.raises(UserError, match="`engine` 'tvm'"):
        engine_unit_costs(model, example, sets, engine="tvm")
    with pytest.raises(UserError, match="`points` 1"):
        engine_unit_costs(model, example, sets, engine="torch", points=1)
    with pytest.raises(UserError, match="`engine`"):
        shrunk_ms(model, torch.randn(2, 3, 8, 8), engine="tvm")
