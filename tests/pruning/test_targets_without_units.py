"""A target that comes to no whole unit in any layer is refused, whoever sets it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.support import tiny_experiment
from ws_learner import Recipe, UserError, WeightSparseConfig, WeightSparseLearner
from ws_learner.compat import (
    Pruning,
    WeightPruningConfig,
    prepare_pruning,
    read_lpot,
)
from ws_learner.core import ComputeDevice
from ws_learner.pruning import (
    GradualConfig,
    Sparsifier,
    SrSteConfig,
    parse_pattern,
    prune_gradient_with_magnitude,
    prune_weights_with_magnitude,
)

NAMES = ("0.weight", "2.weight")
TOTAL = 8 * 8 + 4 * 8


def network(inputs: int = 8) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, 4))


def sparsifier(pattern: str, ratio: float, **settings: Any) -> Sparsifier:
    config = GradualConfig(pattern=parse_pattern(pattern), mask_update_step=1, **settings)
    return Sparsifier(network(), config, ratios=dict.fromkeys(NAMES, ratio), total_steps=100)


@pytest.mark.parametrize(
    ("pattern", "unit"),
    [
        ("1xchannel", 8),  # a row of 8
        ("channelx1", 4),  # a column of the second layer
        ("4x1", 4),
        ("2:4", 2),
        ("n:4", 8),  # one of 4 in all of the second layer
        ("16x16", 32),  # the whole second layer
        ("unstructured", 1),
    ],
)
def test_the_nearest_possible_target_is_named_and_works(pattern: str, unit: int) -> None:
    least = unit / TOTAL
    with pytest.raises(UserError) as caught:
        sparsifier(pattern, 0.4 * least)
    message = str(caught.value)
    assert f"`pattern` {pattern}: a target of {0.4 * least:g} is less than a whole unit" in message
    assert "(0.weight, 2.weight)" in message
    assert f"the nearest possible target is {least:.4g}:" in message
    made = sparsifier(pattern, float(f"{least:.4g}"))
    assert round(made.planned_ratio(100) * TOTAL) == unit


def test_mha_without_heads() -> None:
    line = r"`pattern` mha: none of the layers \(0\.weight, 2\.weight\) holds a whole unit"
    with pytest.raises(UserError, match=line):
        sparsifier("mha", 0.5)


def test_layers_that_are_skipped() -> None:
    with pytest.raises(UserError, match="`pattern` 3x3: none of the layers"):
        sparsifier("3x3", 0.5, remainder="skip")
    with pytest.raises(UserError, match="does not divide"):
        sparsifier("3x3", 0.5, remainder="error")


def test_groups_longer_than_the_layer() -> None:
    config = SrSteConfig(pattern=parse_pattern("2:4"))
    with pytest.raises(UserError, match="`pattern` 2:4: none of the layers"):
        Sparsifier(network(2), config, ratios={"0.weight": 0.5}, total_steps=100)


def test_a_target_of_0_is_fine() -> None:
    assert sparsifier("mha", 0.0).masks == {}
    assert sparsifier("4x1", 0.0).planned_ratio(100) == 0


def test_layers_left_dense_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    made = sparsifier("16x16", 0.3)
    assert set(made.masks) == {"2.weight"}
    assert "29 zeros asked for, 32 in whole units; without a whole unit, dense: 0.weight" in (
        capsys.readouterr().err
    )


def neural_compressor(pattern: str, target: float) -> object:
    config = WeightPruningConfig(
        [{"op_names": ["^0$", "^2$"], "pattern": pattern}], target_sparsity=target, end_step=10
    )
    return prepare_pruning(network(), config)


LPOT = """\
pruning:
  approach:
    weight_compression:
      initial_sparsity: 0.0
      target_sparsity: {target}
      start_epoch: 0
      end_epoch: 1
      pruners:
        - !Pruner
            pattern: {pattern}
            names: [0.weight, 2.weight]
"""


def lpot(pattern: str, target: float) -> object:
    path = Path("lpot.yaml")
    path.write_text(LPOT.format(pattern=pattern, target=target))
    prune = Pruning(read_lpot(path))
    prune.model = network()
    prune.pruning_func = lambda model: None
    return prune()


def functional(pattern: str, target: float) -> object:
    weights = [torch.randn(8, 8), torch.randn(4, 8)]
    prune_weights_with_magnitude(weights, ratio=target, pattern=pattern)
    return weights


def gradients(pattern: str, target: float) -> object:
    weight = nn.Parameter(torch.randn(8, 8))
    weight.sum().backward()  # type: ignore[no-untyped-call]
    prune_gradient_with_magnitude([weight], ratio=target, pattern=pattern)
    return weight


@pytest.mark.parametrize("entry", [neural_compressor, lpot, functional, gradients])
def test_every_entry_refuses(
    entry: Callable[[str, float], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = "a target of 0.02 is less than a whole unit in every layer .*nearest possible target is "
    with pytest.raises(UserError, match=rf"`pattern` 8x1: {line}"):
        entry("8x1", 0.02)


def learner(folder: Path, **config: Any) -> WeightSparseLearner:
    made = tiny_experiment.build(tiny_experiment.Options(), seed=0)
    return WeightSparseLearner(
        made.model,
        made.data,
        loss=made.loss,
        metric=made.metric,
        recipe=Recipe(nb_epochs=1, batch_size=32),
        run_dir=folder,
        config=WeightSparseConfig(ws_mask_update_step=1, **config),
        compute=ComputeDevice(device="cpu", bf16=False, channels_last=False),
        workers=0,
    )


@pytest.mark.parametrize("protocol", ["uniform", "optimal"])
def test_the_learner_refuses_before_it_searches(protocol: str, tmp_path: Path) -> None:
    one = learner(
        tmp_path / "run",
        ws_pattern="512x512",  # as large as every layer
        ws_prune_ratio=0.002,
        ws_prune_ratio_prtl=protocol,
    )
    sizes = [row.weights for row in one.layers()]
    nearest = f"{min(sizes) / sum(sizes):.4g}"
    with pytest.raises(UserError, match=f"less than a whole unit .* possible target is {nearest}"):
        one.fit()
    assert not (tmp_path / "run").exists()


def test_the_learner_refuses_patterns_without_a_unit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mha"):
        learner(tmp_path / "a", ws_pattern="mha", ws_prune_ratio_prtl="uniform").fit()
    assert not (tmp_path / "a").exists()
