"""Rollouts, training and Gram matrices on tuples and dicts, against the same data as one tensor."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from tests.support.rollout_parts import small_config
from tests.support.what_works.row import pruned
from tests.support.what_works.rows.inputs import bert, padding, sentences
from ws_learner import DataSplits, UserError, split_dataset, top_k_accuracy
from ws_learner.core import map_tensors, run_model
from ws_learner.data import has_targets, without_targets
from ws_learner.pruning import layer_table
from ws_learner.search import RolloutEvaluator
from ws_learner.search.rollout.gram import collect_grams
from ws_learner.training import FakeQuantizer, QuantConfig, infer_output_kind


class Apart(nn.Module):
    """Two inputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right, self.head = nn.Linear(4, 8), nn.Linear(3, 8), nn.Linear(8, 2)
        self.norm = nn.BatchNorm1d(8)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        hidden = torch.relu(self.norm(self.left(left) + self.right(right)))
        found: Tensor = self.head(hidden)
        return found


class Together(Apart):
    """The same with one input."""

    def forward(self, both: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(both[:, :4], both[:, 4:])


class Wrapped(Apart):
    """The same with its logits in a dict."""

    def forward(self, left: Tensor, right: Tensor) -> Any:
        return {"logits": super().forward(left, right), "loss": None}


BOTH = torch.randn(160, 7, generator=torch.Generator().manual_seed(0))
LABELS = (BOTH.sum(1) > 0).long()
LEFT, RIGHT = BOTH[:, :4].contiguous(), BOTH[:, 4:].contiguous()
DICTS = [
    {"right": right, "left": left, "label": label}
    for left, right, label in zip(LEFT, RIGHT, LABELS, strict=True)
]
TASK: dict[str, Any] = {"loss": functional.cross_entropy, "metric": top_k_accuracy}


def splits(dataset: Any) -> DataSplits:
    return split_dataset(dataset, num_classes=2)


def test_a_run_on_several_inputs_equals_that_on_one(tmp_path: Path) -> None:
    config = {"ws_nb_iters_ft": 2, "enbl_dst": True}
    runs = (
        (Together(), TensorDataset(BOTH, LABELS)),
        (Apart(), TensorDataset(LEFT, RIGHT, LABELS)),
        (Wrapped(), DICTS),
    )
    first, *others = (
        pruned(model, splits(data), tmp_path / str(at), config=config, **TASK)
        for at, (model, data) in enumerate(runs)
    )
    for other in others:
        assert other.ratios.equals(first.ratios)
        assert other.summary["sparse_metric"] == first.summary["sparse_metric"]
        state = other.model.state_dict()
        for name, value in first.model.state_dict().items():
            assert torch.equal(state[name], value)


def evaluator(model: nn.Module, data: DataSplits, *, tuning: int = 0) -> RolloutEvaluator:
    inputs, _ = next(data.train.batches(2))
    config = small_config(nb_iters_ft=tuning, nb_smpls_slope=32)
    layers = layer_table(model, inputs)
    return RolloutEvaluator(
        model, data, layers=layers, config=config, seed=0, cache_dir=None, device="cpu", **TASK
    )


def test_scores_without_targets_equal_those_with_them(capsys: pytest.CaptureFixture[str]) -> None:
    bare = [{key: part for key, part in row.items() if key != "label"} for row in DICTS]
    with_them, without = (
        evaluator(Apart(), splits(DICTS)),
        evaluator(Apart(), splits(bare), tuning=3),
    )
    zeros = with_them.checked(torch.tensor([16, 12, 4]).numpy())
    one, other = with_them.score(zeros), without.score(zeros)
    assert not one.failed
    assert one.divergence is not None
    assert (other.reward, other.divergence, other.slopes) == (
        one.reward,
        one.divergence,
        one.slopes,
    )
    assert other.accuracy == math.exp(-one.divergence)
    assert "rollouts are not fine-tuned" in capsys.readouterr().err


def test_what_outputs_mean_without_targets() -> None:
    nothing = without_targets(4)
    assert not has_targets(nothing)
    for shape, kind in (((4, 3), "classes"), ((4, 3, 5, 5), "classes"), ((4, 5, 3), "tokens")):
        assert infer_output_kind(torch.zeros(shape), nothing, num_classes=3) == kind
    for shape in ((4, 5), (4,), (4, 3, 3)):
        with pytest.raises(UserError, match="give `outputs`"):
            infer_output_kind(torch.zeros(shape), nothing, num_classes=3)


def test_gram_matrices_leave_out_what_the_attention_mask_does() -> None:
    model, some = bert().eval(), sentences()[:5]
    batch = padding(some)
    del batch["labels"]
    layers = [
        row for row in layer_table(model, batch) if "layer.0" in row.name and row.kind == "linear"
    ]
    found = collect_grams(model, [batch], layers=layers, seed=0)
    seen: dict[str, list[Tensor]] = {row.name: [] for row in layers}
    for row in layers:
        module = model.get_submodule(row.name.removesuffix(".weight"))
        module.register_forward_pre_hook(
            lambda module, given, name=row.name: seen[name].append(
                given[0].reshape(-1, given[0].shape[-1])
            )
        )
    with torch.no_grad():
        for one in some:  # alone, a sentence has no padding
            model(input_ids=torch.tensor([one["input_ids"]]))
    assert len(layers) == 6
    for row, gram in zip(layers, found, strict=True):
        words = torch.cat(seen[row.name])
        assert torch.allclose(gram[0], words.T @ words / len(words), atol=1e-5)


def test_quantization_calibrates_on_dicts() -> None:
    model = Wrapped()
    quantizer = FakeQuantizer(model, ["left", "right"], QuantConfig(range_type="min_max"))
    quantizer.calibrate([{"left": LEFT, "right": RIGHT}])
    assert quantizer.ranges["left"].tolist() == [float(LEFT.min()), float(LEFT.max())]
    assert quantizer.ranges["right"].tolist() == [float(RIGHT.min()), float(RIGHT.max())]


def test_types_of_nested_inputs_follow_the_network() -> None:
    inputs = map_tensors((LEFT, RIGHT), lambda x: x.double())
    assert torch.equal(run_model(Apart().eval(), inputs), run_model(Apart().eval(), (LEFT, RIGHT)))
