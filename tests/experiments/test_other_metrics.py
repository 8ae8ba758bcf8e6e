"""A regression from end to end: its error is minimised, and reported as what it is."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from tests.support.tasks import MSE, Task, regression, several_labels
from ws_learner import MetricSpec, Recipe, UserError, WeightSparseConfig, WeightSparseLearner
from ws_learner.core.checkpoints import load_state_file, save_state_file
from ws_learner.core.device import ComputeDevice
from ws_learner.report import write_report
from ws_learner.search import Allocation

CONFIG = WeightSparseConfig(
    ws_prune_ratio=0.7,
    ws_prune_ratio_prtl="random",
    ws_nb_rlouts=12,
    ws_nb_rlouts_min=4,
    ws_nb_rescore=4,
    ws_nb_smpls_rg=40,
    ws_nb_smpls_bn=0,
    ws_mask_update_step=1,
)


def learner(task: Task, run: Path, **changes: Any) -> WeightSparseLearner:
    parts: dict[str, Any] = {
        "loss": task.loss,
        "metric": task.metric,
        "recipe": Recipe(nb_epochs=2, batch_size=20, lrn_rate=1e-3, optimizer="adam"),
        "config": CONFIG,
        "compute": ComputeDevice(device="cpu", bf16=False, channels_last=False),
        "workers": 0,
        "run_dir": run,
    }
    return WeightSparseLearner(task.dense, task.data, **parts | changes)


def mse(model: nn.Module, task: Task) -> float:
    """On the test split, in double precision, without the product's code."""
    inputs, targets = next(task.data.test.batches(1000))
    with torch.no_grad():
        return float(((model(inputs) - targets).double() ** 2).mean())


def chosen(allocation: Allocation, rollouts: pd.DataFrame) -> pd.Series:
    """The re-scored row whose profile was chosen."""
    again = rollouts[rollouts["kind"] == "select"]
    zeros = again.filter(like="zeros/").to_numpy()
    (place,) = np.flatnonzero((zeros == allocation.zeros).all(1))
    return again.iloc[place]


@pytest.mark.parametrize("signal", ["kl", "accuracy"])
def test_an_error_is_minimised_by_the_search(signal: Any, tmp_path: Path) -> None:
    task = regression()
    config = dataclasses.replace(CONFIG, ws_reward_signal=signal)
    allocation = learner(task, tmp_path, config=config).allocate()
    rollouts = pd.read_csv(tmp_path / "rollouts.csv")
    measured = "accuracy" if signal == "accuracy" else "divergence"
    scored = rollouts[rollouts["kind"] != "select"]
    order = scored.sort_values("reward", ascending=False, kind="stable")
    assert order[measured].is_monotonic_increasing
    assert rollouts["reward"].between(0, 1).all()
    again = rollouts[rollouts["kind"] == "select"]
    assert len(again) == 4
    assert chosen(allocation, rollouts)[measured] == again[measured].min()


def test_an_error_is_reported_as_what_it_is(tmp_path: Path) -> None:
    task = regression()
    config = dataclasses.replace(CONFIG, ws_prune_ratio_prtl="uniform", enbl_dst=True)
    result = learner(task, tmp_path, config=config).fit()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["metric"] == "MSE"
    assert summary["higher_is_better"] is False
    assert summary["dense_metric"] == pytest.approx(mse(task.dense, task), rel=1e-5)
    assert summary["sparse_metric"] == pytest.approx(mse(result.model, task), rel=1e-5)
    assert not [name for name in summary if name.endswith("_accuracy")]
    log = pd.read_csv(tmp_path / "metrics.csv")
    assert "select/accuracy" not in log
    assert log["select/metric"].notna().sum() == 2  # an epoch each
    text = write_report(tmp_path).read_text()
    assert "K^2 (worse)" in text
    assert "accuracy" not in text


def test_labels_are_distilled_and_searched_for_as_labels(tmp_path: Path) -> None:
    task = several_labels()
    config = dataclasses.replace(CONFIG, enbl_dst=True)
    result = learner(task, tmp_path, config=config).fit()
    assert result.summary["metric"] == "right labels"
    assert result.summary["sparse_accuracy"] > 0.8


def mean_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().mean()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"metric": mean_error}, "a score for each example"),
        ({"metric": MSE.function}, "give metric=MetricSpec"),
        ({"metric": MetricSpec(MSE.function, name="MSE")}, "must lie in"),
        ({"outputs": "value"}, "did you mean values"),
    ],
)
def test_a_mistake_is_told_before_any_work(
    changes: dict[str, Any], word: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=word):
        learner(regression(), tmp_path, **changes).fit()
    assert not (tmp_path / "rollouts.csv").exists()
    assert not (tmp_path / "metrics.csv").exists()


def test_outputs_that_are_not_known_are_asked_for_only_if_they_are_compared(
    tmp_path: Path,
) -> None:
    task = regression()
    shares = dataclasses.replace(task.data, outputs=None)
    for part in (shares.train, shares.search):
        targets = part._dataset.dataset.tensors[1]  # type: ignore[attr-defined]
        targets.copy_(targets.sigmoid())
    unclear = dataclasses.replace(task, data=shares)
    with pytest.raises(UserError, match="give `outputs`, one of classes"):
        learner(unclear, tmp_path / "kl").allocate()
    plain = dataclasses.replace(CONFIG, ws_reward_signal="accuracy")
    learner(unclear, tmp_path / "accuracy", config=plain).allocate()
    rollouts = pd.read_csv(tmp_path / "accuracy" / "rollouts.csv")
    assert rollouts["divergence"].isna().all()
    learner(unclear, tmp_path / "given", outputs="values").allocate()
    said = dataclasses.replace(unclear, data=dataclasses.replace(shares, outputs="values"))
    learner(said, tmp_path / "data").allocate()
    named = [pd.read_csv(tmp_path / name / "rollouts.csv") for name in ("given", "data")]
    assert named[0]["reward"].tolist() == named[1]["reward"].tolist()


def test_a_search_does_not_go_on_with_another_reward(tmp_path: Path) -> None:
    task = regression()
    allocation = learner(task, tmp_path).allocate()
    (tmp_path / "state" / "allocation.json").unlink()
    assert learner(task, tmp_path).allocate().zeros.tolist() == allocation.zeros.tolist()
    (tmp_path / "state" / "allocation.json").unlink()
    with pytest.raises(UserError, match=r"divergence of values, but .* of embeddings; give"):
        learner(task, tmp_path, outputs="embeddings", claims=False).allocate()
    state = load_state_file(tmp_path / "state" / "search.pt")
    del state["rewarded"]  # as of a version that took everything for classes
    save_state_file(tmp_path / "state" / "search.pt", state)
    with pytest.raises(UserError, match=r"rewarded as a classifier, but .* divergence of values"):
        learner(task, tmp_path).allocate()
