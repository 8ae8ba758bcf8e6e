"""Two network namespaces as two hosts: search and training span both. Needs root and `ip`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ray_hosts import ROOT, distributed, head, new_token, node

pytestmark = [pytest.mark.hosts, pytest.mark.ray]

TINY = str(ROOT / "tests" / "support" / "tiny_experiment.py")
ADDRESSES = ("10.213.77.1", "10.213.77.2")
WORDS = [
    *("--ws_prune_ratio", "0.8", "--ws_nb_rlouts", "14", "--ws_nb_rlouts_min", "6"),
    *("--ws_rlouts_per_round", "4", "--ws_nb_smpls_rg", "100", "--ws_nb_smpls_bn", "50"),
    *("--ws_nb_iters_feval", "1", "--ddpg_nb_updates", "2", "--ws_nb_rescore", "3"),
    *("--ws_mask_update_step", "1", "--nb_epochs", "2"),
]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts() -> Iterator[list[list[str]]]:
    """Prefixes of commands that run them on the one host and on the other."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2")
    names = [f"ws{os.getpid()}{side}" for side in "ab"]
    cards = [f"ws{os.getpid() % 10**6}{side}" for side in "ab"]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", cards[0], "type", "veth", "peer", "name", cards[1])
        for name, card, address in zip(names, cards, ADDRESSES, strict=True):
            ip("link", "set", card, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", card)
            ip("-n", name, "link", "set", card, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield [["ip", "netns", "exec", name] for name in names]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def test_search_and_training_over_two_hosts_with_a_token(
    hosts: list[list[str]], tmp_path: Path
) -> None:
    one, two = hosts
    own = Path(tempfile.mkdtemp(prefix="ws-node-", dir="/tmp"))
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": new_token()}
    with head(cpus=1, host=ADDRESSES[0], prefix=one, **secret) as (dashboard, store):
        joined = [
            f"--address={store}",
            f"--node-ip-address={ADDRESSES[1]}",
            *("--num-cpus=1", f"--object-store-memory={100 * 2**20}"),
            f"--temp-dir={own}",  # hosts share no files but the storage
        ]
        with node(joined, prefix=two, **secret):
            words = ["-n=2", "--storage", str(tmp_path / "shared"), TINY, *WORDS]
            done = distributed(*words, prefix=two, cwd=tmp_path, RAY_ADDRESS=dashboard, **secret)
            assert done.returncode == 0, done.stdout + done.stderr
            for address in ADDRESSES:  # a rank on each
                assert f" of 2 on {address}" in done.stdout
            # Nobody without the token gets in.
            refused = distributed(
                "status",
                prefix=two,
                cwd=tmp_path,
                RAY_ADDRESS=dashboard,
                RAY_AUTH_MODE="token",
                RAY_AUTH_TOKEN=new_token(),
            )
            assert refused.returncode == 2
            assert "wants another token" in refused.stderr
    shutil.rmtree(own, ignore_errors=True)
    (run,) = [p for p in (tmp_path / "shared").iterdir() if "gradual" in p.name]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["rollouts"] == 14
    assert summary["achieved_prune_ratio"] == pytest.approx(0.8, abs=1e-3)
