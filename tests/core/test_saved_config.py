"""`config.json` of transformers: what it writes passes, other types are refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.tiny_language import KINDS, make_folder
from ws_learner import UserError
from ws_learner.core import check_saved_config, reason_of


@pytest.mark.parametrize("kind", KINDS)
def test_what_transformers_writes_passes(tmp_path: Path, kind: str) -> None:
    folder = make_folder(tmp_path / kind, kind)
    check_saved_config(folder, source="hf:DIR")
    config = json.loads((folder / "config.json").read_text())
    nulls = {name: None for name in config}
    (folder / "config.json").write_text(json.dumps(nulls))
    check_saved_config(folder, source="hf:DIR")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("hidden_size", one) for one in ("16", 16.0, True, 0, -4, [16, "16"], {}, 10**400)),
        *(("dtype", one) for one in (5, "int8", "float31", "load", {"text": 5}, ["float32"])),
        *(("torch_dtype", one) for one in (5, "")),
        *(("architectures", one) for one in (3, "LlamaForCausalLM", [3])),
        *(("rms_norm_eps", one) for one in ("1e-5", 0, True, [1.0])),
        *(("tie_word_embeddings", one) for one in ("true", 1)),
        ("model_type", 3),
        ("vocab_size", "many"),
    ],
)
def test_another_type_is_refused_by_name(tmp_path: Path, name: str, value: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", name: value}))
    with pytest.raises(UserError, match=rf"`model` hf:DIR: config.json: {name} .*must be .*") as e:
        check_saved_config(tmp_path, source="hf:DIR")
    assert "\n" not in str(e.value)
    assert len(str(e.value)) < 400


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1, "a": 2}', "3"])
def test_what_is_no_object_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json: "):
        check_saved_config(tmp_path, source="hf:DIR")


def test_a_reason_is_one_line() -> None:
    assert reason_of(ValueError("a\n  b\tc")) == "a b c"
    assert reason_of(KeyError()) == "KeyError"
    assert len(reason_of(ValueError("x" * 10_000))) < 400
