"""Ratios of layers in every shape that people have them in."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from ws_learner.core import UserError, by_layer, name_fits, ratios_from

NAMES = ("conv1.weight", "layer1.0.conv.weight", "layer1.1.conv.weight", "fc.weight")
WANTED = {"conv1": 0.25, "fc": 0.5}


@pytest.mark.parametrize(
    ("name", "pattern", "fits"),
    [
        ("fc.weight", "fc.weight", True),
        ("fc.weight", "fc", False),
        ("layer1.0.conv", "layer1.*", True),
        ("layer1.0.conv", "re:layer1", False),  # the whole name
        ("layer1.0.conv", r"re:layer\d+\.0\..*", True),
        ("a[0]", "a[0]", True),  # the name itself, though as a shell pattern it means a0
        ("Layer1", "layer1", False),
    ],
)
def test_patterns_of_names(name: str, pattern: str, fits: bool) -> None:
    assert name_fits(name, pattern) is fits


def test_the_most_telling_name_decides() -> None:
    given = {"*": 0.1, "layer1.*": 0.2, "layer1.1.conv": 0.3, "module.fc": 0.4}
    found = by_layer(given, NAMES, where="`x`")
    assert {name: value for name, (_, value) in found.items()} == {
        "conv1.weight": 0.1,
        "layer1.0.conv.weight": 0.2,
        "layer1.1.conv.weight": 0.3,
        "fc.weight": 0.4,
    }
    backwards = by_layer(dict(reversed(given.items())), NAMES, where="`x`")
    assert backwards == found


def test_an_unknown_name_is_refused_with_the_closest() -> None:
    with pytest.raises(UserError, match=r"`x` 'conv2': fits no layer; did you mean conv1"):
        by_layer({"conv2": 0.5}, NAMES, where="`x`")


@pytest.mark.parametrize(
    "text",
    [
        "layer,prune_ratio\nconv1,0.25\nfc,0.5\n",
        "Name\tSparsity\nconv1\t0.25\nfc\t0.5\n",
        "param;density\nconv1;0.75\nfc;0.5\n",
        "module,sparsity_percent\nconv1,25\nfc,50\n",
        "module,pct_pruned,density\nconv1,25,0.75\nfc,50,0.5\n".replace(",density", ",macs"),
        "module,Sparsity [%],shape\nconv1,25,3x3\nfc,50,9\n",
        "fqn,sparsity\nconv1,25%\nfc,50%\n",
        "weight,Keep ratio (%)\nconv1,75\nfc,50\n",
        "layer,sparsity\nconv1,25\nfc,50\n",  # no share is above 1
        "index,layer,achieved,prune_ratio\n0,conv1,0.9,0.25\n1,fc,0.9,0.5\n",
    ],
)
def test_tables_of_other_tools(text: str, tmp_path: Path) -> None:
    (tmp_path / "tool.csv").write_text(text)
    assert ratios_from(tmp_path / "tool.csv", setting="x") == WANTED


def test_dicts_frames_texts_and_other_files(tmp_path: Path) -> None:
    frame = pd.DataFrame({"layer": list(WANTED), "sparsity": list(WANTED.values())})
    series = pd.Series(WANTED)
    (tmp_path / "a.json").write_text(json.dumps(WANTED))
    (tmp_path / "a.yaml").write_text("conv1: 0.25\nfc: 0.5\n")
    for given in (
        WANTED,
        frame,
        frame.set_index("layer"),
        frame.set_index("layer").rename_axis(None),
        series,
        "conv1=0.25, fc=0.5",
        tmp_path / "a.json",
        str(tmp_path / "a.yaml"),
    ):
        assert ratios_from(given, setting="x") == WANTED


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("layer,sparsity\nconv1,0.5\nfc,30\n", "has 0.5 and 30: shares or percent?"),
        ("layer,sparsity\nconv1,5%\nfc,0.3\n", "with and without %"),
        ("layer,sparsity,density\nconv1,0.5,0.5\n", "sparsity and density could both be meant"),
        ("layer,bits\nconv1,8\n", "no column prune_ratio"),
        ("rank,sparsity\nconv1,0.5\n", "no column layer"),
        ("layer,sparsity\nconv1,150\n", "must be a number from 0 to 1"),
        ("layer,density\nconv1,none\n", "line 2: density of conv1 is 'none'"),
        ("layer,sparsity\nconv1,0.5\nconv1,0.6\n", "conv1 is listed twice"),
        ("layer,sparsity\n", "names no layer"),
    ],
)
def test_what_is_not_clear_is_refused_in_one_line(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "tool.csv").write_text(text)
    with pytest.raises(UserError) as caught:
        ratios_from(tmp_path / "tool.csv", setting="x")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"fc": 1.5}, "`x` fc: prune ratio 1.5 must be a number from 0 to 1; did you mean 0.015?"),
        ({"fc": "much"}, "'much' must be a number from 0 to 1"),
        ({"fc": True}, "True must be a number"),
        ({1: 0.5}, "a layer's name must be a text"),
        ("fc=0.5,conv1", "'conv1' is no NAME=RATIO"),
        ("fc=0.5,fc=0.6", "fc is given twice"),
        (["fc"], "must be a dict of layer -> ratio"),
        ("none.json", "cannot be read (No such file"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(given: object, says: str) -> None:
    with pytest.raises(UserError) as caught:
        ratios_from(given, setting="x")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
