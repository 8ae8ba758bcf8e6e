"""A table of costs: what it predicts, and what it belongs to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ws_learner.core import LayerChoice, UserError
from ws_learner.deploy import CostTable
from ws_learner.deploy.costs.layer_times import LayerTimes
from ws_learner.deploy.costs.machine import machine_key
from ws_learner.deploy.costs.overhead import Point, solved
from ws_learner.deploy.costs.table import MeasuredLayer

DENSE = LayerChoice(pattern="unstructured", zeros=0)


def table(**changes: Any) -> CostTable:
    times = LayerTimes(base=2.0, dense={"fp32": 2.0}, sparse={"4x1 fp32": ((0.1, 0.5), (0.5, 1.5))})
    layers = (
        MeasuredLayer(name="a.weight", weights=100, calls={"one": 1}),
        MeasuredLayer(name="b.weight", weights=100, calls={"one": 2}),
        MeasuredLayer(name="lstm.weight", weights=100, calls={}),
    )
    own = CostTable(
        engine="wsr",
        machine=machine_key(),
        versions={"torch": "2"},
        threads=1,
        layers=layers,
        times={"one": times},
        floor=0.01,
        overhead=1.0,
        scale={"fp32": 0.8, "int8": 0.8},
        dense_ms=6.0,
    )
    return replace(own, **changes)


def test_costs_are_scaled_counted_and_never_below_an_empty_call() -> None:
    sparse = LayerChoice(pattern="4x1", zeros=90)
    assert table().cost(0, sparse) == pytest.approx(0.8 * 0.5)
    assert table().cost(1, sparse) == pytest.approx(0.8 * 2 * 0.5), "called twice"
    assert table().cost(2, sparse) == 0.01, "no engine makes it faster"
    assert table().unit == "latency@wsr"


def test_predictions_add_up_and_wsr_keeps_a_faster_dense_network() -> None:
    sparse = LayerChoice(pattern="4x1", zeros=90)
    assert table().predict([sparse] * 3) == pytest.approx(1.0 + 3 * 0.4 + 0.01)
    assert table(dense_ms=1.5).predict([sparse] * 3) == 1.5
    assert table(dense_ms=1.5, engine="openvino").predict([sparse] * 3) > 2


def test_what_was_not_measured_is_refused() -> None:
    with pytest.raises(UserError, match=r"`dtype` int8: a\.weight was measured in fp32 only"):
        table().cost(0, LayerChoice(pattern="4x1", zeros=90, dtype="int8"))
    with pytest.raises(UserError, match=r"`pattern` 16x4: a\.weight was measured with 4x1 fp32"):
        table().cost(0, LayerChoice(pattern="16x4", zeros=64))


@pytest.mark.parametrize(
    "changes",
    [
        {"overhead": 1.5},
        {"machine": "another"},
        {"versions": {"torch": "3"}},
        {"threads": 2},
        {"scale": {"fp32": 0.9, "int8": 0.8}},
        {"times": {"one": LayerTimes(base=2.0, dense={"fp32": 2.0})}},
    ],
)
def test_the_digest_changes_with_what_costs_depend_on(changes: dict[str, Any]) -> None:
    assert table().digest == table().digest
    assert table(**changes).digest != table().digest


def test_a_saved_table_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    table().save(path)
    read = CostTable.load(path)
    assert read == table()
    assert read.digest == table().digest


def test_another_machine_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "costs.json"
    table().save(path)
    CostTable.load(path)
    assert capsys.readouterr().err == ""
    table(machine="an old one").save(path)
    CostTable.load(path)
    line = capsys.readouterr().err
    assert "latency@wsr: measured on an old one; this is" in line
    assert "measure again" in line


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"version": 7}, "another version"),
        ({"version": 1, "layers": []}, "damaged"),
        ({"version": 1, "layers": 3, "times": {}}, "damaged"),
        ({"version": 1, "layers": [], "times": {"one": {}}}, "damaged"),
    ],
)
def test_damaged_tables_are_refused(plain: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CostTable.read(plain)


def test_files_that_hold_no_table(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    with pytest.raises(UserError, match="cannot read"):
        CostTable.load(path)
    for text in ("nonsense", "[]"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"costs\.json"):
            CostTable.load(path)


def plain_table() -> CostTable:
    return table(overhead=0.0, scale={"fp32": 1.0, "int8": 1.0})


def points(*numbers: tuple[Any, float, float]) -> list[Point]:
    return [Point(dtype=d, layers_ms=layers, whole_ms=whole) for d, layers, whole in numbers]


def test_networks_tell_overhead_and_scales() -> None:
    """Times made by 2 + 0.95 x layers, and 2 + 0.9 x layers in bytes; the prior pulls a little."""
    floats = [("fp32", x, 2 + 0.95 * x) for x in (100.0, 20.0, 1.0)]
    bytes_ = [("int8", x, 2 + 0.9 * x) for x in (15.0, 5.0)]
    found = solved(plain_table(), points(*floats, *bytes_))
    assert found.overhead == pytest.approx(2.0, rel=0.02)
    assert found.scale == pytest.approx({"fp32": 0.95, "int8": 0.9}, rel=0.02)


def test_the_dense_network_alone_tells_the_overhead() -> None:
    found = solved(plain_table(), points(("fp32", 10.0, 13.0)))
    assert found.overhead == pytest.approx(3.0)
    assert found.scale == pytest.approx({"fp32": 1.0, "int8": 1.0})


def test_layers_that_take_more_than_the_network_leave_no_overhead() -> None:
    """Of (0.1 (k - 1))^2 + (1.25 k - 1)^2 the least is at k = 1.26 / 1.5725."""
    found = solved(plain_table(), points(("fp32", 10.0, 8.0)))
    assert found.overhead == pytest.approx(0.0, abs=1e-6)
    assert found.scale["fp32"] == pytest.approx(1.26 / 1.5725, rel=1e-4)


def test_layers_never_become_free_of_cost() -> None:
    """Networks that take the same time whatever their layers take would give a scale of 0."""
    found = solved(
        plain_table(), points(("fp32", 10.0, 5.0), ("int8", 2.0, 5.0), ("int8", 1.0, 5.0))
    )
    assert min(found.scale.values()) >= 0.4
