"""The verb `sensitivity` prints, ranks and writes what the function measures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.cli.console import main
from tests.support import tiny_experiment
from ws_learner import sensitivity
from ws_learner.core.weights import save_model

TINY = str(Path(tiny_experiment.__file__))
LAYERS = ("conv1.weight", "conv2.weight", "fc.weight")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WS_DATA_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_table_and_files_are_those_of_the_weights_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tiny_experiment.build(tiny_experiment.Options(), seed=7)  # others than seed 0's
    save_model(tmp_path / "dense.safetensors", weights.model.state_dict(), {"format": "pt"})
    words = ["sensitivity", TINY, "--patterns", "4x1,2:4", "--ratios", ".5,.9", "--out", "there"]
    assert main([*words, "--dense_checkpoint", "dense.safetensors"]) == 0
    shown = capsys.readouterr()
    wanted = sensitivity(weights.model, weights.data, patterns=("4x1", "2:4"), ratios=(0.5, 0.9))
    table = pd.read_csv("there/sensitivity.csv")
    assert table["layer"].tolist() == wanted.table["layer"].tolist()
    for column in ("error", "divergence", "slope"):
        np.testing.assert_allclose(table[column], wanted.table[column], rtol=1e-5)
    places = [shown.out.index(f"\n{name.removesuffix('.weight')} ") for name in wanted.ranking]
    assert places == sorted(places)  # the most sensitive first
    assert "4x1 0.5" in shown.out
    assert "2:4 0.5" in shown.out
    assert "untrained" not in shown.err
    assert Path("there/sensitivity.png").stat().st_size
    assert Path("there/sensitivity.svg").stat().st_size


def test_an_untrained_network_is_said_to_be_one_and_flags_choose_layers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["sensitivity", TINY, "--ratios", "0.5", "--ws_exclude", "conv1", "--width", "4"]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert "tiny comes without dense weights" in shown.err
    assert "untrained network" in shown.err
    table = pd.read_csv("runs/tiny-sensitivity/sensitivity.csv")
    assert table["layer"].tolist() == list(LAYERS[1:])
    assert table["pattern"].unique().tolist() == ["unstructured"]
    assert table["weights"].tolist()[0] == 8 * 4 * 3 * 3  # of the width asked for


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--ratios", "half"], "--ratios half: must be shares of zeros"),
        (["--ratios", "0.5,2"], "must be shares of zeros between 0 and 1"),
        (["--patterns", "4y1"], "4y1: no such pattern"),
        (["--dense_checkpoint", "none.pt"], "--dense_checkpoint none.pt: no such file"),
        (["--no_such_flag", "1"], "no_such_flag"),
    ],
)
def test_bad_words_are_refused(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sensitivity", TINY, *words]) == 2
    assert says in capsys.readouterr().err


def test_help_teaches_how_to_read_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["sensitivity", "-h"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for words in ("--patterns", "--ratios", "--out", "--dense_checkpoint", "How to read the table"):
        assert words in shown
