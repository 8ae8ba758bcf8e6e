"""One registry per kind: entries from outside the package work, and all lists agree with it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from envs import IntArray
from experiments.cli.config_file import CONFIG_READERS, ConfigFile, ReaderEntry, read_config_file
from experiments.cli.flags import parse
from experiments.run import main
from ws_learner.config import (
    CRITERIA,
    METHODS,
    PATTERNS,
    PROTOCOLS,
    SCHEDULES,
    CriterionEntry,
    MethodEntry,
    PatternEntry,
    ProtocolEntry,
    Registry,
    ScheduleEntry,
    WeightSparseConfig,
    load_object,
)
from ws_learner.core import UserError
from ws_learner.pruning import (
    Criterion,
    GradualConfig,
    PatternPlan,
    Unstructured,
    build_schedule,
    parse_pattern,
)
from ws_learner.search import AllocationContext

ROOT = Path(__file__).parents[2]
TINY = str(ROOT / "tests" / "support" / "tiny_experiment.py")
SHORT = ["--nb_epochs", "1", "--ws_mask_update_step", "2", "--workers", "0"]
SIZES = {"conv1.weight": 8 * 27, "conv2.weight": 16 * 72, "fc.weight": 4 * 256}
TOTAL = sum(SIZES.values())
REGISTRIES: list[Registry[Any]] = [METHODS, PROTOCOLS, CRITERIA, PATTERNS, SCHEDULES]


class Position:
    """A toy criterion: a weight's score is its place, so the first weights of a layer go."""

    needs_gradients = False

    def __init__(self, sign: int = 1) -> None:
        self._sign = sign

    def observe(self, weights: Mapping[str, nn.Parameter]) -> None:
        """Nothing to see."""

    def scores(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The place, from 0."""
        return {
            name: self._sign * torch.arange(value.numel()).reshape(value.shape).float()
            for name, value in values.items()
        }

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Nothing."""


@dataclass(frozen=True, kw_only=True)
class LastFirstConfig(GradualConfig):
    """A toy method: gradual pruning of the last weights of a layer."""

    def make_criterion(self, plan: PatternPlan) -> Criterion:
        """Places, the other way round."""
        return Position(-1)


def front_to_back(context: AllocationContext) -> IntArray:
    """A toy protocol: the first layers are pruned as far as they may be."""
    zeros, left = context.lower.copy(), context.budget - int(context.lower.sum())
    for layer, most in enumerate(context.upper):
        step = min(left, int(most - zeros[layer]))
        zeros[layer] += step
        left -= step
    return zeros


@contextmanager
def registered(registry: Registry[Any], name: str, entry: Any) -> Iterator[None]:
    registry.register(name, entry)
    try:
        yield
    finally:
        registry.unregister(name)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("dense") / "run"
    words = [TINY, "--learner", "full-prec", "--nb_epochs", "1", "--run_dir", str(run)]
    assert main(words) == 0
    return run / "model.safetensors"


def zeros_of(run: Path) -> dict[str, Tensor]:
    """Where the saved weights are zero, read without the product's code."""
    state = load_file(run / "model.safetensors")
    return {name: (state[name] == 0).flatten() for name in SIZES}


def run_tiny(dense: Path, run: Path, *words: str) -> dict[str, Any]:
    argv = [TINY, "--dense_checkpoint", str(dense), "--run_dir", str(run), *SHORT, *words]
    assert main(argv) == 0
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return summary


def test_a_criterion_from_outside(dense: Path, tmp_path: Path) -> None:
    entry = CriterionEntry(build=Position, help="the place of a weight")
    with registered(CRITERIA, "position", entry):
        words = ["--ws_prune_ratio_prtl", "uniform", "--ws_prune_ratio", "0.5"]
        summary = run_tiny(dense, tmp_path / "run", *words, "--ws_criterion", "position")
    assert summary["criterion"] == "position"
    for name, zero in zeros_of(tmp_path / "run").items():
        half = SIZES[name] // 2
        assert zero[:half].all(), name
        assert not zero[half:].any(), name


def test_a_method_from_outside(dense: Path, tmp_path: Path) -> None:
    entry = MethodEntry(
        config=LastFirstConfig, settings=METHODS["gradual"].settings, help="the last go first"
    )
    with registered(METHODS, "last_first", entry):
        words = ["--ws_prune_ratio_prtl", "uniform", "--ws_prune_ratio", "0.75"]
        summary = run_tiny(dense, tmp_path / "run", *words, "--ws_method", "last_first")
    assert summary["method"] == "last_first"
    for name, zero in zeros_of(tmp_path / "run").items():
        kept = SIZES[name] // 4
        assert not zero[:kept].any(), name
        assert zero[kept:].all(), name


def test_a_protocol_from_outside(dense: Path, tmp_path: Path) -> None:
    entry = ProtocolEntry(allocate=front_to_back, help="the first layers")
    with registered(PROTOCOLS, "front_to_back", entry):
        words = ["--ws_prune_ratio", "0.5", "--ws_prune_ratio_prtl", "front_to_back"]
        summary = run_tiny(dense, tmp_path / "run", *words)
    assert summary["protocol"] == "front_to_back"
    assert summary["rollouts"] == 0
    counts = {name: int(zero.sum()) for name, zero in zeros_of(tmp_path / "run").items()}
    most = int(np.floor(0.995 * SIZES["conv1.weight"]))
    budget = round(0.5 * TOTAL)
    assert counts == {
        "conv1.weight": most,
        "conv2.weight": budget - most,
        "fc.weight": 0,
    }


def test_a_searching_protocol_from_outside(dense: Path, tmp_path: Path) -> None:
    entry = ProtocolEntry(propose="agents:RandomSearch", help="random search under another name")
    with registered(PROTOCOLS, "noise", entry):
        words = ["--ws_prune_ratio_prtl", "noise", "--ws_nb_rlouts", "8", "--ws_nb_rlouts_min", "2"]
        words += ["--ws_nb_smpls_rg", "32", "--ws_nb_smpls_bn", "32", "--ws_nb_iters_feval", "1"]
        summary = run_tiny(dense, tmp_path / "run", *words)
    assert summary["rollouts"] == 8
    assert sum(int(zero.sum()) for zero in zeros_of(tmp_path / "run").values()) == round(
        0.75 * TOTAL
    )


def test_patterns_schedules_and_readers_from_outside(tmp_path: Path) -> None:
    from ws_learner.pruning import Schedule

    pattern = PatternEntry(build=lambda spec: Unstructured(), help="a weight")
    schedule = ScheduleEntry(
        build=lambda ramp: build_schedule("linear", begin=ramp.begin, end=ramp.end, target=1.0),
        help="a straight line",
    )
    reader = ReaderEntry(
        recognizes=lambda text: text.startswith("toy"),
        read=lambda text, path: ConfigFile(settings={"seed": 7}),
        help="toy",
    )
    with registered(PATTERNS, "my_pattern", pattern):
        assert parse_pattern("my_pattern") == Unstructured()
        assert str(WeightSparseConfig(ws_pattern="my_pattern").pattern_spelling) == "my_pattern"
    with registered(SCHEDULES, "straight", schedule):
        made: Schedule = build_schedule("straight", begin=0, end=10, target=0.5)
        assert made.share(5) == 0.5
        assert WeightSparseConfig(ws_schedule="straight").ws_schedule == "straight"
    (tmp_path / "toy.txt").write_text("toy")
    with registered(CONFIG_READERS, "toy", reader):
        assert read_config_file(str(tmp_path / "toy.txt")).settings == {"seed": 7}
    with pytest.raises(UserError, match="did you mean channelx1"):
        parse_pattern("chanelx1")


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: str(registry.setting))
def test_other_names_are_refused_with_the_nearest(registry: Registry[Any]) -> None:
    if registry.spelled:
        return
    name = next(iter(registry))
    with pytest.raises(UserError, match=f"did you mean {name}") as caught:
        WeightSparseConfig(**{registry.setting: f"{name}z"})
    assert all(other in str(caught.value) for other in registry)
    with pytest.raises(ValueError, match="already registered"):
        registry.register(name, registry[name])
    with pytest.raises(ValueError, match="lower-case"):
        registry.register("Not so", registry[name])
    with pytest.raises(KeyError):
        registry.unregister(name)


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: str(registry.setting))
def test_entries_can_be_loaded_and_have_a_line_of_help(registry: Registry[Any]) -> None:
    for name, entry in registry.items():
        assert entry.help
        assert "\n" not in entry.help
        places = [getattr(entry, item.name) for item in fields(entry)]
        for place in places:
            if isinstance(place, str) and place.startswith(("ws_learner.", "agents:")):
                assert callable(load_object(place)), name


@pytest.mark.parametrize("page", ["-h", "--help_all"])
def test_help_lists_the_same_names(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        registered(PROTOCOLS, "toy_protocol", ProtocolEntry(allocate=front_to_back, help="toys")),
        pytest.raises(SystemExit),
    ):
        parse([page])
    text = " ".join(capsys.readouterr().out.split())
    assert "toy_protocol" in text
    shown = REGISTRIES if page == "--help_all" else [METHODS, PROTOCOLS]
    for registry in shown:
        if registry.spelled:
            assert all(entry.help in text for entry in registry.values())
            continue
        found = re.search(rf"\{{({', '.join(map(re.escape, registry))}[^}}]*)\}}", text)
        assert found, registry.setting
        assert set(found[1].split(", ")) - {"toy_protocol"} == set(registry)
        if page == "--help_all":
            assert all(f"{name}: {entry.help}" in text for name, entry in registry.items())
    for entry in CONFIG_READERS.values():
        assert entry.help.split()[0].lower() in text.lower()


def section(page: str, title: str) -> str:
    text = (ROOT / "docs" / page).read_text()
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def first_cells(text: str) -> set[str]:
    """Names in code type in the first cells of tables; a flag heads the column."""
    cells = re.findall(r"^\| (`[^|]*?) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(?!--)([^`]+)`", cell)}


def test_the_docs_list_the_same_names() -> None:
    schedules = first_cells(section("patterns.md", "Schedules"))
    assert schedules == set(SCHEDULES)
    assert first_cells(section("patterns.md", "Criteria")) == set(CRITERIA)
    heads = re.findall(r"^- (`[^:]*):", section("patterns.md", "Methods"), re.MULTILINE)
    assert {name for head in heads for name in re.findall(r"`(\w+)`", head)} == set(METHODS)
    spelled = {entry.spelling or name for name, entry in PATTERNS.items()}
    assert spelled <= first_cells(section("patterns.md", "Patterns"))
    protocols = (ROOT / "docs" / "protocols.md").read_text().partition("\n## ")[0]
    assert first_cells(protocols) == set(PROTOCOLS)
    described = (ROOT / "docs" / "protocols.md").read_text()
    assert all(f"**`{name}`.**" in described for name in PROTOCOLS if name != "given")


def test_contributing_names_the_registries() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert "ws_learner/config/registries.py" in text
    for name in ("METHODS", "PROTOCOLS", "CRITERIA", "PATTERNS", "SCHEDULES", "CONFIG_READERS"):
        assert f"`{name}`" in text
    for path in re.findall(r"`((?:ws_learner|agents|experiments|tests|docs)/[\w/]+\.\w+)`", text):
        assert (ROOT / path).exists(), path
