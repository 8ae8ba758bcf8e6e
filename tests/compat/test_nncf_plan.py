"""From an NNCF file to losses, rates and masks: against NumPy, and the manual's example at work."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional

from tests.support.nncf import SEED_JSON, movement, text
from tests.support.tiny_transformers import SIZES
from ws_learner.compat.nncf.plan import build_movement_config, build_nncf_distillation_loss
from ws_learner.compat.nncf.reader import parse_nncf
from ws_learner.compat.nncf.schema import NncfDistillation
from ws_learner.pruning.sparsifier import Sparsifier


def log_softmax(x: np.ndarray) -> np.ndarray:
    shifted = x - x.max(1, keepdims=True)
    result: np.ndarray = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return result


@pytest.mark.parametrize("kind", ["softmax", "mse"])
def test_distillation_has_the_published_gradient(kind: str) -> None:
    scale, heat = 0.7, (3.0 if kind == "softmax" else 1.0)
    draw = np.random.default_rng(0)
    student, inputs = draw.normal(size=(6, 4)), draw.normal(size=(6, 5))
    teacher = nn.Linear(5, 4).double()
    wanted = teacher(torch.from_numpy(inputs)).detach().numpy()
    targets = draw.integers(4, size=6)

    def oracle(x: np.ndarray) -> float:
        task = -log_softmax(x)[np.arange(6), targets].mean()
        if kind == "mse":
            return float(task + scale * ((x - wanted) ** 2).mean())
        p = np.exp(log_softmax(wanted / heat))
        divergence = (p * (log_softmax(wanted / heat) - log_softmax(x / heat))).sum(1).mean()
        return float(task + scale * heat**2 * divergence)

    part = NncfDistillation.model_validate(
        {"algorithm": "knowledge_distillation", "type": kind, "scale": scale, "temperature": heat}
    )
    criterion = build_nncf_distillation_loss(functional.cross_entropy, teacher, part)
    outputs = torch.tensor(student, requires_grad=True)
    loss = criterion(outputs, torch.from_numpy(targets), torch.from_numpy(inputs))
    (grad,) = torch.autograd.grad(loss, outputs)
    for place in np.ndindex(student.shape):
        step = np.zeros_like(student)
        step[place] = 1e-5
        slope = (oracle(student + step) - oracle(student - step)) / 2e-5
        assert float(grad[place]) == pytest.approx(slope, abs=1e-6)
    if kind == "mse":
        assert loss.item() == pytest.approx(oracle(student))


@pytest.mark.parametrize(
    ("own", "top", "factor"), [(None, None, 1), (0.5, None, 0.5), (None, 3, 3), (0.5, 3, 0.5)]
)
def test_scores_learn_at_a_multiple_of_the_weights_rate(
    own: float | None, top: float | None, factor: float
) -> None:
    conf = parse_nncf(text(movement(compression_lr_multiplier=own), compression_lr_multiplier=top))
    model = nn.Sequential(nn.Linear(4, 4))
    config, names = build_movement_config(conf, model, steps_per_epoch=3, lrn_rate=0.2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    Sparsifier(model, config, layers=names, total_steps=12).attach(optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, pytest.approx(0.2 * factor)]


def blocks(mask: Tensor, rows: int, columns: int) -> Tensor:
    """(blocks, weights of a block) of a mask."""
    parts = mask.reshape(mask.shape[0] // rows, rows, mask.shape[1] // columns, columns)
    return parts.transpose(1, 2).reshape(-1, rows * columns)


@pytest.mark.filterwarnings("ignore:movement. nothing is left")  # of the few blocks there are
def test_the_manuals_example_trains_a_small_bert() -> None:
    torch.manual_seed(0)
    sizes = SIZES | {"hidden_size": 128, "intermediate_size": 64}
    model = transformers.BertForSequenceClassification(
        transformers.BertConfig(vocab_size=60, num_labels=3, **sizes)
    )
    conf = parse_nncf(SEED_JSON)
    assert json.loads(SEED_JSON.replace("},\n  ]", "}\n  ]"))["compression"]  # as it stands there
    config, names = build_movement_config(conf, model, steps_per_epoch=2, lrn_rate=1e-3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    sparsifier = Sparsifier(model, config, layers=names, total_steps=14)
    sparsifier.attach(optimizer)
    for step in range(14):
        if step % 2 == 0:
            sparsifier.epoch_begin()
        words = torch.randint(5, 60, (4, 6))
        loss = model(words, labels=words[:, 0] % 3).loss + sparsifier.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    sparsifier.finalize()
    masks = sparsifier.masks
    assert not any("pooler" in name or "classifier" in name for name in masks)
    assert len([name for name in masks if name.endswith("weight")]) == 12
    for name, mask in masks.items():
        assert not model.get_parameter(name)[~mask].any()
        if mask.ndim < 2:
            continue
        shape = (1, 1)
        if "attention" in name:
            shape = (64, 64)
        elif "intermediate" in name:
            shape = (1, 128)
        kept = blocks(mask, *shape)
        assert torch.equal(kept.any(1), kept.all(1))
        if shape == (1, 1):
            assert 0 < int(mask.sum()) < mask.numel()
