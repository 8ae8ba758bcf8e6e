"""Pruning on Ray Train: the local result at one rank, equal masks and exact counts at two."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.support.processes import descendants
from tests.support.ray_hosts import ROOT, free_ports
from tests.support.tiny_experiment import Options, build
from ws_learner.config.cluster import ClusterConfig
from ws_learner.config.learner import WeightSparseConfig
from ws_learner.core.device import ComputeDevice
from ws_learner.core.errors import UserError
from ws_learner.learner import WeightSparseLearner
from ws_learner.training.ray.train_loop import Job

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

PLAIN = ComputeDevice(device="cpu", bf16=False, channels_last=False)
CONFIG = WeightSparseConfig(
    ws_prune_ratio=0.8, ws_prune_ratio_prtl="uniform", ws_mask_update_step=2
)
PRUNABLE = ("conv1.weight", "conv2.weight", "fc.weight")


def prune(folder: Path, *, ranks: int | None, **changes: Any) -> dict[str, Tensor]:
    experiment = build(Options(width=4), seed=0)
    WeightSparseLearner(
        experiment.model,
        experiment.data,
        loss=changes.get("loss", experiment.loss),
        metric=experiment.metric,
        recipe=replace(experiment.sparse_recipe, **changes.get("recipe", {})),
        run_dir=folder,
        config=changes.get("config", CONFIG),
        compute=PLAIN,
        cluster=ClusterConfig(workers=ranks) if ranks else None,
    ).fit()
    return load_file(folder / "model.safetensors")


def zeros(state: dict[str, Tensor]) -> int:
    return sum(int((state[name] == 0).sum()) for name in PRUNABLE)


def weights(state: dict[str, Tensor]) -> int:
    return sum(state[name].numel() for name in PRUNABLE)


def test_one_rank_ends_with_the_local_result_to_the_last_bit(tmp_path: Path) -> None:
    local = prune(tmp_path / "local", ranks=None)
    ray = prune(tmp_path / "ray", ranks=1)
    for name, tensor in local.items():
        assert torch.equal(tensor, ray[name]), name
    for name in ("metrics.csv", "ratios.csv"):
        assert (tmp_path / "local" / name).read_text() == (tmp_path / "ray" / name).read_text()


class Slow:
    """A loss that takes its time, so that a rank can be caught at work."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        time.sleep(0.1)
        return torch.nn.functional.cross_entropy(outputs, targets)


def _kill_a_rank(checkpoint: Path, victims: list[int]) -> None:
    """Wait for the first checkpoint; then SIGKILL one rank, in the middle of an epoch."""
    while not checkpoint.exists():
        time.sleep(0.02)
    for pid in descendants(os.getpid()):
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
        if title.startswith(b"ray::RayTrainWorker"):
            os.kill(pid, signal.SIGKILL)
            victims.append(pid)
            return


@pytest.mark.slow
def test_a_killed_rank_ends_in_the_undisturbed_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WS_CHECKPOINT_SECONDS", "0")
    whole = prune(tmp_path / "whole", ranks=2, loss=Slow())
    victims: list[int] = []
    checkpoint = tmp_path / "killed" / "state" / "sparse.pt"
    killer = threading.Thread(target=_kill_a_rank, args=(checkpoint, victims))
    killer.start()
    killed = prune(tmp_path / "killed", ranks=2, loss=Slow())
    killer.join()
    assert len(victims) == 1
    for name, tensor in whole.items():
        assert torch.equal(tensor, killed[name]), name
    for name in ("metrics.csv", "ratios.csv"):
        assert (tmp_path / "whole" / name).read_text() == (tmp_path / "killed" / name).read_text()


@pytest.mark.slow
def test_bad_input_found_by_a_rank_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"loss is (nan|inf).*`lrn_rate`|has the training diverged"):
        prune(tmp_path / "run", ranks=2, recipe={"lrn_rate": 1e30})


def test_two_ranks_prune_exactly_and_leave_nothing_but_the_run(tmp_path: Path) -> None:
    """That masks are equal on both ranks is asserted within the run, see `_Prune.on_end`."""
    local = prune(tmp_path / "local", ranks=None)
    ray = prune(tmp_path / "ray", ranks=2)
    assert zeros(ray) == zeros(local) == round(0.8 * weights(local))
    summaries = [json.loads((tmp_path / n / "summary.json").read_text()) for n in ("local", "ray")]
    steps = [(tmp_path / n / "metrics.csv").read_text().splitlines()[-1] for n in ("local", "ray")]
    assert steps[0].split(",")[0] == steps[1].split(",")[0]  # the schedule counts global steps
    assert abs(summaries[0]["sparse_accuracy"] - summaries[1]["sparse_accuracy"]) < 0.1
    assert sorted(p.name for p in (tmp_path / "ray" / "state").iterdir()) == sorted(
        p.name for p in (tmp_path / "local" / "state").iterdir()
    )


RANK = """
import atexit, sys, cloudpickle, torch
from ws_learner.core.process_group import ProcessGroup

torch.set_num_threads(1)
rank, size, port = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.distributed.init_process_group(
    "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
atexit.register(torch.distributed.destroy_process_group)
cloudpickle.load(open(sys.argv[4], "rb"))(ProcessGroup(rank, size))
"""


def _without_ray(job: Job, config: ClusterConfig, *, folder: Path, **_: object) -> None:
    """What `train_on_ray` does, in processes that know nothing of Ray."""
    pickled = folder.parent / "job.pkl"
    pickled.write_bytes(cloudpickle.dumps(job))
    size, port = config.workers, free_ports(1)[0]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), str(size), str(port), str(pickled)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        for rank in range(size)
    ]
    assert [rank.wait(timeout=300) for rank in ranks] == [0] * size


@pytest.mark.slow
def test_ranks_of_ray_train_are_those_of_plain_gloo_to_the_last_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So accuracies at other world sizes, measured without Ray, are Ray Train's too."""
    ray = prune(tmp_path / "ray", ranks=2)
    monkeypatch.setattr("ws_learner.training.ray.run_phase.train_on_ray", _without_ray)
    gloo = prune(tmp_path / "gloo", ranks=2)
    alone = prune(tmp_path / "alone", ranks=None)
    for name, tensor in gloo.items():
        assert torch.equal(tensor, ray[name]), name
    assert not all(torch.equal(alone[name], ray[name]) for name in PRUNABLE)
