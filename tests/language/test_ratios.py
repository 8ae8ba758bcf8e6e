"""Ratios of blocks and layers: what is measured, and what protocols make of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from tests.support.tiny_language import make_folder
from ws_learner.config import WeightSparseConfig
from ws_learner.language import survey as survey_module
from ws_learner.language.block_scores import RATIOS
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.layer_rows import block_layers
from ws_learner.language.ratio_files import RatioFiles
from ws_learner.language.ratios import allocate
from ws_learner.language.settings import LanguageSettings
from ws_learner.language.survey import OWN_DENSITIES, survey_network
from ws_learner.language.windows import Windows
from ws_learner.pruning import parse_pattern

DRAW = torch.Generator().manual_seed(2)
PARTS = [torch.randint(0, 300, (count, 20), generator=DRAW) for count in (4, 2, 2)]
WINDOWS = Windows(calibration=PARTS[0], search=PARTS[1], test=PARTS[2])


def files_in(folder: Path) -> RatioFiles:
    return RatioFiles(
        survey=folder / "survey.pt",
        database=folder / "solved",
        search=folder / "search.pt",
        table=folder / "rollouts.csv",
    )


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> BlockNetwork:
    return BlockNetwork(make_folder(tmp_path_factory.mktemp("ratios") / "net"))


def test_own_divergences_are_those_of_one_pruned_block(
    network: BlockNetwork, tmp_path: Path
) -> None:
    """Against whole networks in memory, of which one block is pruned by plain code."""
    found = survey_network(
        network,
        block_layers(network),
        WINDOWS,
        pattern=parse_pattern("unstructured"),
        own=True,
        errors=False,
        kept=tmp_path / "survey.pt",
    )
    auto: Any = transformers.AutoModelForCausalLM
    dense = auto.from_pretrained(network.folder, dtype=torch.float32).eval()
    with torch.no_grad():
        target = dense(WINDOWS.search).logits.double().log_softmax(-1)
    for number in range(2):
        for density in (0.0, 0.5):  # at others the rows' counts differ
            place = OWN_DENSITIES.index(density)
            pruned = auto.from_pretrained(network.folder, dtype=torch.float32).eval()
            block, inputs = pruned.model.layers[number], {}
            linear = [m for m in block.modules() if isinstance(m, torch.nn.Linear)]
            hooks = [
                m.register_forward_pre_hook(
                    lambda m, x, into=inputs: into.update({m: x[0].flatten(0, -2)})
                )
                for m in linear
            ]
            with torch.no_grad():
                pruned(WINDOWS.calibration)
                for hook, module in zip(hooks, linear, strict=True):
                    hook.remove()
                    score = module.weight.abs() * inputs[module].norm(dim=0)
                    count = round((1 - density) * module.weight.numel())
                    rows = module.weight.shape[0]
                    least = score.argsort(dim=1)[:, : count // rows]
                    module.weight.scatter_(1, least, 0.0)
                other = pruned(WINDOWS.search).logits.double().log_softmax(-1)
            wanted = float((target.exp() * (target - other)).sum(-1).mean())
            assert found.own[number, place] == pytest.approx(wanted, rel=0.02), (number, density)


class KilledError(BaseException):
    """Stands for a signal that cannot be caught."""


def test_a_killed_survey_goes_on_with_the_blocks_that_are_left(
    network: BlockNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"pattern": parse_pattern("unstructured"), "own": True, "errors": True}
    layers = block_layers(network)
    whole = survey_network(network, layers, WINDOWS, **given, kept=tmp_path / "whole.pt")
    save, visited = survey_module.save_state_file, list[str]()

    def dies(path: Path, state: Any) -> None:
        save(path, state)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(survey_module, "save_state_file", dies)
        with pytest.raises(KilledError):
            survey_network(network, layers, WINDOWS, **given, kept=tmp_path / "killed.pt")
    outliers = survey_module.outliers_of

    def noted(block: Any, inside: Any, grams: Any) -> float:
        visited.append(inside[0].key)
        return outliers(block, inside, grams)

    monkeypatch.setattr(survey_module, "outliers_of", noted)
    found = survey_network(network, layers, WINDOWS, **given, kept=tmp_path / "killed.pt")
    assert len(visited) == 1
    assert "layers.1." in visited[0]
    for name in ("own", "outliers", "errors"):
        assert np.array_equal(getattr(found, name), getattr(whole, name))
    assert not list(tmp_path.glob("*.part"))


def test_a_survey_that_lacks_what_is_asked_for_is_measured_again(
    network: BlockNetwork, tmp_path: Path
) -> None:
    layers, kept = block_layers(network), tmp_path / "survey.pt"
    pattern = parse_pattern("unstructured")
    first = survey_network(
        network, layers, WINDOWS, pattern=pattern, own=False, errors=True, kept=kept
    )
    assert first.own.size == 0
    assert first.errors.shape == (len(layers), len(RATIOS))
    again = survey_network(
        network, layers, WINDOWS, pattern=pattern, own=True, errors=False, kept=kept
    )
    assert again.own.shape == (2, len(OWN_DENSITIES))
    assert np.array_equal(again.outliers, first.outliers)


@pytest.mark.parametrize(
    "protocol", ["uniform", "erk", "knapsack", "progression", "owl", "divergence"]
)
def test_every_protocol_meets_the_budget(
    protocol: str, network: BlockNetwork, tmp_path: Path
) -> None:
    layers = block_layers(network)
    config = WeightSparseConfig(ws_prune_ratio=0.6, ws_prune_ratio_prtl=protocol)
    zeros = allocate(
        network,
        layers,
        config=config,
        settings=LanguageSettings(),
        windows=WINDOWS,
        files=files_in(tmp_path),
    )
    sizes = np.array([layer.row.weights for layer in layers])
    assert zeros.sum() == round(0.6 * sizes.sum())
    assert ((zeros >= 0) & (zeros <= sizes)).all()
    ratios = zeros / sizes
    if protocol == "uniform":
        assert ratios == pytest.approx(0.6, abs=1 / sizes.min())
    if protocol in ("progression", "owl", "divergence"):
        for number in range(2):
            own = [r for r, layer in zip(ratios, layers, strict=True) if layer.block == number]
            assert max(own) - min(own) < 2 / sizes.min()


def test_a_table_sets_every_ratio(network: BlockNetwork, tmp_path: Path) -> None:
    layers = block_layers(network)
    given = {layer.key: 0.25 * (1 + layer.block) for layer in layers}
    config = WeightSparseConfig(ws_ratios=given)
    zeros = allocate(
        network,
        layers,
        config=config,
        settings=LanguageSettings(),
        windows=WINDOWS,
        files=files_in(tmp_path),
    )
    assert zeros.tolist() == [round(given[layer.key] * layer.row.weights) for layer in layers]
