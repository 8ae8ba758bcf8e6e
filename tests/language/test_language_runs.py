"""The command line on language models: runs, resumes, exports, and what is refused."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import transformers
from safetensors.torch import load_file

from experiments import distributed, export
from experiments.run import main
from tests.support.tiny_language import make_folder, make_text
from ws_learner.core import sha256_of
from ws_learner.language import learner, walk


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("language")
    make_folder(found / "net")
    make_text(found / "text.txt")
    return found


def words_for(place: Path, run: Path, *more: str) -> list[str]:
    words = ["lm_at_text", "--model", f"hf:{place / 'net'}", "--text", str(place / "*.txt")]
    words += ["--window", "24", "--calibration_windows", "4", "--test_windows", "6"]
    return [*words, "--run_dir", str(run), *more]


def digests(run: Path) -> dict[str, str]:
    names = ("model.safetensors", "ratios.csv", "windows.csv")
    return {name: sha256_of(run / name) for name in names}


@pytest.fixture(scope="module")
def finished(place: Path) -> Path:
    run = place / "run"
    assert main(words_for(place, run, "--protocol", "divergence")) == 0
    return run


def test_a_run_leaves_the_usual_files(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    table = pd.read_csv(finished / "ratios.csv")
    windows = pd.read_csv(finished / "windows.csv")
    assert summary["protocol"] == "divergence"
    assert summary["achieved_prune_ratio"] == pytest.approx(0.5, abs=1e-4)
    for name in ("dense", "sparse"):
        wanted = math.exp(windows[name].mean())
        assert summary[f"{name}_metric"] == pytest.approx(wanted)
    state = load_file(finished / "model.safetensors")
    zeros = {name: int((state[name] == 0).sum()) for name in table["layer"]}
    assert sum(zeros.values()) == round(0.5 * table["weights"].sum())
    assert (table["achieved"] * table["weights"]).round().tolist() == list(zeros.values())
    report = (finished / "report.md").read_text()
    assert f"{summary['sparse_metric']:.6g}" in report
    assert "nats" in report
    assert not (finished / "state").exists()


def test_stock_transformers_loads_the_export_with_the_same_logits(
    finished: Path, place: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "hf"
    assert export.main([str(finished), "--to", "hf", "--out", str(folder)]) == 0
    opened: Any = transformers.AutoModelForCausalLM.from_pretrained(folder)
    wanted: Any = transformers.AutoModelForCausalLM.from_pretrained(place / "net")
    state = load_file(finished / "model.safetensors")
    wanted.load_state_dict(state, strict=False)
    ids = torch.arange(40)[None]
    with torch.no_grad():
        assert torch.equal(opened(ids).logits, wanted(ids).logits)
    zeros = sum(int((opened.state_dict()[name] == 0).sum()) for name in state)
    assert zeros == sum(int((tensor == 0).sum()) for tensor in state.values())
    assert transformers.AutoTokenizer.from_pretrained(folder)("the fox")["input_ids"]
    assert export.main([str(finished), "--to", "hf", "--out", str(folder)]) == 2  # not empty
    assert export.main([str(finished), "--to", "onnx"]) == 2


def test_a_finished_run_is_shown_and_measured_again(
    finished: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digests(finished)
    assert main(words_for(place, finished, "--protocol", "divergence")) == 0
    assert "(finished)" in capsys.readouterr().err
    assert digests(finished) == before
    assert main(["--exec_mode", "eval", "--run_dir", str(finished)]) == 0
    assert main(words_for(place, finished, "--protocol", "uniform")) == 2
    assert "made with other settings" in capsys.readouterr().err


class KilledError(BaseException):
    """Stands for a signal that cannot be caught."""


def killed_at(number: int, save: Callable[..., None]) -> Callable[..., None]:
    """`save`, which is the last thing done in its `number`th call."""
    left = [number]

    def saves(path: Path, state: Any) -> None:
        save(path, state)
        left[0] -= 1
        if left[0] < 0:
            raise KilledError

    return saves


@pytest.mark.parametrize("number", range(6))
def test_a_killed_run_goes_on_to_the_same_bytes(
    number: int, finished: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after each file of the state in turn: losses, ratios, blocks, hidden states."""
    words = words_for(place, tmp_path / "run", "--protocol", "divergence")
    with monkeypatch.context() as patch:
        save = killed_at(number, walk.save_state_file)
        for module in (walk, learner):
            patch.setattr(module, "save_state_file", save)
        with pytest.raises(KilledError):
            main(words)
    assert not (tmp_path / "run" / "summary.json").exists()
    assert main(words) == 0
    assert digests(tmp_path / "run") == digests(finished)


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said.partition("error: ")[2].strip()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--nb_epochs", "3", "--distill"], "--nb_epochs: has no effect on a causal language"),
        (["--protocol", "lamp"], "language models take uniform"),
        (["--pattern", "mha"], "language models take unstructured, N:M"),
        (["--pattern", "2:4", "--protocol", "owl"], "the pattern 2:4 sets every layer's ratio"),
        (["--solver", "sparsgpt"], "did you mean sparsegpt"),
        (["--window", "1"], "--window 1: must be at least 2"),
        (["--window", "4000"], "--text: the search part has"),
        (["--prune_ratio", "0.9", "--ws_ratio_max", "0.6"], "must lie between"),
        (["--learner", "full-prec"], "are not trained here"),
    ],
)
def test_flags_that_do_not_fit_are_refused_with_a_line(
    more: list[str], said: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(words_for(place, tmp_path / "run", *more), capsys)


def test_folders_and_texts_that_do_not_fit(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def of(model: str, text: str = str(place / "text.txt")) -> str:
        return refused(["lm_at_text", "--model", model, "--text", text], capsys)

    assert "must be hf:DIR" in of("gpt2")
    assert "no such folder; nothing is downloaded" in of(f"hf:{tmp_path / 'none'}")
    assert "no such file" in of(f"hf:{place / 'net'}", str(tmp_path / "*.md"))
    broken = tmp_path / "broken"
    shutil.copytree(place / "net", broken)
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"hidden_size": 32}))
    assert "config.json says" in of(f"hf:{broken}")
    (broken / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    assert "cannot be opened" in of(f"hf:{broken}") or "lack" in of(f"hf:{broken}")
    (broken / "config.json").write_text("{}")
    assert "cannot be opened" in of(f"hf:{broken}")
    (broken / "config.json").write_text(json.dumps(config))
    (broken / "model.safetensors").write_bytes(b"no")
    assert "cannot be read" in of(f"hf:{broken}")
    (broken / "model.safetensors").unlink()
    (broken / "pytorch_model.bin").write_bytes(b"no")
    assert ".bin are pickles, which are not read" in of(f"hf:{broken}")


def test_workers_are_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert distributed.main(["-n", "2", *words_for(place, tmp_path / "run")]) == 2
    assert "-n=2: a language model is pruned block by block in one" in capsys.readouterr().err


def test_the_help_page_lists_flags_that_apply_with_their_defaults(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["lm_at_text", "-h"])
    page = capsys.readouterr().out
    flags = set(re.findall(r"^  --(\w+)", page, flags=re.MULTILINE))
    assert {"prune_ratio", "protocol", "solver", "recover_minutes", "drop_blocks"} <= flags
    assert not flags & {"learner", "nb_epochs", "lrn_rate", "distill", "method", "budget"}
    shown = " ".join(page.split())
    assert "share of weights to become zero (default 0.5; 0 with --drop_blocks or" in shown
    assert "(default uniform)" in shown
    assert "lamp" not in page
