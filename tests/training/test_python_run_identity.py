"""A run directory of the Python interface answers only for the arguments it was made with."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents import DDPGConfig
from tests.support import tiny_experiment
from ws_learner import Recipe, UserError, WeightSparseConfig, WeightSparseLearner
from ws_learner.core import ComputeDevice, RunDir
from ws_learner.data import ArraySplit, DataSplits
from ws_learner.search import Allocator
from ws_learner.training import Trainer, load_run, owned_run, top_k_accuracy

ROOT = Path(__file__).parents[2]
CONFIG = WeightSparseConfig(
    ws_prune_ratio=0.9, ws_prune_ratio_prtl="uniform", ws_mask_update_step=1
)
RECIPE = Recipe(nb_epochs=1, batch_size=32, lrn_rate=0.03)


def network(*, act: Callable[[], nn.Module] = nn.ReLU, seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), act(), nn.Flatten(), nn.Linear(4 * 64, 4)
        )


def splits(*, seed: int = 0, padding: int = 1) -> DataSplits:
    """Data whose maker wrote the same digest for all of it."""

    def part(number: int) -> ArraySplit:
        images = np.random.default_rng([seed, number]).integers(0, 256, (64, 8, 8, 3))
        labels = np.arange(64) % 4
        return ArraySplit(
            images.astype(np.uint8), labels, mean=(0.4,) * 3, std=(0.25,) * 3, padding=padding
        )

    return DataSplits(
        name="made",
        digest="made",
        num_classes=4,
        input_shape=(3, 8, 8),
        train=part(0),
        search=part(1),
        select=part(2),
        test=part(3),
    )


def arguments(**changes: Any) -> dict[str, Any]:
    plain = ComputeDevice(device="cpu", bf16=False, channels_last=False)
    fixed: dict[str, Any] = {
        "model": network(),
        "data": splits(),
        "loss": nn.CrossEntropyLoss(),
        "metric": top_k_accuracy,
        "recipe": RECIPE,
        "config": CONFIG,
        "compute": plain,
        "workers": 0,
    }
    return fixed | changes


def learner(**changes: Any) -> WeightSparseLearner:
    return WeightSparseLearner(**arguments(**changes))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    learner(run_dir=folder).fit()
    return folder


def double(outputs: Tensor, targets: Tensor) -> Tensor:
    return 2 * F.cross_entropy(outputs, targets)


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "target": (
        {"config": dataclasses.replace(CONFIG, ws_prune_ratio=0.5)},
        "config.ws_prune_ratio 0.9 -> 0.5",
    ),
    "weights": ({"model": network(seed=1)}, "model.weights"),
    "activation": ({"model": network(act=nn.Tanh)}, "model.forward"),
    "layers": ({"model": nn.Sequential(nn.Flatten(), nn.Linear(192, 4))}, "model.forward"),
    "images": ({"data": splits(seed=1)}, "data.content"),
    "augmentation": ({"data": splits(padding=2)}, "data.content"),
    "digest": ({"data": dataclasses.replace(splits(), digest="b")}, "data.digest 'made' -> 'b'"),
    "loss": ({"loss": double}, "loss.code"),
    "loss setting": ({"loss": nn.CrossEntropyLoss(label_smoothing=0.1)}, "loss.code"),
    "metric": ({"metric": partial(top_k_accuracy, k=2)}, "metric.code"),
    "recipe": (
        {"recipe": dataclasses.replace(RECIPE, lrn_rate=0.1)},
        "recipe.lrn_rate 0.03 -> 0.1",
    ),
    "agent": ({"agent": DDPGConfig(ddpg_tau=0.5)}, "agent.ddpg_tau 0.01 -> 0.5"),
    "teacher": ({"teacher": network(seed=2)}, "teacher None -> "),
    "seed": ({"seed": 1}, "seed 0 -> 1"),
    "precision": (
        {"compute": ComputeDevice(device="cpu", bf16=True, channels_last=False)},
        "precision 'fp32' -> 'bf16'",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_other_arguments_are_refused_and_named(name: str, finished: Path) -> None:
    changes, line = CHANGES[name]
    other = learner(run_dir=finished, **changes)
    for call in (other.fit, other.allocate, other.prune):
        with pytest.raises(UserError, match="made with other settings") as caught:
            call()
        changed = str(caught.value).splitlines()[1:]
        assert any(row.strip().startswith(line) for row in changed), changed


def test_a_finished_run_is_read_and_not_trained(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = learner(run_dir=finished).fit()
    monkeypatch.setattr(Trainer, "run", lambda self: pytest.fail("it trained again"))
    monkeypatch.setattr(Allocator, "run_protocol", lambda self: pytest.fail("it allocated again"))
    saved = tmp_path / "also.safetensors"
    config = dataclasses.replace(CONFIG, ws_save_path=saved)
    again = learner(run_dir=finished, workers=3, config=config, facts={"note": 1})
    result = again.fit()
    state = load_run(finished, model=network()).model.state_dict()
    for model in (result.model, again.prune(), first.model):
        assert all(torch.equal(state[name], t) for name, t in model.state_dict().items())
    zeros = sum(int((state[f"{place}.weight"] == 0).sum()) for place in (0, 3))
    assert zeros == round(0.9 * (3 * 4 * 9 + 4 * 64 * 4))
    assert result.summary == first.summary | {"note": 1}
    pd.testing.assert_frame_equal(result.ratios, first.ratios)
    assert saved.read_bytes() == RunDir(finished).model.read_bytes()


def test_the_result_read_again_is_the_one_that_was_made(tmp_path: Path) -> None:
    made = learner(run_dir=tmp_path / "run").fit()
    read = learner(run_dir=tmp_path / "run").fit()
    assert read.summary == made.summary
    pd.testing.assert_frame_equal(read.ratios, made.ratios, check_dtype=False)
    state = made.model.state_dict()
    assert all(torch.equal(state[name], t) for name, t in read.model.state_dict().items())


def test_folders_without_a_name_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = {}
    for name, changes in {
        "first": {},
        "target": {"config": dataclasses.replace(CONFIG, ws_prune_ratio=0.5)},
        "forward": {"model": network(act=nn.Tanh)},
        "the same": {"workers": 1, "config": dataclasses.replace(CONFIG, ws_save_path=Path("x"))},
    }.items():
        one = learner(**changes)
        before = one.run.path
        one.allocate()
        made[name] = one.run.path
        assert before == one.run.path
        assert one.run.path.parent == Path("runs")
        assert one.run.path.name.startswith("sequential-gradual-")
    assert made["the same"] == made["first"]
    assert len(set(made.values())) == 3
    assert {path.name for path in Path("runs").iterdir()} == {p.name for p in made.values()}


def test_a_change_between_two_calls_of_one_learner_is_seen(tmp_path: Path) -> None:
    one = learner(run_dir=tmp_path / "run")
    one.allocate()
    with torch.no_grad():
        one.model[0].weight.zero_()  # type: ignore[index, union-attr, operator]
    with pytest.raises(UserError, match=r"model\.weights"):
        one.allocate()


def test_given_ratios_count_by_content(tmp_path: Path) -> None:
    def given(path: Path) -> WeightSparseLearner:
        usual = {"ws_prune_ratio_prtl": "given", "ws_prune_ratio": 0.75}
        config = dataclasses.replace(CONFIG, **usual, ws_ratios=path)
        return learner(run_dir=tmp_path / "run", config=config)

    table, moved = tmp_path / "ratios.csv", tmp_path / "moved.csv"
    table.write_text("layer,prune_ratio\n0.weight,0.5\n3.weight,0.75\n")
    zeros = given(table).allocate().zeros.tolist()
    assert zeros == [54, 768]
    moved.write_text(table.read_text())
    assert given(moved).allocate().zeros.tolist() == zeros
    table.write_text("layer,prune_ratio\n0.weight,0.5\n3.weight,0.5\n")
    with pytest.raises(UserError, match=r"config\.ws_ratios"):
        given(table).allocate()
    with pytest.raises(UserError, match=r"`ws_ratios` .*none\.csv: cannot be read"):
        given(tmp_path / "none.csv").allocate()


def test_mistakes_leave_no_folder_behind(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, ws_include=("nothing*",))
    with pytest.raises(UserError):
        learner(run_dir=tmp_path / "run", config=config).fit()
    assert not (tmp_path / "run").exists()


def test_a_folder_from_before_is_refused_and_still_opens(finished: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    for file in finished.iterdir():
        if file.is_file() and file.name != "identity.json":
            (old / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UserError, match=r"no identity\.json.*empty or new folder.*load_run"):
        learner(run_dir=old).fit()
    loaded = load_run(old, model=network())
    state = load_run(finished, model=network()).model.state_dict()
    assert all(torch.equal(state[name], t) for name, t in loaded.model.state_dict().items())


def test_a_damaged_record_is_said(tmp_path: Path) -> None:
    one = learner(run_dir=tmp_path / "run")
    one.allocate()
    (tmp_path / "run" / "identity.json").write_text('{"model": ')
    with pytest.raises(UserError, match=r"identity\.json: not JSON .* damaged"):
        one.allocate()


def test_the_folder_is_locked(tmp_path: Path) -> None:
    seen: list[str] = []

    def metric(outputs: Tensor, targets: Tensor) -> Tensor:
        if not seen:
            with pytest.raises(UserError, match="locked by another process or call") as caught:
                learner(run_dir=tmp_path / "run").allocate()
            seen.append(str(caught.value))
        return top_k_accuracy(outputs, targets)

    learner(run_dir=tmp_path / "run", metric=metric).fit()
    assert len(seen) == 1


def test_who_claims_the_folder_may_call_the_learner(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    with run.locked():
        run.claim({"mine": 1}, {"mine": 1})
        result = learner(run_dir=run.path, claims=False).fit()
    assert json.loads((run.path / "identity.json").read_text()) == {"mine": 1}
    assert result.summary["achieved_prune_ratio"] == pytest.approx(0.9, abs=0.001)


def test_another_process_makes_the_same_identity() -> None:
    place = __name__  # imported by name in the other process, too
    code = f"from importlib import import_module as load; import json; own = load({place!r}); "
    code += "print(json.dumps(own.learner(loss=own.double).identity()))"
    shown = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert json.loads(shown) == json.loads(json.dumps(learner(loss=double).identity()))


def test_the_tiny_experiment_has_one_identity_wherever_it_is_built() -> None:
    made = [tiny_experiment.build(tiny_experiment.Options(), seed=0) for _ in range(2)]
    identities = [
        learner(model=one.model, data=one.data, loss=one.loss, metric=one.metric).identity()
        for one in made
    ]
    assert identities[0] == identities[1]


def test_a_folder_may_be_given_as_text(tmp_path: Path) -> None:
    for claims in (True, False):
        folder = str(tmp_path / f"run{claims}")
        with owned_run(folder, "net", identity=dict, claims=claims) as run:
            assert run.path == Path(folder)
