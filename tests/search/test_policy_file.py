"""A saved policy holds what the search has seen, and no other file is taken for one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.policies import a_policy
from ws_learner.core.errors import UserError
from ws_learner.core.weights import load_state, read_metadata, save_model
from ws_learner.search.policy_file import SavedPolicy, _digest, read_policy, write_policy


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("rows", [3, 0])
def test_what_is_written_is_read(tmp_path: Path, own: bool, rows: int) -> None:
    policy, path = a_policy(own=own, rows=rows), tmp_path / "policy.safetensors"
    write_policy(path, policy)
    for given in (path, tmp_path):  # the file, or its run directory
        found = read_policy(given)
        for field in dataclasses.fields(SavedPolicy):
            before, after = getattr(policy, field.name), getattr(found, field.name)
            if isinstance(before, np.ndarray):
                np.testing.assert_array_equal(after, before)
            elif field.name == "seen":
                for one, other in zip(after, before, strict=True):
                    assert one.value == other.value
                    np.testing.assert_array_equal(one.slopes, other.slopes)  # NaN stays NaN
                    np.testing.assert_array_equal(one.point, other.point)
                    np.testing.assert_array_equal(one.executed, other.executed)
            elif field.name == "actor":
                assert after.keys() == before.keys()
                assert all(torch.equal(after[name], before[name]) for name in before)
            else:
                assert after == before


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


def _other_format(path: Path) -> None:
    facts = json.loads(read_metadata(path)["policy"]) | {"format": 99}
    save_model(path, load_state(path), {"policy": json.dumps(facts)})


def _another_target(path: Path) -> None:
    facts = json.loads(read_metadata(path)["policy"]) | {"target": 0.25}
    save_model(path, load_state(path), {"policy": json.dumps(facts)})


def _without_a_fact(path: Path) -> None:
    facts = json.loads(read_metadata(path)["policy"])
    del facts["score_power"], facts["sha256"], facts["sha256_of"]
    save_model(path, load_state(path), {"policy": json.dumps(facts)})


def _weights(path: Path) -> None:
    save_model(path, {"fc.weight": torch.zeros(2)}, {"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (Path.unlink, "no such file; give the folder of a run that searched"),
        (_truncate, "damaged, or no policy"),
        (_flip, "its tensors are not those that were written"),
        (_other_format, "another version .format 99.*search again"),
        (_another_target, "damaged or changed"),
        (_without_a_fact, "damaged .'score_power'."),
        (_weights, "holds no policy; give the folder"),
        (lambda path: path.write_text("layer,prune_ratio\n"), "damaged, or no policy"),
    ],
)
def test_a_file_that_is_no_policy_is_refused(tmp_path: Path, spoil, says: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "policy.safetensors"
    write_policy(path, a_policy())
    spoil(path)
    with pytest.raises(UserError, match=rf"`ws_policy` .*policy.safetensors: .*{says}"):
        read_policy(tmp_path)


def _forge(path: Path, **changes: object) -> None:
    """A file whose checksums are right, as anyone can make them, and whose facts are not."""
    facts = json.loads(read_metadata(path)["policy"]) | changes
    facts = {name: value for name, value in facts.items() if name not in ("sha256", "sha256_of")}
    save_model(path, load_state(path), {"policy": json.dumps(facts)})


@pytest.mark.parametrize(
    "changes",
    [
        {"target": True},
        {"target": 2.0},
        {"target": "0.5"},
        {"goals": [0.5]},
        {"goals": [0.1, 9.0]},
        {"targets": 3},
        {"bounds": []},
        {"pattern": 3},
        {"layers": []},
        {"layers": {}},
        {"layers": [{"name": "a"}]},
        {"by_divergence": "yes"},
        {"score_power": None},
    ],
    ids=repr,
)
def test_forged_facts_are_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    path = tmp_path / "policy.safetensors"
    write_policy(path, a_policy())
    _forge(path, **changes)
    with pytest.raises(UserError, match=r"policy\.safetensors: damaged"):
        read_policy(path)


def test_forged_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    write_policy(path, a_policy())
    whole, facts = load_state(path), json.loads(read_metadata(path)["policy"])
    facts = {name: value for name, value in facts.items() if name not in ("sha256", "sha256_of")}
    for name in ("curves", "curve_ratios", "seen.point", "seen.value", "own"):
        for forged in (None, whole[name][:-1], whole[name][None], torch.full((1,), float("nan"))):
            tensors = {key: value for key, value in whole.items() if key != name}
            tensors |= {} if forged is None else {name: forged.contiguous()}
            about = facts | {"digest": _digest(tensors)}
            save_model(path, tensors, {"policy": json.dumps(about)})
            with pytest.raises(UserError, match=r"policy\.safetensors: damaged"):
                read_policy(path)
