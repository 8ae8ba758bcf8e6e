"""Code is imported only if the command line or a Python argument names it, whatever files say."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from experiments import export, inspect_model, policy
from experiments.cli.discovery import bundled_name
from experiments.cli.flags import parse
from experiments.cli.ray.sweep_checks import check_sweep
from experiments.run import main
from tests.support.what_works.rows.experiment_files import FILE, NETWORK, neighbour, write
from ws_learner import UserError, load_run
from ws_learner.core import save_model


class Trap:
    """Experiment files that leave a mark when they are imported."""

    def __init__(self, folder: Path) -> None:
        self.mark, self.file = folder / "imported", folder / "run" / "trap.py"
        write(
            folder / "run",
            {
                "trap.py": f"import pathlib\npathlib.Path({str(self.mark)!r}).touch()\n",
                "summary.json": "{}",
            },
        )
        save_model(folder / "run" / "model.safetensors", {"w": torch.zeros(2, 2)}, {})
        self.run = folder / "run"

    def names(self, more: str = "") -> Path:
        config = self.run / "config.yaml"
        config.write_text(f"experiment: {self.file}\nseed: 0\n{more}")
        return config


@pytest.fixture(autouse=True)
def _no_modules_of_other_tests(tmp_path: Path) -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trap:
    monkeypatch.chdir(tmp_path)
    return Trap(tmp_path)


def _load(run: Path) -> int:
    load_run(run)
    return 0


OPENED: dict[str, Callable[[Path], int]] = {
    "eval": lambda run: main(["--exec_mode", "eval", "--run_dir", str(run)]),
    "config": lambda run: main(["--config", str(run / "config.yaml")]),
    "config help": lambda run: main(["--config", str(run / "config.yaml"), "-h"]),
    "onnx": lambda run: export.main([str(run), "--to", "onnx", "--out", "o.onnx"]),
    "hf": lambda run: export.main([str(run), "--to", "hf", "--out", "o"]),
    "weights": lambda run: export.main([str(run), "--to", "safetensors", "--out", "o"]),
    "inspect": lambda run: inspect_model.main([str(run)]),
    "policy": lambda run: policy.main([str(run)]),
    "load_run": _load,
}


@pytest.mark.parametrize("how", sorted(OPENED))
def test_a_folder_brings_no_code_in(
    trap: Trap, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trap.names()
    try:
        code = OPENED[how](trap.run)
    except UserError as error:
        code, said = 2, str(error)
    else:
        said = capsys.readouterr().err
    assert not trap.mark.exists()
    if how in ("weights", "inspect"):  # need no network
        assert code == 0
    else:
        assert code == 2
    if how in ("eval", "onnx", "hf", "load_run"):
        assert "--experiment run/trap.py" in said
    if how.startswith("config"):
        assert "give its path as the first word" in said


def test_the_same_file_named_is_imported(trap: Trap) -> None:
    assert main(["run/trap.py", "--exec_mode", "eval", "--run_dir", str(trap.run)]) == 2
    assert trap.mark.exists()  # and it is no experiment


@pytest.mark.parametrize("name", ["mine/resnet_at_cifar10.py", "nets/resnet_at_cifar10_run.py"])
def test_a_bundled_name_means_the_bundled_file_only(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert bundled_name(name) == "resnet_at_cifar10"
    write(tmp_path, {name: "raise SystemExit"})
    assert bundled_name(name) is None
    write(tmp_path, {"c.yaml": f"experiment: {name}\n"})
    with pytest.raises(UserError, match="names the experiment file"):
        parse(["--config", "c.yaml"])


def test_a_config_brings_no_folders_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = FILE.format(imports="from nets import network")
    write(tmp_path, {"mine/mine.py": text, "elsewhere/nets.py": NETWORK})
    write(tmp_path, {"c.yaml": "include: [elsewhere]\nwidth: 4\n"})
    words = ["mine/mine.py", "--config", "c.yaml"]
    with pytest.raises(UserError, match="give --include elsewhere"):
        parse(words)
    assert parse([*words, "--include", "elsewhere"]).options.width == 4


def test_a_run_brings_no_folders_in(tmp_path: Path) -> None:
    from experiments.cli.rebuild_experiment import find_named
    from ws_learner.core import RunDir

    text = FILE.format(imports="from nets import network")
    write(tmp_path, {"mine/mine.py": text, "elsewhere/nets.py": NETWORK})
    write(tmp_path, {"run/config.yaml": f"experiment: x\ninclude: [{tmp_path}/elsewhere]\n"})
    run, file = RunDir(tmp_path / "run"), str(tmp_path / "mine" / "mine.py")
    with pytest.raises(UserError, match=r"the run had include .*elsewhere"):
        find_named(run, file)
    assert find_named(run, file, include=[tmp_path / "elsewhere"]).__file__ == file


@pytest.mark.parametrize("space", ["include: [[elsewhere]]", "config: [c.yaml]", "experiment: [x]"])
def test_a_sweep_names_no_code(space: str, tmp_path: Path) -> None:
    write(tmp_path, {"plan.yaml": f"space: {{{space}}}\n"})
    with pytest.raises(UserError, match="no such setting"):
        check_sweep(tmp_path / "plan.yaml", [str(neighbour(tmp_path))])


def test_a_file_named_like_a_standard_module_does_not_replace_it(tmp_path: Path) -> None:
    text = FILE.format(imports="from nets import network")
    write(tmp_path / "mine", {"wave.py": text, "nets.py": NETWORK})
    before = sys.modules.pop("wave", None)
    try:
        module = parse([str(tmp_path / "mine" / "wave.py")]).experiment
        assert module.__file__ == str(tmp_path / "mine" / "wave.py")
        code = "import wave; print(wave.__file__)"
        environment = {"PYTHONPATH": os.pathsep.join(map(str, sys.path))}  # as workers have it
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        stdlib = sysconfig.get_path("stdlib")
        assert done.stdout.startswith(stdlib)
        assert str(importlib.import_module("wave").__file__).startswith(stdlib)
    finally:
        if before is not None:
            sys.modules["wave"] = before


def test_a_runs_folder_lies_in_runs(tmp_path: Path) -> None:
    from dataclasses import replace

    from experiments.cli.build import build
    from experiments.cli.run_identity import locate_run

    command = replace(parse([str(neighbour(tmp_path))]), runs=tmp_path / "runs")
    for name in ("../../up", "/abs", "a/b"):
        run, _ = locate_run(command, f"{name}-gradual", {"a": 1})
        assert run.path.parent == tmp_path / "runs"
    assert build(command) is not None


def test_folders_of_ray_are_this_users_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from ws_learner.config import ClusterConfig
    from ws_learner.training.ray import session

    given: dict[str, object] = {}
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(ray, "init", lambda **settings: given.update(settings))
    folder = session._short_folder()
    session._start(ClusterConfig(workers=1), folder, 1 << 20)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert Path(str(given["_temp_dir"])).parent == folder  # Ray opens its own one to everyone


def test_the_pickle_of_a_training_is_this_users_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ws_learner.config import ClusterConfig
    from ws_learner.training.ray import ray_trainer, train_loop

    seen: list[int] = []

    class Trainer:
        def __init__(self, *parts: object, **settings: object) -> None:
            pass

        def fit(self) -> None:
            assert (tmp_path / "state" / "ranks" / "job.pkl").exists()
            seen.append((tmp_path / "state" / "ranks").stat().st_mode & 0o777)

    monkeypatch.setattr(ray_trainer, "RayTrainer", Trainer)
    folder = tmp_path / "state" / "ranks"
    config = ClusterConfig(workers=1)
    train_loop.train_on_ray(print, config, folder=folder, batch_size=1, parts=[])  # type: ignore[arg-type]
    assert seen == [0o700]
