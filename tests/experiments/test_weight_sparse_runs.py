"""The main job from end to end, on real digits: command in, verified sparse network out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from experiments.run import main
from ws_learner.config import PROTOCOLS

ROOT = Path(__file__).parents[2]
DIGITS = str(ROOT / "tests" / "support" / "digits_experiment.py")
SHORT = ["--nb_epochs", "2", "--ws_mask_update_step", "2", "--workers", "0"]
SEARCH = [
    *("--ws_nb_rlouts", "14", "--ws_nb_rlouts_min", "6", "--ws_rlouts_per_round", "4"),
    *("--ws_nb_smpls_rg", "100", "--ws_nb_smpls_bn", "50", "--ws_nb_iters_feval", "1"),
    *("--ddpg_nb_updates", "2", "--ws_nb_rescore", "3"),
]


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a dense network, trained by the product's own learner."""
    run = tmp_path_factory.mktemp("dense") / "run"
    assert main([DIGITS, "--learner", "full-prec", "--run_dir", str(run)]) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert summary["dense_accuracy"] > 0.9
    return run / "model.safetensors"


@pytest.fixture
def launch(dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    monkeypatch.setenv("WS_DATA_DIR", str(tmp_path / "cache"))

    def launch(*flags: str, run: str = "run", expect: int = 0) -> Path:
        words = [DIGITS, "--dense_checkpoint", str(dense), "--run_dir", str(tmp_path / run)]
        assert main([*words, *SHORT, *flags]) == expect
        return tmp_path / run

    return launch


def zeros_saved(run: Path) -> int:
    """Count zeros in the saved bytes of the prunable tensors, without the product's code."""
    state = load_file(run / "model.safetensors")
    return sum(int((state[name] == 0).sum()) for name in ("0.weight", "3.weight", "7.weight"))


WEIGHTS = 8 * 9 + 16 * 8 * 9 + 10 * 256


@pytest.mark.long
def test_search_pruning_and_report_agree_with_the_saved_file(
    launch: Callable[..., Path], dense: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = launch("--ws_prune_ratio", "0.8", *SEARCH)
    summary = json.loads((run / "summary.json").read_text())
    assert zeros_saved(run) == round(0.8 * WEIGHTS)
    assert summary["achieved_prune_ratio"] == pytest.approx(round(0.8 * WEIGHTS) / WEIGHTS)
    wanted = {
        *("experiment", "learner", "protocol", "method", "pattern", "target_prune_ratio"),
        *("achieved_prune_ratio", "dense_accuracy", "sparse_accuracy", "dense_macs", "kept_macs"),
        *("rollouts", "search_seconds", "train_seconds", "seed", "versions"),
    }
    assert wanted <= set(summary)
    assert summary["rollouts"] == 14
    assert summary["sparse_accuracy"] > 0.7

    rollouts = pd.read_csv(run / "rollouts.csv")
    searched = rollouts[rollouts["kind"] != "select"]
    kinds = searched["kind"].tolist()
    cheap = kinds.count("prior")
    assert kinds[:cheap] == ["prior"] * cheap
    assert set(kinds[cheap:-1]) <= {"critic", "model", "agent"}
    assert len(kinds) == 14
    counts = searched[[c for c in searched if c.startswith("zeros/")]]
    assert (counts.sum(axis=1) == round(0.8 * WEIGHTS)).all()

    table = pd.read_csv(run / "ratios.csv")
    assert (table["prune_ratio"] == table["achieved"]).all()
    chosen = rollouts.iloc[summary["chosen_rollout"]]
    again = rollouts[rollouts["kind"] == "select"].filter(like="zeros/")
    assert (again == chosen.filter(like="zeros/")).all(axis=1).sum() == 1
    planned = [chosen[f"zeros/{name}"] for name in table["layer"]]
    assert (table["prune_ratio"] * table["weights"]).round().tolist() == planned

    assert set(load_file(run / "model.safetensors")) == set(load_file(dense))
    for name in ("report.md", "figures/ratios.svg", "figures/schedule.svg", "figures/search.svg"):
        assert (run / name).stat().st_size > 500
    # Measured again from the saved bytes.
    capsys.readouterr()
    assert main([DIGITS, "--exec_mode", "eval", "--run_dir", str(run)]) == 0
    assert f"{summary['sparse_accuracy']:.4f}" in capsys.readouterr().err


@pytest.mark.long
def test_a_finished_run_shows_its_report_and_touches_nothing(
    launch: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = launch("--ws_prune_ratio_prtl", "uniform")
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file() and p.name != ".lock"}
    capsys.readouterr()
    launch("--ws_prune_ratio_prtl", "uniform")
    assert "sparse accuracy" in capsys.readouterr().out
    assert before == {p: p.stat().st_mtime_ns for p in before}


@pytest.mark.parametrize("protocol", ["uniform", "lamp"])
@pytest.mark.parametrize("init", ["dense", "scratch", "rollout"])
def test_protocols_and_starting_points(
    launch: Callable[..., Path], protocol: str, init: str
) -> None:
    run = launch(
        *("--ws_prune_ratio_prtl", protocol, "--ws_init", init, "--ws_prune_ratio", "0.5"),
        *("--ws_nb_smpls_rg", "50"),
    )
    assert zeros_saved(run) == WEIGHTS // 2


@pytest.mark.long
@pytest.mark.parametrize("protocol", sorted(set(PROTOCOLS) - {"given"}))
def test_every_protocol_meets_target_and_exemption(
    launch: Callable[..., Path], protocol: str
) -> None:
    run = launch(
        *("--ws_prune_ratio_prtl", protocol, "--ws_exempt", "0*", "--ws_prune_ratio", "0.7"),
        *SEARCH,
    )
    table = pd.read_csv(run / "ratios.csv").set_index("layer")
    assert table.loc["0.weight", "achieved"] == 0
    assert zeros_saved(run) == round(0.7 * WEIGHTS)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["protocol"] == protocol
    assert summary["rollouts"] == (14 if PROTOCOLS[protocol].propose else 0)


@pytest.mark.long
def test_given_ratios_of_another_run(launch: Callable[..., Path], tmp_path: Path) -> None:
    first = launch("--ws_prune_ratio_prtl", "heurist", "--ws_prune_ratio", "0.6", run="first")
    second = launch("--ws_ratios", str(first / "ratios.csv"), "--enbl_dst", run="second")
    a, b = (pd.read_csv(run / "ratios.csv") for run in (first, second))
    assert a["achieved"].tolist() == b["achieved"].tolist()


@pytest.mark.long
def test_target_0_leaves_the_network_as_it_is(launch: Callable[..., Path], dense: Path) -> None:
    run = launch("--ws_prune_ratio", "0")
    a, b = load_file(run / "model.safetensors"), load_file(dense)
    assert all(torch.equal(a[name], b[name]) for name in b)


@pytest.mark.long
def test_target_1_prunes_everything_with_a_warning(
    launch: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = launch("--ws_prune_ratio", "1")
    assert zeros_saved(run) == WEIGHTS
    assert "--ws_prune_ratio 1.0: every weight is pruned" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.parametrize(
    "flags",
    [
        ["--preset", "pocketflow", "--ws_nb_iters_rg", "2", "--ws_nb_iters_ft", "2"],
        ["--ws_reward_signal", "accuracy", "--ws_rg_solver", "adam", "--ws_nb_iters_rg", "2"],
        ["--ws_action_scale", "linear", "--ws_ratio_bounds", "pocketflow"],
    ],
)
def test_ways_to_search_all_end_on_the_exact_budget(
    launch: Callable[..., Path], flags: list[str]
) -> None:
    run = launch(*SEARCH, *flags, "--ws_nb_rlouts", "8", "--ws_mask_update_step", "2")
    assert zeros_saved(run) == round(0.75 * WEIGHTS)


@pytest.mark.long
def test_multi_obj_leaves_the_total_free_within_the_bounds(launch: Callable[..., Path]) -> None:
    run = launch(*SEARCH, "--ws_reward_type", "multi-obj", "--ws_ratio_max", "0.9")
    rollouts = pd.read_csv(run / "rollouts.csv")
    assert rollouts["overall_ratio"].nunique() > 3
    assert rollouts["overall_ratio"].max() <= 0.9
    # The reward pays for the total: exp(-divergence) x ln(1 + ratio), PocketFlow's form.
    oracle = np.exp(-rollouts["divergence"]) * np.log1p(rollouts["overall_ratio"])
    copies = rollouts["kind"] == "select"  # means: exp is convex, so theirs is no smaller
    np.testing.assert_allclose(rollouts["reward"][~copies], oracle[~copies], rtol=1e-6)
    np.testing.assert_allclose(rollouts["reward"][copies], oracle[copies], rtol=1e-2)
    assert (rollouts["reward"][copies] >= oracle[copies] * (1 - 1e-9)).all()


def bytes_of(run: Path) -> bytes:
    return (run / "ratios.csv").read_bytes()


@pytest.mark.long
@pytest.mark.parametrize("moment", ["search.pt", "allocation.json", "sparse.pt", "summary.json"])
def test_kill_9_and_the_same_command_ends_with_the_same_ratios(
    launch: Callable[..., Path], dense: Path, tmp_path: Path, moment: str
) -> None:
    flags = ["--ws_prune_ratio", "0.8", *SEARCH]
    undisturbed = launch(*flags, run="undisturbed")
    words = [DIGITS, "--dense_checkpoint", str(dense), "--run_dir", str(tmp_path / "killed")]
    command = [sys.executable, "-m", "experiments.run", *words, *SHORT, *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    folder = tmp_path / "killed"
    target = folder / moment if moment == "summary.json" else folder / "state" / moment
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while not target.exists() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert target.exists()
    killed = launch(*flags, run="killed")
    assert bytes_of(killed) == bytes_of(undisturbed)
    state = {run: load_file(run / "model.safetensors") for run in (killed, undisturbed)}
    for name, tensor in state[killed].items():
        assert torch.equal(tensor, state[undisturbed][name]), name


@pytest.mark.long
def test_the_number_of_workers_does_not_matter(launch: Callable[..., Path]) -> None:
    runs = [
        launch("--ws_prune_ratio", "0.8", *SEARCH, "--workers", str(n), run=f"w{n}") for n in (0, 2)
    ]
    assert bytes_of(runs[0]) == bytes_of(runs[1])


@pytest.mark.long
def test_a_directory_made_with_other_settings_is_left_alone(
    launch: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = launch("--ws_prune_ratio_prtl", "uniform", "--ws_prune_ratio", "0.5")
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    capsys.readouterr()
    launch("--ws_prune_ratio_prtl", "uniform", "--ws_prune_ratio", "0.6", expect=2)
    *_, error, change = capsys.readouterr().err.splitlines()
    assert "made with other settings" in error
    assert change == "  ws_prune_ratio 0.5 -> 0.6"
    assert before == {p: p.read_bytes() for p in before}


def test_foreign_files_checkpoints_and_ratio_tables_are_refused(
    launch: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    launch(run="mine", expect=2)
    assert "holds files but no run" in capsys.readouterr().err
    save_file({"other.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    launch("--dense_checkpoint", str(tmp_path / "other.safetensors"), run="a", expect=2)
    assert "another network" in capsys.readouterr().err
    launch("--ws_ratios", str(tmp_path / "nowhere.csv"), run="b", expect=2)
    assert "--ws_ratios" in capsys.readouterr().err
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


@pytest.mark.long
def test_a_full_disk_is_one_line_and_the_run_goes_on_afterwards(
    launch: Callable[..., Path], dense: Path, tmp_path: Path
) -> None:
    words = [DIGITS, "--dense_checkpoint", str(dense), "--run_dir", str(tmp_path / "run")]
    flags = ["--ws_prune_ratio_prtl", "uniform"]
    # No file may grow beyond 12 kB: the small ones are written, the first checkpoint is not.
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (12000, 12000));"
        "from experiments.run import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words, *SHORT, *flags],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: cannot write")
    assert "the same command again" in last
    assert not list((tmp_path / "run").rglob(".*-*"))
    run = launch(*flags)
    assert zeros_saved(run) == round(0.75 * WEIGHTS)


def test_python_interface(dense: Path, tmp_path: Path) -> None:
    from experiments.experiment import classification
    from tests.support.digits import digits_splits
    from tests.support.digits_experiment import network
    from ws_learner import Recipe, WeightSparseConfig, WeightSparseLearner

    model = network(8)
    model.load_state_dict(load_file(dense))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    recipe = Recipe(nb_epochs=1, batch_size=50, lrn_rate=0.01)
    loss, metric = classification(recipe)
    result = WeightSparseLearner(
        model,
        digits_splits(),
        loss=loss,
        metric=metric,
        recipe=recipe,
        run_dir=tmp_path / "run",
        config=WeightSparseConfig(
            ws_prune_ratio=0.5, ws_prune_ratio_prtl="uniform", ws_mask_update_step=1
        ),
    ).fit()
    assert type(result.model) is type(model)
    zeros = (result.ratios["achieved"] * result.ratios["weights"]).sum()
    assert zeros == np.round(0.5 * WEIGHTS)
    assert result.summary["achieved_prune_ratio"] == 0.5
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
