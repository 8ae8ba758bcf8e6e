"""Files and import paths from before the move to today's layout keep working."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from ws_learner.core.moved import MOVED
from ws_learner.report import MetricsLog

ROOT = Path(__file__).parents[2]
BEFORE = ROOT / "tests" / "support" / "before_the_move"
SETTINGS = "--ws_prune_ratio 0.8 --workers 0 --precision fp32 --ddpg_actor_width 8 "
SETTINGS += "--ddpg_critic_width 8 --dense_checkpoint dense.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(BEFORE, tmp_path, dirs_exist_ok=True)
    return tmp_path


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *words]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def prune(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return run(folder, "experiments.run", "tiny_experiment.py", *SETTINGS.split(), *flags)


@pytest.mark.long
def test_a_finished_run_is_found_finished_and_is_measured_again(folder: Path) -> None:
    before = (folder / "finished" / "ratios.csv").read_bytes()
    again = prune(folder, "--ws_nb_rlouts", "12", "--run_dir", "finished")
    assert again.returncode == 0, again.stderr
    assert "finished (finished)" in again.stderr
    assert (folder / "finished" / "ratios.csv").read_bytes() == before
    words = ("experiments.run", "--exec_mode", "eval", "--run_dir", "finished")
    unnamed = run(folder, *words)
    assert unnamed.returncode == 2, unnamed.stderr
    assert "tiny_experiment.py before --exec_mode eval" in unnamed.stderr
    measured = run(folder, words[0], "tiny_experiment.py", *words[1:])
    assert measured.returncode == 0, measured.stderr


@pytest.mark.long
def test_an_unfinished_search_goes_on(folder: Path) -> None:
    begun = (folder / "searching" / "rollouts.csv").read_text().splitlines()
    done = prune(folder, "--ws_nb_rlouts", "40", "--run_dir", "searching")
    assert done.returncode == 0, done.stderr
    rows = (folder / "searching" / "rollouts.csv").read_text().splitlines()
    assert rows[: len(begun)] == begun
    assert len(rows) > 40
    assert "begun by an earlier version; the search goes on by today's rules" in done.stderr
    assert (folder / "searching" / "summary.json").exists()


@pytest.mark.long
def test_an_unfinished_training_goes_on(folder: Path) -> None:
    begun = MetricsLog(folder / "training" / "metrics.csv").frame()
    flags = ("--ws_nb_rlouts", "12", "--nb_epochs", "300", "--run_dir", "training")
    done = prune(folder, *flags)
    assert done.returncode == 0, done.stderr
    assert "resuming from step" in done.stderr
    rows = MetricsLog(folder / "training" / "metrics.csv").frame()
    pd.testing.assert_frame_equal(rows[begun.columns][:49], begun[:49])
    weights = load_file(folder / "training" / "model.safetensors")
    pruned = ("conv1.weight", "conv2.weight", "fc.weight")
    assert sum(int((weights[name] == 0).sum()) for name in pruned) == round(0.8 * 908)


def test_wsr_files_open() -> None:
    from ws_learner.deploy.runtime import load_sparse, read_wsr

    network = load_file(BEFORE / "network.safetensors")
    tensors, _ = read_wsr(BEFORE / "weights.wsr")
    assert tensors
    for name, tensor in tensors.items():
        assert torch.equal(tensor, network[name])
    compiled = load_sparse(BEFORE / "network.wsr")
    torch.testing.assert_close(compiled(network["x"]), network["y"], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("former", sorted(MOVED))
def test_a_former_import_path_is_the_same_module_with_a_notice(former: str) -> None:
    sys.modules.pop(former, None)
    with pytest.warns(FutureWarning, match=f"{former} is now {MOVED[former]}"):
        found = importlib.import_module(former)
    assert found is importlib.import_module(MOVED[former])
    assert found.__spec__ is not None
    assert found.__spec__.name == MOVED[former]


@pytest.mark.long
def test_the_public_names_of_former_modules_are_importable() -> None:
    code = (
        "from ws_learner.runtime import compile_sparse\n"
        "from ws_learner.pruning import Pruning\n"
        "from ws_learner.common import Model\n"
        "from ws_learner.dialects.weight_pruning import prepare_pruning\n"
        "import ws_learner\n"
        "assert compile_sparse is ws_learner.compile_sparse\n"
        "assert Pruning is ws_learner.Pruning\n"
        "assert prepare_pruning is ws_learner.prepare_pruning\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "ws_learner.pruning.Pruning is now ws_learner.Pruning" in done.stderr


@pytest.mark.long
def test_a_former_command_runs_with_a_notice(tmp_path: Path) -> None:
    done = run(tmp_path, "experiments.benchmarks.mask_update", "-h")
    assert done.returncode == 0, done.stderr
    assert "experiments.benchmarks.mask_update is now benchmarks.mask_update" in done.stderr
    shown = run(tmp_path, "experiments.inspect", str(BEFORE / "dense.safetensors"))
    assert "fc.weight" in shown.stdout


def test_modules_inside_a_former_package_are_not_loaded_twice() -> None:
    with pytest.warns(FutureWarning, match="ws_learner.runtime.compile is now"):
        from ws_learner.runtime.compile import compile_sparse
    from ws_learner.deploy.runtime import compile_sparse as today

    assert compile_sparse is today


def test_former_names_of_the_experiment_contract_are_handed_out() -> None:
    from experiments import experiment

    with pytest.warns(FutureWarning, match="checkpoint_of is now committed_checkpoint"):
        assert experiment.checkpoint_of is experiment.committed_checkpoint
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = experiment.nothing


def test_packages_of_today_are_not_shadowed() -> None:
    code = "import ws_learner.data, ws_learner.core; print(ws_learner.data.__file__)"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert shown.stdout.strip() == str(ROOT / "ws_learner" / "data" / "__init__.py")
