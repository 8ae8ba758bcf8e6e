from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax
from torch import Tensor, nn
from torch.nn import functional as F

from ws_learner.core.errors import UserError
from ws_learner.training.distillation import DistillationLoss


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def oracle(
    student: np.ndarray, teacher: np.ndarray, targets: np.ndarray, weight: float, heat: float
) -> float:
    task = -np.log(softmax(student)[np.arange(len(targets)), targets]).mean()
    soft = -(softmax(teacher / heat) * np.log(softmax(student / heat))).sum(axis=1).mean()
    return float(task + weight * soft)


@pytest.mark.parametrize(("weight", "heat"), [(4.0, 4.0), (1.0, 1.0), (0.0, 2.0), (2.5, 0.5)])
def test_loss_and_gradient_match_float64_numpy(weight: float, heat: float) -> None:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(7, 6, generator=generator, dtype=torch.float64)
    teacher = nn.Linear(6, 5, dtype=torch.float64)
    student = torch.randn(7, 5, generator=generator, dtype=torch.float64).requires_grad_()
    targets = torch.randint(5, (7,), generator=generator)
    criterion = DistillationLoss(F.cross_entropy, teacher, weight=weight, temperature=heat)
    loss = criterion(student, targets, inputs)
    loss.backward()
    z_s, z_t = student.detach().numpy(), teacher(inputs).detach().numpy()
    assert loss.item() == pytest.approx(oracle(z_s, z_t, targets.numpy(), weight, heat), rel=1e-12)
    # d CE(p, softmax(z / T)) / dz = (softmax(z / T) - p) / T, without any factor of T squared.
    one_hot = np.eye(5)[targets.numpy()]
    soft = weight * (softmax(z_s / heat) - softmax(z_t / heat)) / heat
    assert student.grad is not None
    expected = (softmax(z_s) - one_hot + soft) / 7
    np.testing.assert_allclose(student.grad.numpy(), expected, rtol=1e-10, atol=1e-14)


class Noisy(nn.Module):
    """A teacher whose training mode would show."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.norm(x))


def test_the_teacher_is_frozen() -> None:
    teacher = Noisy()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    criterion = DistillationLoss(F.cross_entropy, teacher)
    teacher.train()  # somebody else's mistake
    inputs = torch.randn(8, 4)
    student = torch.randn(8, 4, requires_grad=True)
    losses = [criterion(student, torch.zeros(8, dtype=torch.long), inputs) for _ in range(2)]
    losses[0].backward()
    assert torch.equal(*losses)
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_another_architecture_may_teach_but_not_other_classes() -> None:
    student, targets = torch.randn(3, 4), torch.zeros(3, dtype=torch.long)
    deep = nn.Sequential(nn.Linear(2, 9), nn.ReLU(), nn.Linear(9, 4))
    loss = DistillationLoss(F.cross_entropy, deep)(student, targets, torch.randn(3, 2))
    assert loss.shape == ()
    criterion = DistillationLoss(F.cross_entropy, nn.Linear(2, 5))
    with pytest.raises(UserError, match=r"\(3, 5\).*\(3, 4\)"):
        criterion(student, targets, torch.randn(3, 2))


def test_half_precision_logits_are_compared_in_single() -> None:
    student = torch.randn(4, 3).bfloat16()
    teacher = nn.Linear(2, 3).bfloat16()
    inputs, targets = torch.randn(4, 2).bfloat16(), torch.tensor([0, 1, 2, 0])
    loss = DistillationLoss(F.cross_entropy, teacher, weight=1.0)(student, targets, inputs)
    z_s, z_t = student.double().numpy(), teacher(inputs).detach().double().numpy()
    soft = oracle(z_s, z_t, targets.numpy(), 1.0, 4.0) - oracle(z_s, z_t, targets.numpy(), 0.0, 4.0)
    assert float(loss - F.cross_entropy(student, targets)) == pytest.approx(soft, rel=1e-5)


@pytest.mark.parametrize(
    ("setting", "flag"),
    [
        ({"weight": -1.0}, "`DistillationLoss.weight` -1.0"),
        ({"weight": math.nan}, "`DistillationLoss.weight` nan"),
        ({"temperature": 0.0}, "`DistillationLoss.temperature` 0.0"),
        ({"temperature": math.inf}, "`DistillationLoss.temperature` inf"),
    ],
)
def test_bad_settings_name_their_argument(setting: dict[str, float], flag: str) -> None:
    with pytest.raises(UserError, match=flag):
        DistillationLoss(F.cross_entropy, nn.Identity(), **setting)


def distil(outputs: torch.Tensor, soft: torch.Tensor, targets: torch.Tensor, kind: Any) -> float:
    """The distillation term alone, at weight 1 and a temperature of 2."""
    teacher = nn.Identity()
    criterion = DistillationLoss(
        lambda o, t: o.sum() * 0, teacher, weight=1.0, temperature=2.0, outputs=kind
    )
    return float(criterion(outputs, targets, soft))


def cross_entropies(outputs: torch.Tensor, soft: torch.Tensor, axis: int) -> np.ndarray:
    p, q = (log_softmax(z.double().numpy() / 2, axis) for z in (soft, outputs))
    found: np.ndarray = -(np.exp(p) * q).sum(axis)
    return found


@pytest.mark.parametrize(("kind", "axis", "shape"), [("classes", 1, (2, 7)), ("tokens", 2, (2, 5))])
def test_the_softmax_is_along_the_axis_of_the_classes(
    kind: str, axis: int, shape: tuple[int, int]
) -> None:
    outputs, soft = torch.randn(2, 5, 7), torch.randn(2, 5, 7)
    targets = torch.zeros(shape, dtype=torch.long)
    each = cross_entropies(outputs, soft, axis)
    assert distil(outputs, soft, targets, kind) == pytest.approx(each.mean(), rel=1e-5)
    targets[0, 1:4] = targets[1, 0] = -100
    kept = each[(targets != -100).numpy()]
    assert distil(outputs, soft, targets, kind) == pytest.approx(kept.mean(), rel=1e-5)


def test_labels_are_distilled_by_their_sigmoids() -> None:
    outputs, soft = torch.randn(6, 5), torch.randn(6, 5)
    p, q = (expit(z.double().numpy() / 2) for z in (soft, outputs))
    each = -(p * np.log(q) + (1 - p) * np.log(1 - q))
    found = distil(outputs, soft, torch.zeros(6, 5), "labels")
    assert found == pytest.approx(each.mean(), rel=1e-5)


def test_values_and_embeddings_are_distilled_as_they_are() -> None:
    outputs, soft = torch.randn(6, 5), torch.randn(6, 5)
    a, b = outputs.double().numpy(), soft.double().numpy()
    found = distil(outputs, soft, torch.zeros(6, 5), "values")
    assert found == pytest.approx(((a - b) ** 2).mean(), rel=1e-5)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    found = distil(outputs, soft, torch.zeros(6), "embeddings")
    assert found == pytest.approx((1 - cosines).mean(), rel=1e-5)


def test_an_unknown_kind_of_outputs_is_refused() -> None:
    with pytest.raises(UserError, match="`outputs` label: did you mean labels"):
        DistillationLoss(F.cross_entropy, nn.Identity(), outputs="label")  # type: ignore[arg-type]
