"""A finished run is opened from its folder, without the command line."""

from __future__ import annotations

import copy
import dataclasses
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import ws_learner
from experiments.run import main
from tests.support import tiny_experiment
from ws_learner import LoadedRun, UserError, WeightSparseConfig, WeightSparseLearner, load_run
from ws_learner.core import ComputeDevice

OWN = str(Path(tiny_experiment.__file__))
BEFORE = Path(__file__).parents[1] / "support" / "before_the_move"
FLAGS = ["--precision", "fp32", "--nb_epochs", "1", "--ws_prune_ratio_prtl", "uniform"]
FLAGS += ["--ws_prune_ratio", "0.5", "--workers", "0"]


def holds(loaded: LoadedRun, folder: Path) -> None:
    """The network has the saved weights, the table counts its zeros."""
    state: dict[str, Tensor] = loaded.model.state_dict()
    for name, tensor in load_file(folder / "model.safetensors").items():
        assert torch.equal(state[name], tensor), name
    for row in loaded.ratios.itertuples():
        zeros = int((state[str(row.layer)] == 0).sum())
        assert zeros == round(float(str(row.achieved)) * int(str(row.weights)))
    assert loaded.summary["learner"] == "weight-sparse"
    assert not loaded.model.training


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    dense = [OWN, "--learner", "full-prec", "--precision", "fp32", "--nb_epochs", "1"]
    assert main([*dense, "--run_dir", str(folder / "dense")]) == 0
    words = [OWN, "--dense_checkpoint", str(folder / "dense"), *FLAGS]
    assert main([*words, "--width", "8", "--run_dir", str(folder / "run")]) == 0
    return folder / "run"


def test_a_run_of_the_users_experiment(finished: Path) -> None:
    loaded = load_run(finished, experiment=OWN)
    holds(loaded, finished)
    assert len(loaded.data.test) == 200
    assert loaded.model is loaded.model
    assert loaded.summary["achieved_prune_ratio"] == pytest.approx(0.5, abs=0.01)
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.path = Path()  # type: ignore[misc]


def test_a_folder_brings_no_code_in(finished: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap.py"
    trap.write_text("raise SystemExit('imported')")
    shutil.copytree(finished, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    for record in ("kept", "gone"):
        config.write_text(f"experiment: {trap}\nseed: 0\n")
        if record == "gone":
            (tmp_path / "run" / "identity.json").unlink()
        with pytest.raises(UserError, match=r'load_run\(path, experiment=".*trap.py"\)'):
            load_run(tmp_path / "run")


def test_a_file_of_a_bundled_name_is_not_taken_for_the_bundled_one(
    finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "config.yaml").write_text("experiment: mine/resnet_at_cifar10.py\n")
    with pytest.raises(UserError, match="does not come with the project"):
        load_run(tmp_path / "run")


def test_an_experiment_of_the_project_needs_no_name(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "identity.json").write_text("{}")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace(OWN, "nets/resnet_at_cifar10_run.py"))
    asked: list[str] = []

    def find(name: str) -> object:
        asked.append(name)
        return tiny_experiment

    monkeypatch.setattr("experiments.cli.find_own_file.importlib.import_module", find)
    loaded = load_run(tmp_path / "run")
    monkeypatch.undo()
    holds(loaded, finished)
    assert asked == ["experiments.resnet_at_cifar10"]


@pytest.mark.filterwarnings("ignore:ws_learner.recipe is now:FutureWarning")
def test_a_run_from_before_the_move() -> None:
    folder = BEFORE / "finished"
    with pytest.raises(UserError, match=r'experiment=".*tiny_experiment\.py"'):
        load_run(folder)
    try:
        loaded = load_run(folder, experiment=BEFORE / "tiny_experiment.py")
        holds(loaded, folder)
        assert len(loaded.data.test) > 0
    finally:
        sys.modules.pop("tiny_experiment", None)


def test_a_run_of_the_python_interface(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tiny_experiment.build(tiny_experiment.Options(), seed=0)
    before = copy.deepcopy(made.model.state_dict())
    result = WeightSparseLearner(
        made.model,
        made.data,
        loss=made.loss,
        metric=made.metric,
        recipe=dataclasses.replace(made.sparse_recipe, nb_epochs=1),
        run_dir=tmp_path / "run",
        config=WeightSparseConfig(
            ws_prune_ratio=0.5, ws_prune_ratio_prtl="uniform", ws_mask_update_step=1
        ),
        compute=ComputeDevice(device="cpu", bf16=False, channels_last=False),
        workers=0,
    ).fit()
    with pytest.raises(UserError, match=r"load_run\(path, model=model\)"):
        load_run(tmp_path / "run")
    with pytest.raises(UserError, match=r"load_run\(path, model=model\)"):
        load_run(tmp_path / "run", experiment=OWN)
    loaded = load_run(tmp_path / "run", model=made.model)
    holds(loaded, tmp_path / "run")
    assert loaded.summary == result.summary
    assert loaded.model is not made.model
    assert all(torch.equal(before[name], t) for name, t in made.model.state_dict().items())
    with pytest.raises(UserError, match="data=data"):
        _ = loaded.data
    capsys.readouterr()
    again = load_run(tmp_path / "run", model=made.model, data=made.data)
    assert capsys.readouterr().err == ""
    changed = copy.deepcopy(made.model)
    changed.get_submodule("conv1").padding_mode = "reflect"
    load_run(tmp_path / "run", model=changed)
    assert "has the run's weights but not its forward" in capsys.readouterr().err
    assert again.data is made.data


def test_a_dense_run_has_no_ratios(finished: Path) -> None:
    loaded = load_run(finished.parent / "dense", experiment=OWN)
    assert isinstance(loaded.model, nn.Module)
    with pytest.raises(UserError, match="a dense run sets no ratios"):
        _ = loaded.ratios


def test_mistakes_are_told(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="holds no finished run"):
        load_run(BEFORE / "training")
    with pytest.raises(UserError, match="holds no finished run"):
        load_run(tmp_path)
    with pytest.raises(UserError, match="checkpoint of another network"):
        load_run(finished, model=nn.Linear(3, 4))
    with pytest.raises(UserError, match="not both"):
        load_run(finished, model=nn.Linear(3, 4), experiment=OWN)
    monkeypatch.setattr("ws_learner.training.loaded_run.entry_points", lambda **_: ())
    with pytest.raises(UserError, match=r"package `experiments`.* not installed"):
        load_run(finished, experiment=OWN)


def test_it_is_public() -> None:
    assert "load_run" in ws_learner.__all__


def test_damaged_files_are_said(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"learner": ')
    with pytest.raises(UserError, match=r"summary\.json: not JSON .* damaged"):
        load_run(tmp_path)
    (tmp_path / "summary.json").write_text("{}")
    (tmp_path / "config.yaml").write_text("experiment: [")
    with pytest.raises(UserError, match=r"config\.yaml: not YAML .* damaged"):
        load_run(tmp_path)


@pytest.mark.parametrize("config", ["experiment: 3\nseed: 0\n", "experiment: bert_at_trec\n"])
def test_a_config_without_its_settings_is_said(tmp_path: Path, config: str) -> None:
    (tmp_path / "summary.json").write_text("{}")
    (tmp_path / "config.yaml").write_text(config)
    with pytest.raises(UserError, match=r"config\.yaml: no (experiment|seed) in it"):
        _ = load_run(tmp_path).model
