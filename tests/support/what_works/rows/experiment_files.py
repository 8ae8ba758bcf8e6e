"""Experiment files, paths and patterns as people write them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from experiments.cli.build import build
from experiments.cli.flags import parse
from experiments.cli.ray.sweep_checks import check_sweep
from experiments.cli.ray.working_dir import staged
from experiments.cli.rebuild_experiment import load_experiment
from experiments.run import main, make_learner
from tests.support.what_works.row import Row
from ws_learner import GradualConfig, Sparsifier, WeightSparseConfig, load_run
from ws_learner.core import RunDir, load_state, write_json

NETWORK = """
from torch import nn

def network(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.ReLU(), nn.Linear(width, 2))
"""
FILE = """
from dataclasses import dataclass

import torch
from torch.utils.data import TensorDataset

from experiments.experiment import Experiment, classification
from ws_learner import Recipe, split_dataset
{imports}

@dataclass(frozen=True)
class Options:
    width: int = 8

def build(options, *, seed):
    images = torch.randn(160, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    data = split_dataset(TensorDataset(images, (images.mean((1, 2, 3)) > 0).long()), num_classes=2)
    recipe = Recipe(nb_epochs=1, batch_size=16)
    loss, metric = classification(recipe)
    return Experiment(
        name="mine", model=network(options.width), data=data, loss=loss, metric=metric,
        dense_recipe=recipe, sparse_recipe=recipe,
    )
"""
SHORT = ["--ws_prune_ratio_prtl", "uniform", "--ws_init", "scratch", "--prune_ratio", "0.5"]
SHORT += ["--precision", "fp32", "--workers", "0"]


def write(folder: Path, files: dict[str, str]) -> None:
    """Files by their paths below a folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def neighbour(folder: Path) -> Path:
    """An experiment file and its neighbour, in a folder that is not the current one."""
    text = FILE.format(imports="import nets\nnetwork = nets.network")
    write(folder / "mine", {"experiment.py": text, "nets.py": NETWORK})
    return folder / "mine" / "experiment.py"


def _ends_sparse(folder: Path, *words: str) -> None:
    assert main([*words, *SHORT, "--run_dir", str(folder / "run")]) == 0
    state = load_state(folder / "run" / "model.safetensors")
    matrices = [tensor for tensor in state.values() if tensor.ndim == 2]
    assert sum(int((m == 0).sum()) for m in matrices) == sum(m.numel() for m in matrices) // 2


def _neighbour(folder: Path) -> None:
    _ends_sparse(folder, str(neighbour(folder)))


def _package(folder: Path) -> None:
    text = FILE.format(imports="from ..nets import network")
    write(folder / "pkg", {"__init__.py": "", "nets.py": NETWORK})
    write(folder / "pkg" / "work", {"__init__.py": "", "mine.py": text})
    _builds(str(folder / "pkg" / "work" / "mine.py"))


def _package_above(folder: Path) -> None:
    text = FILE.format(imports="from pkg.nets import network")
    write(folder / "pkg", {"__init__.py": "", "nets.py": NETWORK, "work/mine.py": text})
    _builds(str(folder / "pkg" / "work" / "mine.py"))


def _include(folder: Path) -> None:
    text = FILE.format(imports="from nets import network")
    write(folder, {"mine/mine.py": text, "elsewhere/nets.py": NETWORK})
    _builds(str(folder / "mine" / "mine.py"), "--include", str(folder / "elsewhere"))


def _builds(*words: str) -> None:
    experiment = build(parse([*words, "--width", "4"]))
    assert experiment.model.get_parameter("1.weight").shape == (4, 16)


def _travels(folder: Path) -> None:
    file = neighbour(folder)
    with staged(["-n=2", str(file)]) as (there, words):
        assert words == ["-n=2", "experiment.py"]
        assert (there / "nets.py").read_text() == NETWORK


def _moved(folder: Path) -> None:
    file = neighbour(folder)
    _ends_sparse(folder, str(file))
    file.rename(folder / file.name)
    (file.parent / "nets.py").rename(folder / "nets.py")
    words = ["--exec_mode", "eval", "--run_dir", str(folder / "run")]
    assert main([str(folder / file.name), *words]) == 0


def _opened(folder: Path) -> None:
    _ends_sparse(folder, str(neighbour(folder)))
    run = load_run(str(folder / "run"), experiment=str(folder / "mine" / "experiment.py"))
    assert run.model(torch.zeros(1, 1, 4, 4)).shape == (1, 2)


def _wrong(text: str) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        write(folder, {"mine.py": text})
        build(parse([str(folder / "mine.py")]))

    return run


def _unfit_layers(folder: Path) -> None:
    text = NETWORK.replace("nn.Linear(width, 2)", "nn.Linear(width + 1, 2)")
    write(folder, {"mine.py": FILE.format(imports="from nets import network"), "nets.py": text})
    _refuse_layers([str(folder / "mine.py"), *SHORT, "--run_dir", str(folder / "run")])


def _refuse_layers(words: list[str]) -> None:
    """Raise the `UserError` that the command line would print."""
    command = parse(words)
    experiment = build(command)
    make_learner(command, experiment, run=command.runs).layers()


def _missing_before_sending(folder: Path) -> None:
    lines = "    from nets import network\n    recipe ="
    write(folder, {"mine.py": FILE.format(imports="").replace("    recipe =", lines)})
    words = [str(folder / "mine.py")]
    parse(words)
    with staged(words):
        pass


def _sweep(folder: Path) -> None:
    (folder / "plan.yaml").write_text("space: {prune_ratio: [1.5, 2.0]}")
    check_sweep(folder / "plan.yaml", [str(neighbour(folder))])


def _gone(folder: Path) -> None:
    run = RunDir(folder / "run")
    write_json(run.summary, {"learner": "weight-sparse"})
    write_json(run.path / "identity.json", {"file": "0" * 64})
    run.config.write_text("experiment: mine/experiment.py\nseed: 0\n")
    load_experiment(run)


def _text_paths(folder: Path) -> None:
    os.environ["HOME"], before = str(folder), os.environ["HOME"]
    try:
        config = WeightSparseConfig(ws_save_path="~/best.safetensors")  # type: ignore[arg-type]
        assert config.ws_save_path == folder / "best.safetensors"
    finally:
        os.environ["HOME"] = before


def _text_pattern(folder: Path) -> None:
    model = nn.Linear(8, 4, bias=False)
    config = GradualConfig(pattern="2:4", iter_ratio_beg=0.0, mask_update_step=1)  # type: ignore[arg-type]
    sparsifier = Sparsifier(model, config, ratios={"weight": 0.5}, total_steps=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparsifier.attach(optimizer)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.ones(2, 8)).sum().backward()
        optimizer.step()
    groups = (sparsifier.finalize().get_parameter("weight") == 0).reshape(4, 2, 4)
    assert bool((groups.sum(-1) == 2).all())


def _wrong_pattern(folder: Path) -> None:
    GradualConfig(pattern="4y1")  # type: ignore[arg-type]


GOOD = FILE.format(imports=NETWORK)
ROWS = (
    Row(area="command line", what="an experiment file that imports its neighbour", run=_neighbour),
    Row(area="command line", what="one in a package, with relative imports", run=_package),
    Row(area="command line", what="one that imports the package above it", run=_package_above),
    Row(area="command line", what="one that imports from a folder of `--include`", run=_include),
    Row(area="command line", what="an experiment file sent to a cluster", run=_travels),
    Row(area="command line", what="a run whose experiment file has moved", run=_moved),
    Row(area="command line", what="a run opened by paths as text", run=_opened),
    Row(area="command line", what="paths as text, with `~`", run=_text_paths),
    Row(area="command line", what="patterns as text in Python", run=_text_pattern),
    Row(
        area="command line",
        what="a run whose experiment file is gone",
        run=_gone,
        refused="which is not there any more; looked in",
    ),
    Row(
        area="command line",
        what="a pattern that does not exist",
        run=_wrong_pattern,
        refused="`pattern` 4y1: no such pattern",
    ),
    Row(
        area="command line",
        what="an experiment file without `build`",
        run=_wrong(GOOD.replace("def build", "def make")),
        refused="defines no build",
    ),
    Row(
        area="command line",
        what="`build(options)` without `seed`",
        run=_wrong(GOOD.replace(", *, seed)", ")")),
        refused="build(options) cannot be called as build(options, seed=0)",
    ),
    Row(
        area="command line",
        what="`build` that returns the network",
        run=_wrong(GOOD.replace("return Experiment(", "return network(3)\n    Experiment(")),
        refused="build returned a Sequential, not an Experiment",
    ),
    Row(
        area="command line",
        what="an `Experiment` with a tuple for a network",
        run=_wrong(GOOD.replace("model=network(options.width)", "model=(network(3), 1)")),
        refused="`model` is of type tuple; must be a torch.nn.Module",
    ),
    Row(
        area="command line",
        what="`Options` that is no dataclass",
        run=_wrong(GOOD.replace("@dataclass(frozen=True)\n", "")),
        refused="Options is the class Options, not a dataclass",
    ),
    Row(
        area="command line",
        what="an option without a default that is not given",
        run=_wrong(GOOD.replace("width: int = 8", "width: int")),
        refused="--width: needed",
    ),
    Row(
        area="command line",
        what="a syntax error in an experiment file",
        run=_wrong("x = 1\ndef build(:\n"),
        refused="mine.py:2: def build(:",
    ),
    Row(
        area="command line",
        what="an experiment file that raises",
        run=_wrong(GOOD.replace("    recipe =", "    1 / 0\n    recipe =")),
        refused="build raised ZeroDivisionError: division by zero",
    ),
    Row(
        area="command line",
        what="a network whose layers do not fit together",
        run=_unfit_layers,
        refused="the network fails on the first training examples, inputs of shape (2, 1, 4, 4)",
    ),
    Row(
        area="command line",
        what="an import that is not there",
        run=_wrong("import nets_of_mine\n"),
        refused="mine.py:1: imports nets_of_mine, which is not found in",
    ),
    Row(
        area="command line",
        what="the same inside `build`, before a job is sent",
        run=_missing_before_sending,
        refused="imports nets, which is not found in",
    ),
    Row(
        area="command line",
        what="a sweep of values that are not allowed",
        run=_sweep,
        refused="no trial has values that are allowed",
    ),
)
