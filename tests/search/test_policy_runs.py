"""One search, any target: profiles from a saved policy, warm starts, the measured frontier."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from envs.features import FEATURES
from envs.milder import as_scored
from envs.offset_map import OffsetMap
from envs.pruning_env import PruningEnv
from tests.support import policy_runs
from tests.support.policy_runs import allocator, network, table, zeros_of
from ws_learner.config.learner import WeightSparseConfig
from ws_learner.core.errors import UserError
from ws_learner.report.csv_io import read_frontier, read_rollouts
from ws_learner.search.policy_file import read_policy
from ws_learner.search.policy_use import policy_problems, restored_policy
from ws_learner.search.rollout.local_pool import LocalPool

GOALS = "0.5:0.95"


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WS_DATA_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def goals_run(_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "goals"
    zeros_of(folder, ws_goals=GOALS, ws_nb_rlouts=16)
    return folder


@pytest.fixture(scope="module")
def one_run(_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "one"
    zeros_of(folder)
    return folder


def sizes() -> np.ndarray:
    return np.array([row.weights for row in table()])


def test_a_search_saves_every_rollout_and_what_it_was_about(one_run: Path) -> None:
    saved, rollouts = read_policy(one_run), read_rollouts(one_run / "rollouts.csv")
    rollouts = rollouts[rollouts["kind"] != "select"]
    assert len(saved.seen) == len(rollouts) == 12
    zeros = rollouts[[f"zeros/{row.name}" for row in table()]].to_numpy()
    for one, row, value in zip(saved.seen, zeros, rollouts["divergence"], strict=True):
        np.testing.assert_allclose(np.exp(one.executed), 1 - row / sizes(), rtol=1e-9)
        scored = as_scored(row, sizes(), power=0.75)
        np.testing.assert_allclose(np.exp(one.point), 1 - scored / sizes(), rtol=1e-9)
        assert one.value == pytest.approx(value)
    assert (saved.target, saved.goals, saved.by_divergence) == (0.9, (0.9, 0.9), True)
    assert saved.layers == table()


def test_the_agents_profile_is_a_walk_through_the_environment(goals_run: Path) -> None:
    saved = read_policy(goals_run)
    config = WeightSparseConfig(ws_prune_ratio=0.9)
    at = policy_problems(saved, saved.layers, config, network())
    policy = restored_policy(saved, at, 0.9)
    apart = 0
    for target in (0.6, 0.85, 0.93):
        problem = at(target)
        env = PruningEnv(problem, OffsetMap.of(problem), spend="last step", rewarded=False)
        seen, _ = env.reset()
        assert seen[FEATURES.index("target")] == pytest.approx(target)
        done = False
        while not done:
            action, _ = policy.agent.predict(seen, deterministic=True)
            seen, _, done, _, info = env.step(action)
        emitted = {one.supplier: one for one in policy.emit(target)}
        assert emitted["agent"].zeros.tolist() == info["zeros"].tolist()
        apart += int(np.abs(info["zeros"] - problem.prior).sum())
    assert apart > 0  # the agent has learned something: it is not the prior


def test_a_profile_for_a_target_reads_no_data(
    goals_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for folder in ("a", "b"):
        asked = allocator(tmp_path / folder, ws_policy=goals_run, ws_prune_ratio=0.8)
        asked.data = None  # type: ignore[assignment]
        found.append(asked.run_protocol())
    assert found[0].zeros.tolist() == found[1].zeros.tolist()
    assert found[0].zeros.sum() == round(0.8 * sizes().sum())
    assert found[0].rollouts == 0
    # What is written belongs to the likeliest of the emitted profiles.
    saved = read_policy(goals_run)
    at = policy_problems(saved, saved.layers, WeightSparseConfig(), network())
    emitted = restored_policy(saved, at, 0.8).emit(0.8)
    best = min(emitted, key=lambda one: one.divergence)
    kept = json.loads((tmp_path / "a" / "state" / "allocation.json").read_text())
    assert kept["profile_by"] == best.supplier == found[0].facts["profile_by"]
    assert kept["predicted_reward"] == pytest.approx(np.exp(-best.divergence), abs=1e-6)
    said = capsys.readouterr().err
    assert f"({best.supplier}): predicted reward {kept['predicted_reward']:.4f} at 0.8" in said
    assert "outside" not in said


def test_bounds_and_exemptions_are_this_runs(goals_run: Path, tmp_path: Path) -> None:
    free = zeros_of(tmp_path / "free", ws_policy=goals_run) / sizes()
    most = float(np.sort(free)[-2])  # what one layer exceeds
    found = zeros_of(tmp_path / "bound", ws_policy=goals_run, ws_ratio_max=most)
    assert free.max() > most >= (found / sizes()).max()
    assert found.sum() == round(0.9 * sizes().sum())
    name = table()[0].name
    kept = zeros_of(tmp_path / "kept", ws_policy=goals_run, ws_prune_ratio=0.5, exempt=(name,))
    assert kept[0] == 0
    assert kept.sum() == round(0.5 * sizes().sum())


def test_nm_patterns_get_whole_groups(goals_run: Path, tmp_path: Path) -> None:
    settings = {"ws_policy": goals_run, "ws_prune_ratio": 0.3, "ws_pattern": "n:4"}
    exempt = tuple(row.name for row in table()[:2])
    found = zeros_of(tmp_path, exempt=exempt, **settings)
    assert found[:2].tolist() == [0, 0]
    # (12, 8) and (4, 48): each of their groups of four loses 0 to 3 weights, the same everywhere.
    groups = sizes()[2:] // 4
    assert (found[2:] % groups).tolist() == [0, 0]


def test_other_targets_and_weights_are_said_and_other_layers_refused(
    goals_run: Path, one_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zeros_of(tmp_path / "far", ws_policy=goals_run, ws_prune_ratio=0.97)
    assert "was trained for 0.5 to 0.95; 0.97 is outside" in capsys.readouterr().err
    zeros_of(tmp_path / "single", ws_policy=one_run, ws_prune_ratio=0.8)
    assert "was trained for 0.9; 0.8 is outside" in capsys.readouterr().err
    trained_again = policy_runs.trained_network(policy_runs.tiny_data(seed=1))
    for setting in ("ws_policy", "ws_from_policy"):
        asked = allocator(tmp_path / f"other {setting}", **{setting: goals_run})
        asked.model = trained_again
        asked.run_protocol()
        assert f"`{setting}` {goals_run}: was made for other weights" in capsys.readouterr().err
        asked = allocator(tmp_path / f"fewer {setting}", **{setting: goals_run})
        asked.layers = asked.layers[:-1]
        with pytest.raises(UserError, match=rf"`{setting}` .*row 4 is 11.weight 4x48 there, mis"):
            asked.run_protocol()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"ws_ratios": "r.csv", "ws_prune_ratio_prtl": "given"}, "excludes `ws_ratios`"),
        ({"ws_goals": "0.5:0.9"}, "excludes `ws_goals`"),
        ({"ws_rollouts": "r.csv"}, "excludes `ws_rollouts`"),
        ({"ws_from_policy": "b"}, "excludes `ws_from_policy`"),
        ({"ws_prune_ratio_prtl": "lamp"}, "takes the place of `ws_prune_ratio_prtl` lamp"),
        ({"ws_prune_ratio_prtl": "given", "ws_pattern": "2:4"}, "place of .* given"),
    ],
)
def test_what_a_policy_excludes_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=f"`ws_policy` a: .*{says}"):
        WeightSparseConfig(ws_policy=Path("a"), **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"ws_from_policy": "a", "ws_prune_ratio_prtl": "evolution"},
        {"ws_from_policy": "a", "ws_reward_type": "multi-obj"},
        {"ws_goals": "0.5:0.9", "ws_prune_ratio_prtl": "lamp"},
    ],
)
def test_settings_of_the_agents_search_need_it(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"needs `ws_(prune_ratio_prtl` optimal|reward_type` sing)"):
        WeightSparseConfig(**settings)


class _Breaks(LocalPool):
    """Ends the process, so to speak, after some rounds."""

    left = 2

    def evaluate(self, candidates):  # type: ignore[no-untyped-def]
        if type(self).left == 0:
            raise KeyboardInterrupt
        type(self).left -= 1
        return super().evaluate(candidates)


def test_a_warm_start_teaches_and_resumes_alike(goals_run: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"ws_from_policy": goals_run, "ws_prune_ratio": 0.92}
    zeros_of(tmp_path / "whole", **settings)
    _Breaks.left = 2
    broken = allocator(tmp_path / "broken", **settings)
    broken.pool = lambda evaluator: _Breaks(evaluator, 0)
    with pytest.raises(KeyboardInterrupt):
        broken.run_protocol()
    assert len(read_rollouts(tmp_path / "broken" / "rollouts.csv")) < 12
    zeros_of(tmp_path / "broken", **settings)
    tables = [read_rollouts(tmp_path / run / "rollouts.csv") for run in ("whole", "broken")]
    parts = [table.drop(columns="seconds") for table in tables]
    assert parts[0].equals(parts[1])
    earlier, both = read_policy(goals_run), read_policy(tmp_path / "whole")
    rows = parts[0][parts[0]["kind"] != "select"]
    assert len(rows) == 12  # earlier profiles are no rollouts of this search
    assert [one.value for one in both.seen[:16]] == [one.value for one in earlier.seen]
    assert len(both.seen) == 16 + 12
    broken_policy = read_policy(tmp_path / "broken")
    for name, value in both.actor.items():
        assert torch.equal(value, broken_policy.actor[name])
    # First comes an earlier profile, all densities multiplied by one factor.
    columns = [f"zeros/{row.name}" for row in table()]
    first = rows[columns].to_numpy()[0]
    assert first.sum() == round(0.92 * sizes().sum())
    kept = sizes() - first
    past = [np.exp(one.executed) * sizes() for one in earlier.seen]
    factors = [kept.sum() / one.sum() for one in past]
    assert min(np.abs(f * one - kept).max() for f, one in zip(factors, past, strict=True)) <= 1


def test_a_policy_taught_by_another_reward_is_refused(goals_run: Path, tmp_path: Path) -> None:
    asked = allocator(tmp_path, ws_from_policy=goals_run, ws_reward_signal="accuracy")
    with pytest.raises(UserError, match="learned from `ws_reward_signal` kl, not from accuracy"):
        asked.run_protocol()


def test_the_frontier_is_measured_once(goals_run: Path, tmp_path: Path) -> None:
    frontier = read_frontier(goals_run / "frontier.csv")
    spread = 1 - np.geomspace(0.5, 0.05, 9)
    np.testing.assert_allclose(frontier["target"], sorted([*spread, 0.9]), atol=1e-6)
    columns = [f"zeros/{row.name}" for row in table()]
    evaluator = allocator(tmp_path, ws_goals=GOALS).evaluator()
    for _, row in frontier.iloc[::4].iterrows():
        zeros = row[columns].to_numpy(np.int64)
        assert zeros.sum() == round(row["target"] * sizes().sum())
        again = evaluator.score(zeros)
        assert (again.reward, again.accuracy) == pytest.approx((row["reward"], row["accuracy"]))
    kept = json.loads((goals_run / "state" / "allocation.json").read_text())
    assert (kept["frontier_rollouts"], kept["rollouts"]) == (10, 16)
    rollouts = read_rollouts(goals_run / "rollouts.csv")
    assert (rollouts["kind"] != "select").sum() == 16
    # Killed before its end: what is there stays.
    (goals_run / "state" / "allocation.json").unlink()
    marked = (goals_run / "frontier.csv").read_text().replace("\n0.5,", "\n0.5000,")
    (goals_run / "frontier.csv").write_text(marked)
    before = read_policy(goals_run).actor
    zeros_of(goals_run, ws_goals=GOALS, ws_nb_rlouts=16)
    assert (goals_run / "frontier.csv").read_text() == marked
    after = read_policy(goals_run).actor
    assert all(torch.equal(before[name], after[name]) for name in before)
    again = json.loads((goals_run / "state" / "allocation.json").read_text())
    assert again == kept | {name: again[name] for name in ("seconds", "sha256")}


def test_a_policy_used_under_other_rewards_says_so(
    goals_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    zeros_of(tmp_path / "same", ws_policy=goals_run)
    assert "was searched with" not in capsys.readouterr().err
    zeros_of(tmp_path / "power", ws_policy=goals_run, ws_score_power=1.0)
    assert "was searched with `ws_score_power` 0.75, not 1.0" in capsys.readouterr().err
    zeros_of(tmp_path / "blocks", ws_policy=goals_run, ws_pattern="2x1")
    assert "was searched with `ws_pattern` unstructured, not 2x1" in capsys.readouterr().err
    with pytest.raises(UserError, match="learned from the pattern unstructured, not from 2x1"):
        zeros_of(tmp_path / "warm", ws_from_policy=goals_run, ws_pattern="2x1")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"ws_reward_signal": "accuracy"}, "needs `ws_reward_signal` kl"),
        ({"ws_reward_type": "multi-obj"}, "needs `ws_reward_type` single-obj"),
        ({"ws_ratio_max": 0.9}, r"must be at most `ws_ratio_max` \(0.9\)"),
        ({"ws_goals": "0.95:0.5"}, "the smaller one first"),
    ],
)
def test_goals_that_no_search_can_serve_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        WeightSparseConfig(**{"ws_goals": GOALS} | settings)
