"""YAML values as people mean them: patterns are text, numbers are numbers, keys come once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ws_learner.compat import read_lpot, read_timm
from ws_learner.core import UserError, dump_yaml, load_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2:4", "2:4"),  # 2 * 60 + 4 in YAML 1.1
        ("4:8", "4:8"),
        ("1:2:3", "1:2:3"),
        ("1:30.5", "1:30.5"),
        ("190:20:30", "190:20:30"),
        ("n:4", "n:4"),
        ("[2:4, 1:4]", ["2:4", "1:4"]),
        ("'2:4'", "2:4"),
        ("010", "010"),  # octal 8 in YAML 1.1
        ("08", "08"),
        ("0", 0),
        ("-7", -7),
        ("1_000", 1000),
        ("0x10", 16),
        ("0b11", 3),
        ("1e-3", 0.001),  # text in YAML 1.1
        ("1E5", 1e5),
        ("+1.5e2", 150.0),
        ("-.5", -0.5),
        (".5", 0.5),
        ("2.", 2.0),
        (".inf", float("inf")),
        ("1.2.3", "1.2.3"),
        ("1e", "1e"),
        ("true", True),
        ("off", False),
        ("none", "none"),
        ("null", None),
        ("~", None),
        ("4x1", "4x1"),
    ],
)
def test_values(text: str, value: Any) -> None:
    read = load_yaml(f"key: {text}")["key"]
    assert read == value
    assert type(read) is type(value)
    assert load_yaml(yaml.safe_dump({"key": value}))["key"] == value  # our own files come back


@pytest.mark.parametrize("text", ["2:4", "1e3", "010", "0x1", "off", "1_0", "1.5", "none", "a: b"])
def test_text_stays_text_in_both_readers(text: str) -> None:
    written = dump_yaml({"key": text, "many": [text]})
    for read in (load_yaml, yaml.safe_load):
        assert read(written) == {"key": text, "many": [text]}


def test_a_key_given_twice_is_an_error() -> None:
    with pytest.raises(yaml.YAMLError, match="rate is given twice"):
        load_yaml("rate: 1\nother: 2\nrate: 3\n")
    assert load_yaml("a: &x {k: 1}\nb:\n  <<: *x\n  k: 2\n")["b"] == {"k": 2}


def test_no_objects() -> None:
    with pytest.raises(yaml.YAMLError, match="could not determine a constructor"):
        load_yaml("!!python/object/apply:os.getcwd []")


LPOT = """\
pruning:
  approach:
    weight_compression:
      initial_sparsity: 0.0
      target_sparsity: 0.5
      start_epoch: 0
      end_epoch: {end}
      pruners:
        - !Pruner
            pattern: {pattern}
            names: [conv2.weight]
"""


def test_lpot_reads_an_unquoted_pattern(tmp_path: Path) -> None:
    path = tmp_path / "lpot.yaml"
    path.write_text(LPOT.format(end=2, pattern="2:4"))
    assert [pruner.pattern for pruner in read_lpot(path).pruners] == ["2:4"]
    path.write_text(LPOT.format(end="010", pattern="4x1"))
    with pytest.raises(UserError, match="end_epoch '010': must be a whole number"):
        read_lpot(path)


def test_timm_refuses_a_number_in_base_60(tmp_path: Path) -> None:
    path = tmp_path / "nm.yaml"
    path.write_text("sparsity_type: structured_NM\nn_sparsity: 2\nm_sparsity: 4\nepochs: 1:30\n")
    with pytest.raises(UserError, match=r"epochs '?1:30"):
        read_timm(path)
