"""Distillation layer by layer, against the formula in float64."""

from __future__ import annotations

import copy

import cloudpickle
import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.support.text import tiny_bert
from ws_learner.config.learner import WeightSparseConfig
from ws_learner.core.errors import UserError
from ws_learner.training.distillation import DistillationLoss
from ws_learner.training.layer_distillation import LayerDistillation, relative_output_error
from ws_learner.training.sparse import build_training_loss

LAYERS = ("bert.encoder.layer.?",)


def test_relative_error_counts_words_only() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 4))
    words = np.array([[True, True, False], [True, False, False]])
    wanted = ((ours - theirs)[words] ** 2).sum() / (theirs[words] ** 2).sum()
    tensors = [torch.tensor(x) for x in (ours, theirs)]
    found = relative_output_error(*tensors, words=torch.tensor(words))
    assert float(found) == pytest.approx(wanted, rel=1e-6)
    assert float(relative_output_error(*tensors, words=None)) == pytest.approx(
        ((ours - theirs) ** 2).sum() / (theirs**2).sum(), rel=1e-6
    )


def test_the_loss_has_a_term_for_each_layer_and_its_gradient_reaches_the_first() -> None:
    teacher, student = tiny_bert(seed=0).eval(), tiny_bert(seed=1).eval()
    inputs = torch.tensor([[101, 20, 33, 102], [101, 7, 102, 0]])
    targets = torch.tensor([0, 2])
    plain = DistillationLoss(functional.cross_entropy, teacher)
    both = LayerDistillation(plain, student, teacher=teacher, layers=LAYERS, weight=3.0, pad_id=0)
    loss = both(student(inputs), targets, inputs)
    with torch.no_grad():
        hidden = [
            net.bert(
                inputs, inputs != 0, token_type_ids=_segments(inputs), output_hidden_states=True
            )
            for net in (student, teacher)
        ]
        errors = [
            relative_output_error(ours, theirs, words=inputs != 0)
            for ours, theirs in zip(*(h.hidden_states[1:] for h in hidden), strict=True)
        ]
        base = plain(student(inputs), targets, inputs)
    assert len(errors) == 2
    assert loss.item() == pytest.approx(base.item() + 3 * float(sum(errors)) / 2, rel=1e-5)
    loss.backward()
    assert student.get_parameter("bert.encoder.layer.0.output.dense.weight").grad.norm() > 0
    assert all(p.grad is None for p in teacher.parameters())


def _segments(inputs: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(inputs)


def test_a_copy_has_no_error() -> None:
    teacher = tiny_bert().eval()
    student = copy.deepcopy(teacher)
    config = WeightSparseConfig(enbl_dst=True, dst_layers=LAYERS, loss_w_dst=0.0)
    criterion = build_training_loss(
        functional.cross_entropy, teacher=teacher, config=config, student=student
    )
    inputs, targets = torch.tensor([[101, 20, 102]]), torch.tensor([1])
    outputs = student(inputs)
    expected = functional.cross_entropy(outputs, targets)
    assert criterion(outputs, targets, inputs).item() == pytest.approx(expected.item())


def test_sent_to_another_process_together_they_still_watch_each_other() -> None:
    teacher, student = tiny_bert(seed=0).eval(), tiny_bert(seed=1).eval()
    plain = DistillationLoss(functional.cross_entropy, teacher)
    both = LayerDistillation(plain, student, teacher=teacher, layers=LAYERS, weight=3.0)
    network, criterion = cloudpickle.loads(cloudpickle.dumps((student, both)))
    inputs, targets = torch.tensor([[101, 20, 102]]), torch.tensor([1])
    expected = both(student(inputs), targets, inputs)
    assert torch.equal(criterion(network(inputs), targets, inputs), expected)


def test_layers_that_are_not_there_are_refused() -> None:
    with pytest.raises(UserError, match=r"`dst_layers` bert\.layer\.\?: no module has such a name"):
        LayerDistillation(
            lambda *_: torch.zeros(()),
            tiny_bert(),
            teacher=tiny_bert(),
            layers=["bert.layer.?"],
            weight=1.0,
        )
    with pytest.raises(UserError, match="`dst_layers` a: needs `enbl_dst`"):
        WeightSparseConfig(dst_layers=("a",))
