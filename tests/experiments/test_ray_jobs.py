"""Runs on a cluster: sent, listed, followed, stopped, fetched; and every way to miss it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from safetensors.torch import load_file

from experiments.cli.ray.fetch import unpack
from experiments.cli.ray.jobs import Jobs
from experiments.cli.ray.pack_run import pack_folder
from experiments.cli.ray.working_dir import staged
from experiments.distributed import main
from tests.support.ray_hosts import ROOT, distributed, free_ports, head
from ws_learner.config.cluster import ClusterConfig
from ws_learner.core.errors import UserError
from ws_learner.training.ray.session import ray_session

TINY = str(ROOT / "tests" / "support" / "tiny_experiment.py")
SHORT = [
    *("--ws_prune_ratio", "0.8", "--ws_prune_ratio_prtl", "uniform", "--ws_init", "scratch"),
    *("--nb_epochs", "2", "--ws_mask_update_step", "1"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with head(cpus=2, RAY_AUTH_MODE="disabled") as (dashboard, _):
        yield dashboard


@pytest.mark.ray
def test_a_run_on_a_cluster_from_sending_to_fetching(cluster: str, tmp_path: Path) -> None:
    def call(*words: str) -> str:
        done = distributed(*words, cwd=tmp_path, RAY_ADDRESS=cluster)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    storage = tmp_path / "shared"
    sent = call("-n=2", "--storage", str(storage), TINY, *SHORT)
    assert "sparse accuracy" in sent  # the log was followed to the end
    found = re.search(r"sent as (\S+):", sent)
    assert found is not None
    run = found[1]
    assert "succeeded" in next(line for line in call("status").splitlines() if run in line)
    assert "training on 2 ranks" in call("logs", run)

    call("fetch", run)
    (there,), (here,) = storage.iterdir(), (tmp_path / "runs").iterdir()
    assert here.name == there.name
    for name in ("ratios.csv", "model.safetensors", "summary.json", "report.md", "metrics.csv"):
        assert (here / name).read_bytes() == (there / name).read_bytes()
    state = load_file(here / "model.safetensors")
    counts = [state[name] for name in ("conv1.weight", "conv2.weight", "fc.weight")]
    assert sum(int((w == 0).sum()) for w in counts) == round(0.8 * sum(w.numel() for w in counts))

    # A long one, stopped; it has begun, so the same command would go on.
    long = ["--storage", str(storage), "--no_follow", TINY, *SHORT, "--nb_epochs", "5000"]
    found = re.search(r"sent as (\S+):", call("-n=2", *long))
    assert found is not None
    call("stop", found[1])
    assert "stopped" in next(line for line in call("status").splitlines() if found[1] in line)
    # More than the cluster has: refused by the run itself, at once.
    done = distributed(
        *("-n=64", "--storage", str(storage), TINY, *SHORT, "--seed", "1"),
        cwd=tmp_path,
        RAY_ADDRESS=cluster,
    )
    assert done.returncode == 1
    assert "-n=64: needs 64 CPUs, the Ray there has 2; ask for at most -n=2" in done.stdout


class Other(BaseHTTPRequestHandler):
    """A cluster of another time."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({"version": "4", "ray_version": "2.40.0"}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def old_cluster() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Other)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_another_ray_version_is_named(old_cluster: str) -> None:
    with pytest.raises(UserError, match=r"the cluster runs Ray 2\.40\.0, this machine 2\.\d+"):
        Jobs(old_cluster)


def test_nobody_there() -> None:
    with pytest.raises(UserError, match=r"RAY_ADDRESS .*nothing answers there"):
        Jobs(f"http://127.0.0.1:{free_ports(1)[0]}")


def test_an_open_cluster_beyond_this_machine_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(UserError, match="RAY_AUTH_MODE=token"):
        Jobs("http://192.0.2.77:8265")
    monkeypatch.delenv("RAY_AUTH_MODE")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match="needs the cluster's token"):
        Jobs("http://192.0.2.77:8265")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["-n=0"], "-n=0: must be at least 1"),
        (["-n=two"], "-n two: must be a whole number"),
        (["-n=2", "--ws_prune_rato", "0.5"], "did you mean --ws_prune_ratio"),
        (["-n=2", "--gpus_per_worker", "1.5"], "--gpus_per_worker 1.5"),
        (["logs"], "logs: needs one RUN"),
        (["status"], "status: set RAY_ADDRESS"),
        (["-n=2", "--sweep", "nowhere.yaml"], "--sweep nowhere.yaml: cannot be read"),
    ],
)
def test_bad_input_is_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    part: str,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert main(words) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert part in lines[0]


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(
    ("config", "parts"),
    [
        (
            {"workers": 99},
            ["`ClusterConfig.workers`=99: needs 99 CPUs", "at most `ClusterConfig.workers`=4"],
        ),
        ({"workers": 2, "gpus_per_worker": 8}, ["16 GPUs", "`gpus_per_worker` 0"]),
    ],
)
def test_too_small_a_cluster_is_an_error_at_once(config: dict[str, int], parts: list[str]) -> None:
    with pytest.raises(UserError) as caught, ray_session(ClusterConfig(**config)):
        pass
    for part in parts:
        assert part in str(caught.value)


def test_a_job_takes_along_code_and_named_files_but_no_data_or_runs(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("ws_prune_ratio: 0.5\n")
    words = ["-n=2", TINY, "--config", str(mine), "--ws_ratios=nowhere.csv", "--data_dir", "data"]
    with staged(words) as (folder, rewritten):
        assert rewritten[0] == "-n=2"
        assert (folder / rewritten[1]).read_text() == Path(TINY).read_text()
        assert (folder / rewritten[3]).read_text() == mine.read_text()
        assert rewritten[4:] == ["--ws_ratios=nowhere.csv", "--data_dir", "data"]
        tops = {path.name for path in folder.iterdir()}
        beside = {path.name for path in Path(TINY).parent.iterdir()} - {"__pycache__"}
        assert tops == {"agents", "envs", "experiments", "ws_learner", "given"} | beside
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        assert size < 8e6  # the project's code and weights, and the folder of TINY
    assert not folder.exists()
    with staged(["nets/resnet_at_cifar10_run.py", "--seed", "1"]) as (_, rewritten):
        assert rewritten == ["nets/resnet_at_cifar10_run.py", "--seed", "1"]
    for words in (["--from_rollouts", str(mine)], [f"--ws-rollouts={mine}", "--seed", str(mine)]):
        with staged(words) as (folder, rewritten):
            assert (folder / "given" / "mine.yaml").is_file()
            assert str(mine) not in rewritten[:-1]
            assert rewritten[-1] == (str(mine) if len(words) == 3 else "given/mine.yaml")
    (tmp_path / "policy.safetensors").write_bytes(b"what a search has learned")
    for words in (["--policy", str(tmp_path)], [f"--ws_from_policy={tmp_path}"]):
        with staged(words) as (folder, rewritten):  # of a run's folder the policy alone
            assert rewritten[-1].endswith("given/policy.safetensors")
            sent = folder / "given" / "policy.safetensors"
            assert sent.read_bytes() == b"what a search has learned"
    with staged(["--dense_checkpoint", str(tmp_path)]) as (_, rewritten):
        assert rewritten == ["--dense_checkpoint", str(tmp_path)]


def make_run(folder: Path, identity: str) -> Path:
    (folder / "state").mkdir(parents=True)
    (folder / "identity.json").write_text(identity)
    (folder / "state" / "search.pt").write_bytes(bytes(range(256)))
    return folder


@pytest.mark.parametrize("finished", [False, True])
def test_what_is_packed_there_is_unpacked_here(tmp_path: Path, finished: bool) -> None:
    there, here = make_run(tmp_path / "there", "a"), tmp_path / "here"
    if finished:
        (there / "summary.json").touch()
    noise = "(raylet) a line of somebody else\n"
    unpack(noise + pack_folder(there) + "\n" + noise, here)
    assert (here / "identity.json").read_text() == "a"
    assert (here / "state").exists() != finished
    unpack(pack_folder(there), here)  # once more, over itself
    other = make_run(tmp_path / "other", "b")
    with pytest.raises(UserError, match="not this run"):
        unpack(pack_folder(other), here)
    with pytest.raises(UserError, match="damaged"):
        unpack(pack_folder(other).replace("BEGIN 0", "BEGIN 1").replace("A", "B"), tmp_path / "new")
