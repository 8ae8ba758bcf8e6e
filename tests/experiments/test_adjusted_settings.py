"""Defaults give way to what the user chose, say so, and are part of the run; choices do not."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.cli.adjust_training import adjust_training
from experiments.cli.build import build, say_adjusted
from experiments.cli.flags import parse
from experiments.experiment import Experiment
from experiments.run import main
from ws_learner.core.errors import UserError

DIGITS = str(Path(__file__).parents[2] / "tests" / "support" / "digits_experiment.py")


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ("--ws_nb_rlouts 5", {"ws_nb_rlouts_min": 2}),
        ("--preset pocketflow --ws_nb_rlouts 4", {"ws_nb_rlouts_min": 2}),
        ("--ws_nb_rlouts_min 300", {"ws_nb_rlouts": 600}),
        ("--ws_iter_ratio_beg 0.6", {"ws_iter_ratio_end": 0.8}),
        ("--ws_iter_ratio_end 0.05", {"ws_iter_ratio_beg": 0.01}),
        ("--ws_prune_ratio 0.999", {"ws_ratio_max": 1.0}),
        ("--ws_ratio_min 0.999 --ws_prune_ratio 1", {"ws_ratio_max": 1.0}),
        ("--ddpg_noise_std_init 0.01", {"ddpg_noise_std_finl": 0.01}),
        ("--ddpg_noise_std_finl 0.3", {"ddpg_noise_std_init": 0.3}),
        ("--ws_nb_rlouts 30", {}),
        ("--learner full-prec", {}),
    ],
)
def test_what_was_not_chosen_gives_way(words: str, changed: dict[str, float]) -> None:
    adjusted, plain = parse(words.split()), parse([]).settings()
    if "pocketflow" in words:
        plain = parse(["--preset", "pocketflow"]).settings()
    asked = {word.removeprefix("--") for word in words.split() if word.startswith("--")}
    now = adjusted.settings()
    assert {name for name in now if now[name] != plain[name]} <= asked | set(changed)
    assert {name: now[name] for name in changed} == changed
    assert [line.split()[0] for line in adjusted.adjusted] == [f"--{name}" for name in changed]


@pytest.mark.parametrize(
    "words",
    [
        "--ws_nb_rlouts 5 --ws_nb_rlouts_min 6",
        "--ws_iter_ratio_beg 0.7 --ws_iter_ratio_end 0.6",
        "--ws_ratio_min 0.6 --ws_ratio_max 0.5",
        "--ddpg_noise_std_init 0.1 --ddpg_noise_std_finl 0.2",
    ],
)
def test_what_was_chosen_may_conflict(words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words.split()[0]):
        parse(words.split())
    # The same from a config file: what differs from the default counts as chosen.
    file = tmp_path / "conf.yaml"
    pairs = zip(words.split()[::2], words.split()[1::2], strict=True)
    file.write_text("".join(f"{name.removeprefix('--')}: {value}\n" for name, value in pairs))
    with pytest.raises(UserError, match=words.split()[0]):
        parse(["--config", str(file)])


@functools.cache
def digits() -> Experiment:
    return build(parse([DIGITS]))


@pytest.mark.long
@settings(max_examples=40, deadline=None)
@given(
    epochs=st.floats(0.01, 8, allow_nan=False),
    batch=st.integers(1, 1000),
    method=st.sampled_from(["gradual", "group_lasso", "movement", "srste", "mdgf", "sdgf"]),
)
def test_every_length_of_training_has_a_fitting_ramp(
    epochs: float, batch: int, method: str
) -> None:
    words = [DIGITS, "--nb_epochs", repr(epochs), "--batch_size", str(batch)]
    command = parse([*words, "--ws_method", method])
    experiment = digits()
    adjusted = adjust_training(command, experiment)  # which ends with the training's own check
    total = max(1, round(epochs * (len(experiment.data.train) // batch)))
    begin, end = (int(total * share + 1e-9) for share in (0.1, 0.5))
    changes = {line.split()[0].removeprefix("--") for line in adjusted.adjusted}
    ramp = end - begin
    if method in ("srste", "mdgf", "sdgf") or ramp >= 250:  # ten updates at every 25 steps
        assert not changes
    elif ramp >= 1:
        assert changes == {"ws_mask_update_step"}
        assert adjusted.ws.ws_mask_update_step == max(1, ramp // 10)
    else:
        assert adjusted.ws.ws_iter_ratio_end == 1.0


def test_a_phase_gives_way_to_the_other() -> None:
    words = [DIGITS, "--ws_method", "mdgf", "--nb_epochs", "4", "--nm_dense_epochs", "3.5"]
    command = parse(words)
    adjusted = adjust_training(command, build(command))
    assert adjusted.ws.nm_fine_tune_epochs == 0.25
    command = parse([*words, "--nm_fine_tune_epochs", "1"])
    with pytest.raises(UserError, match="`nm_dense_epochs`"):
        adjust_training(command, build(command))


@pytest.mark.long
def test_a_small_run_needs_no_second_try(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was fitted is said, is in the config and the identity, and is found again."""
    monkeypatch.chdir(tmp_path)
    words = [DIGITS, "--nb_epochs", "0.3", "--ws_nb_rlouts", "4", "--workers", "0"]
    assert main([*words, "--learner", "full-prec", "--run_dir", "dense"]) == 0
    words += ["--dense_checkpoint", "dense"]
    assert main([*words, "--run_dir", "run"]) == 0
    said = re.findall(
        r"^adjusted: --(\w+) (\d+) -> (\d+): .+", capsys.readouterr().err, re.MULTILINE
    )
    assert {name: (int(a), int(b)) for name, a, b in said} == {
        "ws_nb_rlouts_min": (20, 2),
        "ws_mask_update_step": (25, 1),
    }
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    identity = json.loads((tmp_path / "run" / "identity.json").read_text())
    for record in (config, identity):
        assert (record["ws_nb_rlouts_min"], record["ws_mask_update_step"]) == (2, 1)
    # Spelled out, it is the same run; so is the run's own config file.
    spelled = ["--ws_nb_rlouts_min", "2", "--ws_mask_update_step", "1"]
    assert main([*words, *spelled, "--run_dir", "run"]) == 0
    assert main([words[0], "--config", "run/config.yaml", "--run_dir", "run"]) == 0
    assert "adjusted" not in capsys.readouterr().err.split("sparse training")[-1]


def test_a_bundled_experiment_as_it_is_says_nothing_of_its_own_length(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = parse(["cnn_at_digits"])
    bare = adjust_training(command, build(command))
    assert 1 <= (bare.ws.ws_mask_update_step or 0) < 25
    assert [line.split()[0] for line in bare.fitted] == ["--ws_mask_update_step"]
    say_adjusted(bare)
    assert capsys.readouterr().err == ""
    asked = parse(["cnn_at_digits", "--nb_epochs", "1"])
    say_adjusted(adjust_training(asked, build(asked)))
    assert "adjusted: --ws_mask_update_step 25 -> " in capsys.readouterr().err
