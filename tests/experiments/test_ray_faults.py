"""What a cluster does to one: the driver killed, a node taken away. The result is the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from experiments.run import main
from tests.support.processes import descendants, gone
from tests.support.ray_hosts import ROOT, distributed

TINY = str(ROOT / "tests" / "support" / "tiny_experiment.py")
SEARCH = [
    *("--ws_prune_ratio", "0.8", "--ws_nb_rlouts", "14", "--ws_nb_rlouts_min", "6"),
    *("--ws_rlouts_per_round", "4", "--ws_nb_smpls_rg", "100", "--ws_nb_smpls_bn", "50"),
    *("--ws_nb_iters_feval", "1", "--ddpg_nb_updates", "2", "--ws_nb_rescore", "3"),
    *("--ws_mask_update_step", "1", "--precision", "fp32"),
]

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local run, and the dense weights all runs start from."""
    folder = tmp_path_factory.mktemp("undisturbed")
    dense = [TINY, "--learner", "full-prec", "--run_dir", str(folder / "dense")]
    assert main(dense) == 0
    assert main([TINY, *start(folder), *SEARCH, "--run_dir", str(folder / "run")]) == 0
    return folder


def start(folder: Path) -> list[str]:
    return ["--dense_checkpoint", str(folder / "dense" / "model.safetensors")]


@pytest.mark.parametrize("moment", ["search.pt", "sparse.pt"])
def test_a_killed_driver_leaves_nothing_and_the_same_command_goes_on(
    undisturbed: Path, tmp_path: Path, moment: str
) -> None:
    """One worker, so that training too ends with the local result to the last bit."""
    words = ["-n=1", TINY, *start(undisturbed), *SEARCH, "--run_dir", str(tmp_path / "run")]
    environment = {"WS_CHECKPOINT_SECONDS": "0", "WS_DATA_DIR": str(tmp_path / "cache")}
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.distributed", *words],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not (tmp_path / "run" / "state" / moment).exists():
        time.sleep(0.01)
    started = descendants(process.pid)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert started
    assert gone(started, seconds=90)
    done = distributed(*words, cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    whole = undisturbed / "run"
    assert (tmp_path / "run" / "ratios.csv").read_bytes() == (whole / "ratios.csv").read_bytes()
    state = load_file(tmp_path / "run" / "model.safetensors")
    for name, tensor in load_file(whole / "model.safetensors").items():
        assert torch.equal(tensor, state[name]), name


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_ratios_are_the_local_ones_byte_for_byte_on_any_number_of_workers(
    undisturbed: Path, tmp_path: Path, workers: int
) -> None:
    done = distributed(
        *(f"-n={workers}", TINY, *start(undisturbed), *SEARCH, "--run_dir", "run"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    crowded = "more workers than this machine has cores" in done.stderr
    assert crowded == (workers > len(os.sched_getaffinity(0)))
    ours, theirs = tmp_path / "run" / "ratios.csv", undisturbed / "run" / "ratios.csv"
    assert ours.read_bytes() == theirs.read_bytes()


NODES = """
import time
from ray.cluster_utils import Cluster
from tests.support.rollout_parts import counts, tiny_evaluator
from ws_learner.config.cluster import ClusterConfig
from ws_learner.search.rollout.ray_pool import RayPool
from ws_learner.training.ray.session import ray_session

size = {"object_store_memory": 100 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **size})
nodes = [cluster.add_node(num_cpus=1, **size) for _ in range(2)]
evaluator = tiny_evaluator(nb_iters_ft=60)
candidates = [counts(evaluator.layers, ratio / 20) for ratio in range(1, 19)]
expected = [evaluator.score(zeros) for zeros in candidates]
config = ClusterConfig(workers=2, address=cluster.address)
with ray_session(config), RayPool(evaluator, config) as pool:
    assert pool.evaluate(candidates[:2]) == expected[:2]
    while len(pool.pids) < 2:
        pool.evaluate(candidates[:1])
        time.sleep(0.1)
    before = pool.pids

    wait = pool._wait

    def losing():
        if nodes and all(worker.tasks for worker in pool._workers):
            cluster.remove_node(nodes.pop(), allow_graceful=False)
            print("removed", flush=True)
            cluster.add_node(num_cpus=1, **size)
        return wait()

    pool._wait = losing
    assert pool.evaluate(candidates) == expected
    while len(pool.pids) < 2:
        pool.evaluate(candidates[:1])
        time.sleep(0.1)
    assert pool.pids != before
cluster.shutdown()
print("the same scores", flush=True)
"""


def test_a_node_taken_away_costs_no_score(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(NODES)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert "removed\n" in done.stdout, done.stderr
    assert "the same scores\n" in done.stdout, done.stderr
    assert "a rollout worker was lost" in done.stderr
