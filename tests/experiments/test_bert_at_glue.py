"""GLUE's files: read, refused where they are damaged, and trained with the table's configs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from experiments.run import main
from tests.support.text import VOCABULARY, WORDS, serve_vocabulary
from ws_learner.core.errors import UserError
from ws_learner.data.datasets.glue import load_glue

ROOT = Path(__file__).parents[2]


def sst2(folder: Path, *, train: int = 120, dev: int = 30) -> Path:
    """Sentences with `good` or `bad` in them."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", train), ("dev", dev)):
        lines = ["sentence\tlabel"]
        for number in range(count):
            words = [*rng.choice(WORDS[:9], size=4), ("bad", "good")[number % 2]]
            lines.append(f'{" ".join(rng.permutation(words))} "\t{number % 2}')
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    return folder


def mrpc(folder: Path) -> Path:
    folder.mkdir()
    head = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"
    rows = [f'{n % 2}\t{n}\t{n + 500}\twho is "the\tmayor {WORDS[n % 12]}' for n in range(60)]
    for name in ("train", "dev"):
        (folder / f"{name}.tsv").write_text("\ufeff" + "\n".join([head, *rows]) + "\n")
    return folder


@pytest.fixture(autouse=True)
def _words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_vocabulary(tmp_path / "words", monkeypatch)
    # The folders' own vocab.txt is compared with the same checksum.
    from ws_learner.data.datasets import text

    (tmp_path / "words" / "vocab.txt").write_text("\n".join(VOCABULARY))
    assert text.VOCABULARY.file == "minilm/vocab.txt"


def test_sentences_and_labels_are_those_of_the_files(tmp_path: Path) -> None:
    folder = sst2(tmp_path / "SST-2")
    splits = load_glue("sst2", folder)
    sizes = [len(p) for p in (splits.train, splits.search, splits.select, splits.test)]
    assert sizes == [96, 12, 12, 30]
    good = 5 + WORDS.index("good")
    for inputs, targets in splits.test.batches(30):
        assert torch.equal((inputs == good).any(1).long(), targets)
        assert set(inputs[:, 0].tolist()) == {2}
    lines = (folder / "dev.tsv").read_text().splitlines()[1:]
    ((inputs, _),) = splits.test.batches(30)
    first = [VOCABULARY[n] for n in inputs[0].tolist() if n > 4]
    assert first == [word for word in lines[0].split("\t")[0].split() if word in WORDS]


def test_two_sentences_are_cut_as_a_pair(tmp_path: Path) -> None:
    splits = load_glue("mrpc", mrpc(tmp_path / "MRPC"))
    ((inputs, targets),) = splits.test.batches(100)
    assert len(inputs) == 60
    assert targets.tolist() == [n % 2 for n in range(60)]
    ends = (inputs == 3).sum(1)
    assert ends.tolist() == [2] * 60
    number = {word: place for place, word in enumerate(VOCABULARY)}
    quote = number["[UNK]"]
    wanted = [2, number["who"], number["is"], quote, number["the"], 3, number["mayor"], 5, 3]
    assert inputs[0].tolist()[:9] == wanted


def test_what_is_wrong_with_a_file_is_said(tmp_path: Path) -> None:
    folder = sst2(tmp_path / "a")
    with pytest.raises(
        UserError, match="no column '#1 String' in its first line, which mrpc requires"
    ):
        load_glue("mrpc", folder)
    (folder / "train.tsv").write_text("sentence\tlabel\nwho is\t1\nthe city\t2\n")
    with pytest.raises(UserError, match=r"train\.tsv, line 3: expected text and a label of 0 or 1"):
        load_glue("sst2", folder)
    (folder / "dev.tsv").unlink()
    with pytest.raises(UserError, match=r"no dev\.tsv there; expected train\.tsv and dev\.tsv"):
        load_glue("sst2", folder)


def test_without_a_folder_the_experiment_says_what_it_needs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bert_at_glue"]) == 2
    assert "--data_dir: needed" in capsys.readouterr().err


@pytest.mark.slow
def test_a_config_of_the_table_trains_on_a_folder(tmp_path: Path) -> None:
    folder = sst2(tmp_path / "SST-2")
    config = ROOT / "experiments" / "configs" / "bert_mini_4x1_sst2.yaml"
    words = ["bert_at_glue", "--task", "sst2", "--data_dir", str(folder), "--config", str(config)]
    assert main([*words, "--run_dir", str(tmp_path / "run"), "--batch_size", "16"]) == 0
    state = load_file(tmp_path / "run" / "model.safetensors")
    zeros = weights = 0
    for name, tensor in state.items():
        if name.startswith("bert.encoder") and tensor.dim() == 2:
            blocks = tensor.reshape(-1, 4, tensor.shape[1]).ne(0).sum(1)
            assert set(blocks.unique().tolist()) <= {0, 4}, name
            zeros, weights = zeros + int((tensor == 0).sum()), weights + tensor.numel()
    assert abs(zeros / weights - 0.9) < 1e-3
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["pattern"] == "4x1"
    assert main(["--exec_mode", "eval", "--run_dir", str(tmp_path / "run")]) == 0


@pytest.mark.long
def test_pretrained_weights_are_taken_whatever_their_prefix(tmp_path: Path) -> None:
    from experiments.models.sentence_bert import bert_classifier

    theirs = bert_classifier("mini", labels=5).state_dict()
    renamed = {
        name.removeprefix("bert.").replace("LayerNorm.weight", "LayerNorm.gamma"): t.clone()
        for name, t in theirs.items()
    }
    save_file({"cls.predictions.bias": torch.zeros(3), **renamed}, tmp_path / "mini.safetensors")
    ours = bert_classifier("mini", labels=2, pretrained=tmp_path / "mini.safetensors").state_dict()
    for name, tensor in ours.items():
        if name.startswith("bert."):
            assert torch.equal(tensor, theirs[name]), name
    with pytest.raises(UserError, match=r"--pretrained .*: is of another network"):
        bert_classifier("base", labels=2, pretrained=tmp_path / "mini.safetensors")


@pytest.mark.parametrize("layers", [0, 7])
def test_minilm_has_six_layers(layers: int) -> None:
    from experiments.models.sentence_bert import minilm

    with pytest.raises(UserError, match=f"--layers {layers}: MiniLM has 6"):
        minilm(labels=2, layers=layers)
