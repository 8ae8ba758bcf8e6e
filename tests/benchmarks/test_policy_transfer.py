"""The transfer benchmark: what is learned from, and where its searches are kept."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import policy_transfer
from benchmarks.policy_transfer import Options, TransferJob, transfer_rows
from benchmarks.transfer_networks import FAMILIES, NETWORKS


def test_families_hold_each_network_once() -> None:
    assert sorted(name for names in FAMILIES.values() for name in names) == sorted(NETWORKS)


def test_searches_of_two_targets_are_kept_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A search that found the folder of another target would go on with its rollouts."""
    folders: list[Path] = []
    zeros = np.array([1, 2])

    def searched(*_: Any, folder: Path, **__: Any) -> list[Any]:
        folders.append(folder)
        return [SimpleNamespace(zeros=zeros, score=SimpleNamespace(reward=0.5))]

    attempt = SimpleNamespace(name="a", problem=None, proposer=None, seeds={}, rollouts=1)
    policy = SimpleNamespace(load_actor=lambda state: None, walk=lambda target: zeros)
    found = SimpleNamespace(
        policy=lambda: policy, protocol=lambda name, target: zeros, select=lambda profile: 0.5
    )
    monkeypatch.setattr(policy_transfer, "searched", searched)
    monkeypatch.setattr(policy_transfer, "taught", lambda job: {})
    monkeypatch.setattr(policy_transfer, "network", lambda name, seed: found)
    monkeypatch.setattr(policy_transfer, "_attempts", lambda *given: [attempt])
    rows = transfer_rows(TransferJob(family="ResNets", seed=0, options=Options(out=tmp_path)))
    assert {row["target"] for row in rows} == {0.9, 0.95}
    assert len(set(folders)) == len(folders) == 2
