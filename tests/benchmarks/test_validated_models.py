"""The table of validated models: a config per row, on its architecture, with its exact sparsity."""

from __future__ import annotations

import shlex

import numpy as np
import pytest
import torch

from benchmarks.validated_models import CONFIGS, block_sparsity, main, network_of
from experiments.cli.flags import parse
from experiments.models.bert import bert
from experiments.models.dlrm import dlrm
from experiments.models.ssd_resnet34 import ssd_resnet34
from ws_learner.compat.lpot.plan import build_plans
from ws_learner.compat.lpot.reader import is_lpot, read_lpot
from ws_learner.pruning.criteria import magnitude

# (config, pattern in our spelling, sparsity) as the table has them, and the example below it.
ROWS = [
    ("bert_large_2x1_squad", "2x1", 0.70),
    ("dlrm_4x16_criteo", "16x4", 0.85),
    ("bert_mini_4x1_mrpc", "4x1", 0.90),
    ("bert_mini_4x1_sst2", "4x1", 0.90),
    ("bert_mini_4x1_squad", "4x1", 0.80),
    ("bert_mini_2in4_mrpc", "2:4", 0.50),
    ("bert_mini_2in4_sst2", "2:4", 0.50),
    ("bert_mini_2in4_squad", "2:4", 0.50),
    ("resnet50_2x1_imagenet", "2x1", 0.78),
    ("ssd_resnet34_2x1_coco", "2x1", 0.75),
    ("resnext101_2x1_imagenet", "2x1", 0.73),
    ("bert_one_layer_group_lasso", "2x1", 0.70),
]


def test_there_is_a_config_for_every_row_and_no_other() -> None:
    ours = {path.stem for path in CONFIGS.glob("*.yaml") if is_lpot(path.read_text())}
    assert ours - {"conf"} == {name for name, _, _ in ROWS}  # conf.yaml is an example to copy


@pytest.mark.long
@pytest.mark.parametrize(("name", "pattern", "target"), ROWS)
def test_a_row_resolves_on_its_architecture(name: str, pattern: str, target: float) -> None:
    model = network_of(name)
    (plan,) = build_plans(read_lpot(CONFIGS / f"{name}.yaml"), model)
    assert (str(plan.pattern), plan.target) == (pattern, target)
    assert all(plan.pattern.divides(tuple(model.get_parameter(n).shape)) for n in plan.names)
    total = sum(model.get_parameter(n).numel() for n in plan.names)
    shapes = [tuple(model.get_parameter(n).shape) for n in plan.names]
    zeros = sum(plan.pattern.feasible(s, round(target * int(np.prod(s)))) for s in shapes)
    # Every tensor is within half a unit of the row's ratio.
    unit = max(int(plan.pattern.sizes(s).max()) for s in shapes)
    assert abs(zeros - target * total) <= len(shapes) * (unit / 2 + 0.5)
    lasso = "lasso" in name or "dlrm" in name or "large" in name
    assert (lasso, plan.alpha) in ((True, 0.006), (False, 0.0))  # what the originals used
    assert plan.kind == ("snip_momentum" if "bert_mini" in name else "magnitude")


@pytest.mark.parametrize("name", [name for name, _, _ in ROWS if not name.startswith("bert_one")])
def test_the_command_in_a_config_parses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIGS.parents[1])
    lines = (CONFIGS / f"{name}.yaml").read_text().splitlines()
    (line,) = [line for line in lines if "./run_local.sh" in line]
    words = line.partition("./run_local.sh ")[2].partition(" (")[0]
    command = parse(shlex.split(words))
    assert command.lpot is not None
    assert (command.lpot.train is not None) == ("imagenet" in name)
    assert command.options.data_dir is not None


def test_published_sizes() -> None:
    def count(name: str) -> int:
        return sum(p.numel() for p in network_of(name).parameters())

    assert count("bert_mini_4x1_mrpc") == 11_171_074  # 11.2 M, Turc et al. 2019, table 1
    assert count("bert_large_2x1_squad") == 334_094_338  # 335 M, less the pooler
    assert count("resnext101_2x1_imagenet") == 88_791_336  # 88.8 M, 32x8d
    assert count("resnet50_2x1_imagenet") == 25_557_032


@pytest.mark.parametrize(
    "name", ["bert_one_layer_group_lasso", "bert_mini_4x1_mrpc", "bert_mini_2in4_sst2"]
)
def test_random_weights_have_exactly_that_many_zero_blocks(name: str) -> None:
    frame = block_sparsity(name)
    assert (frame["zeros"] == frame["wanted"]).all()
    # Again by hand, for the first tensor.
    first = frame.iloc[0]
    (plan,) = build_plans(read_lpot(CONFIGS / f"{name}.yaml"), network_of(name))
    shape = tuple(int(side) for side in first["shape"].split("x"))
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    mask = plan.pattern.mask(magnitude(weight), int(first["wanted"])).numpy()
    if first["pattern"] == "2:4":
        assert (mask.reshape(-1, 4).sum(1) == 2).all()
        assert first["block_sparsity"] == 1.0
    else:
        height = int(first["pattern"][0])
        blocks = mask.reshape(shape[0] // height, height, shape[1])
        assert np.isin(blocks.sum(1), (0, height)).all()
        pruned = int((blocks.sum(1) == 0).sum())
        assert pruned * height == first["wanted"]
        assert abs(pruned * height - round(plan.target * weight.numel())) <= height / 2
        assert first["block_sparsity"] == pruned / blocks[:, 0].size


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, _, _ in ROWS])
def test_every_row_on_random_weights(name: str) -> None:
    frame = block_sparsity(name)
    assert (frame["zeros"] == frame["wanted"]).all()


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bert_one_layer_group_lasso"]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    zeros = 2 * round(0.7 * 768 * 768 / 2)
    assert f"{zeros:,}" in row
    assert main(["bert_mini_4x1_mrcp"]) == 2
    assert "did you mean bert_mini_4x1_mrpc" in capsys.readouterr().err


@pytest.mark.long
def test_networks_run() -> None:
    tokens = torch.randint(1000, (2, 6))
    assert bert("mini")(tokens, torch.ones(2, 6)).shape == (2, 2)
    assert bert("mini", spans=True)(tokens).shape == (2, 6, 2)
    model = dlrm(rows=10)
    assert model(torch.randn(3, 13), torch.randint(10, (3, 26))).shape == (3,)
    assert ssd_resnet34().eval()(torch.randn(1, 3, 300, 300)).shape == (1, 4 + 81, 8732)
