"""Texts of any origin: what is too large, too deep or no plain value is one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from experiments.cli.flags import parse
from experiments.cli.ray.sweep_plan import read_plan
from ws_learner.compat import parse_lpot, parse_nncf, read_timm
from ws_learner.compat.nncf.reader import _TOKENS
from ws_learner.compat.yaml_with_lines import read_yaml
from ws_learner.core import PlainLoader, UserError, load_yaml, ratios_from, shown, shown_repr
from ws_learner.core.texts import parse_json, read_text
from ws_learner.report.csv_io import read_tidy

WRONG_YAML = {
    "an alias within itself": ("a: &x [*x]", "holds itself"),
    "a depth": ("[" * 60 + "]" * 60, "nested deeper than 50"),
    "a block depth": ("\n".join("  " * d + "a:" for d in range(60)), "nested deeper than 50"),
    "a long number": ("a: " + "9" * 50, "a number of 50 digits"),
    "a long hexadecimal number": ("a: 0x" + "f" * 50, "a number of 52 digits"),
    "an impossible date with a tag": ("a: !!timestamp 2020-13-45", "could not determine"),
    "bytes": ("a: !!binary aGk=", "could not determine"),
    "a set": ("a: !!set {b, c}", "could not determine"),
    "a tagged scalar": ("a: !Pruner 3", "could not determine"),
    "a number that is none": ("a: !!int x", "'x': invalid literal"),
    "an empty number": ("a: !!int ''", "''"),
    "a key that is a number": ("1: 2", "the key '1' is no text"),
    "a key that is nothing": ("null: 2", "the key 'null' is no text"),
    "a key that is a list": ("[a, b]: 2", "is no text"),
    "a key with a tag": ("!!int a: 2", "is no text"),
    "a key twice": ("a: 1\na: 2", "a is given twice"),
    "a control character": ("a: \x1b[31m", "special characters are not allowed"),
    "no mapping to merge": ("a:\n  <<: 3", "expected a mapping"),
}


@pytest.mark.parametrize("name", sorted(WRONG_YAML))
def test_yaml_is_refused_in_one_line(name: str) -> None:
    text, reason = WRONG_YAML[name]
    with pytest.raises(yaml.YAMLError) as caught:
        load_yaml(text)
    assert reason in str(caught.value)
    with pytest.raises(UserError) as told:
        read_yaml(text, name="f.yaml")
    assert str(told.value).startswith("f.yaml")
    assert "\n" not in str(told.value)


def test_aliases_count_as_what_they_stand_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values of the text: 3 keys, 3 keys' values and k entries each; written out 1 + 6 + k's."""
    text = "a: &a [1, 2]\nb: &b [*a, *a]\nc: [*b, *b]\n"
    written_out = 1 + 3 + (1 + 2) + (1 + 2 * 3) + (1 + 2 * 7)
    for most, refused in ((written_out, False), (written_out - 1, True)):
        monkeypatch.setattr(PlainLoader, "most_values", most)
        if refused:
            with pytest.raises(yaml.YAMLError, match="aliases written out"):
                load_yaml(text)
        else:
            assert load_yaml(text)["c"] == [[[1, 2], [1, 2]]] * 2


def test_a_large_text_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PlainLoader, "most_bytes", 100)
    with pytest.raises(yaml.YAMLError, match="is larger than"):
        load_yaml("a" * 101)
    (tmp_path / "t.csv").write_bytes(b"a" * 101)
    with pytest.raises(UserError, match="larger than"):
        read_text(tmp_path / "t.csv", where="t", remedy="go", most=100)
    assert read_text(tmp_path / "t.csv", where="t", remedy="go", most=101) == "a" * 101


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 5000, '{"a": 1, "a": 2}', "9" * 5000, "[" * 120 + "]" * 120, '"\ud800']
)
def test_json_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UserError, match=r"^f\.json: not JSON .*; go$") as caught:
        parse_json(text, where="f.json", remedy="go")
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n1,2,3\n", "row 2 has 3 cells instead of 2"),
        ("a,a\n1,2\n", "a column appears twice"),
        ('a,b\n"1,2\n', "unexpected end of data"),
        ("a\n" + "x" * 200_000, "field larger than field limit"),
        ("a\nb\n", "column a: could not convert"),
    ],
)
def test_tables_are_refused_in_one_line(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=reason):
        read_tidy(tmp_path / "t.csv")


def test_whole_numbers_beyond_64_bits_are_floats(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"a\n{2**70}\n")
    assert read_tidy(tmp_path / "t.csv")["a"].tolist() == [float(2**70)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.csv", "layer,prune_ratio\na\x1b[31m,2\n"),
        ("r.csv", "layer,prune_ratio\n" + "a" * 100_000 + ",2\n"),
        ("r.csv", ",".join(["layer", "prune_ratio", *(f"c{n}" for n in range(1000))]) + "\n"),
        ("r.csv", "layer,prune_ratio,x,x\n"),
        ("r.json", '{"a": 0.5, "a": 0.6}'),
        ("r.json", '{"a": true}'),
        ("r.json", '{"a": 1' + "0" * 400 + "}"),
        ("r.yaml", "a: true"),
        ("r.yaml", "a: &x [*x]"),
        ("r.yaml", "1: 0.5"),
        ("r.yaml", "- a"),
        ("r.csv", "layer,prune_ratio\n\ud800"),
    ],
)
def test_ratios_are_refused_in_one_short_line(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(UserError) as caught:
        ratios_from(str(tmp_path / name), setting="ws_ratios")
    said = str(caught.value)
    assert said.startswith(f"`ws_ratios` {tmp_path}")
    assert said.isprintable()
    assert len(said) < 600


@pytest.mark.parametrize("value", ["true", "[true]", "{a: 1}", "1e999", "x"])
@pytest.mark.parametrize("name", ["ws_prune_ratio", "nb_epochs", "seed", "ddpg_gamma"])
def test_a_setting_that_is_no_number(name: str, value: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(f"{name}: {value}\n")
    with pytest.raises(UserError, match=name):
        parse(["--config", str(tmp_path / "c.yaml")])


@pytest.mark.parametrize(
    "plan",
    ["samples: true", "rungs: true", "seed: false", "space: {lrn_rate: {min: true, max: 2}}"],
)
def test_a_boolean_is_no_number_in_a_sweep(plan: str, tmp_path: Path) -> None:
    space = "" if plan.startswith("space") else "space: {seed: [1, 2]}\n"
    (tmp_path / "p.yaml").write_text(space + plan)
    with pytest.raises(UserError, match="--sweep"):
        read_plan(tmp_path / "p.yaml")


def _nncf(**changes: object) -> str:
    params = {"warmup_start_epoch": 1, "warmup_end_epoch": 2, "importance_regularization_factor": 1}
    section = {"algorithm": "movement_sparsity", "params": params} | changes
    return json.dumps({"compression": [section]})


def test_numbers_of_nncf_files() -> None:
    assert parse_nncf(_nncf(compression_lr_multiplier=0.0)).movement is not None
    structure = {"mode": "per_dim", "axis": True, "target_scopes": "a"}
    for changes in (
        {"compression_lr_multiplier": -1.0},
        {"compression_lr_multiplier": True},
        {"sparse_structure_by_scopes": [structure]},
        {
            "sparse_structure_by_scopes": [
                structure | {"mode": "block", "sparse_factors": [True, 1]}
            ]
        },
    ):
        with pytest.raises(UserError):
            parse_nncf(_nncf(**changes))
    assert parse_nncf(_nncf(sparse_structure_by_scopes=[structure | {"axis": 1}]))


@pytest.mark.parametrize("text", ["/* " * 99, '"\\' * 99, '\\"' * 99 + "\\", '"a'])
def test_what_is_not_closed_is_read_once(text: str) -> None:
    """One match takes all that is left, so many marks are not looked at again and again."""
    assert len(list(_TOKENS.finditer("{" + text))) == 1
    with pytest.raises(UserError, match="not JSON"):
        parse_nncf('{"compression": ' + text)


@pytest.mark.parametrize(
    "text", ["pruning: &x\n  train: *x", "pruning:\n- 1", "pruning: !Pruner 3"]
)
def test_lpot_files_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="pruning config"):
        parse_lpot(text)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"n_sparsity: \xff\xfe")
    for read in (read_timm, lambda path: parse(["--config", str(path)])):
        with pytest.raises(UserError, match="not text"):
            read(tmp_path / "c.yaml")
        with pytest.raises(UserError, match="cannot be read"):
            read(tmp_path)


def test_values_in_messages_are_short_and_plain() -> None:
    assert shown("a\nb\x1b[0m\u202e") == r"a\nb\x1b[0m\u202e"
    assert len(shown("x" * 10**6)) <= 80
    assert len(shown_repr({"a": ["b" * 10**6] * 9})) <= 80
    huge = 10 ** (sys.get_int_max_str_digits() + 1)
    assert shown(huge) == shown_repr(huge) == f"a number of {huge.bit_length()} bits"
    assert shown_repr({"a": huge}) == "dict"
    error = UserError("a\x1b[31m\nb " + "y" * 10**5)
    first, second = str(error).split("\n")
    assert first == r"a\x1b[31m"
    assert len(second) <= 8000
    assert len(str(UserError("\n" * 10**5))) < 5000
