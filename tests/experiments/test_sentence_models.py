"""Networks on sentences: padding changes nothing, roles, Gram matrices, a whole small run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.text import sentences, tiny_bert
from ws_learner.config.learner import WeightSparseConfig
from ws_learner.config.recipe import Recipe, learning_rate
from ws_learner.core.errors import UserError
from ws_learner.data.tokens import stacked
from ws_learner.pruning.layers.roles import filter_by_role
from ws_learner.pruning.layers.table import layer_table
from ws_learner.search.rollout.gram import collect_grams

ROWS = torch.tensor([[101, 7, 8, 102, 0, 0], [101, 9, 11, 12, 10, 102]])


def test_the_networks_keys_are_those_of_hugging_face_and_padding_changes_nothing() -> None:
    from transformers import BertForSequenceClassification

    network = tiny_bert().eval()
    theirs = BertForSequenceClassification(network.config).eval()
    theirs.load_state_dict(network.state_dict())
    with torch.no_grad():
        logits = network(ROWS)
        alone = network(ROWS[:1, :4])
        asked = theirs(ROWS, attention_mask=(ROWS != 0).long()).logits
    torch.testing.assert_close(logits[:1], alone)
    torch.testing.assert_close(logits, asked)


def test_what_follows_the_first_sentences_end_is_the_second_segment() -> None:
    from transformers import BertForSequenceClassification

    pair = torch.tensor([[101, 7, 102, 9, 11, 102, 0]])
    kinds = torch.tensor([[0, 0, 0, 1, 1, 1, 0]])
    network = tiny_bert().eval()
    theirs = BertForSequenceClassification(network.config).eval()
    theirs.load_state_dict(network.state_dict())
    with torch.no_grad():
        asked = theirs(pair, attention_mask=(pair != 0).long(), token_type_ids=kinds).logits
        torch.testing.assert_close(network(pair), asked)


def test_roles_of_hugging_faces_bert() -> None:
    rows = layer_table(tiny_bert(), ROWS)
    encoder = ["q", "k", "v", "o", "ff", "ff"]
    assert [row.role for row in rows] == [*encoder, *encoder, "head", "head"]
    assert [row.name for row in rows[-2:]] == ["bert.pooler.dense.weight", "classifier.weight"]


def test_roles_of_an_attention_that_computes_all_three_at_once() -> None:
    class Fused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.num_heads = 2
            self.qkv, self.proj = nn.Linear(8, 24), nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.qkv(x).chunk(3, dim=-1)
            result: torch.Tensor = self.proj(torch.softmax(q @ k.mT, -1) @ v)
            return result

    model = nn.Sequential(Fused(), nn.Linear(8, 4))
    assert [row.role for row in layer_table(model, torch.randn(2, 3, 8))] == ["qkv", "o", "head"]


@pytest.mark.parametrize(
    ("location", "open_"),
    [
        ("", "q k v o ff ff head head"),
        ("ff", "ff ff"),
        ("attention", "q k v o"),
        ("o,q", "q o"),
        ("ff,head", "ff ff head head"),
    ],
)
def test_only_roles_at_the_location_are_pruned(location: str, open_: str) -> None:
    table = layer_table(tiny_bert(num_hidden_layers=1), ROWS)
    rows = filter_by_role(table, WeightSparseConfig(ws_location=location).roles)
    assert [row.role for row in rows if not row.exempt] == open_.split()
    assert [(row.name, row.weights) for row in rows] == [(row.name, row.weights) for row in table]


def test_a_role_that_is_not_there_is_named_with_those_that_are() -> None:
    rows = layer_table(nn.Sequential(nn.Conv2d(3, 4, 3)), torch.randn(1, 3, 6, 6))
    with pytest.raises(UserError, match=r"`location` q: no layer .* here are conv"):
        filter_by_role(rows, ("conv", "q"))


def test_padding_does_not_enter_the_gram_matrices() -> None:
    network = tiny_bert().eval()
    rows = layer_table(network, ROWS)
    apart = collect_grams(network, [ROWS[:1, :4], ROWS[1:]], layers=rows, seed=0, pad_id=0)
    padded = stacked([ROWS, torch.tensor([[101, 5, 102, *[0] * 9]])], pad_id=0)[:2]  # 12 wide
    together = collect_grams(network, [padded], layers=rows, seed=0, pad_id=0)
    for one, other in zip(apart, together, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_linear_rate_rises_over_the_warmup_and_falls_to_zero() -> None:
    recipe = Recipe(nb_epochs=1, lrn_rate=0.5, lrn_schedule="linear", warmup=0.2)
    rates = np.array([learning_rate(recipe, step, total_steps=100) for step in range(100)])
    np.testing.assert_allclose(rates[:20], 0.5 * np.arange(1, 21) / 21)
    np.testing.assert_allclose(rates[20:], 0.5 * (100 - np.arange(20, 100)) / 80)


@pytest.mark.long
def test_the_loop_trains_on_sentences() -> None:
    from ws_learner.core.device import ComputeDevice
    from ws_learner.training.evaluation import evaluate, top_k_accuracy
    from ws_learner.training.trainer import Trainer

    network = tiny_bert()
    plain = ComputeDevice(device="cpu", bf16=False, channels_last=False)
    Trainer(
        model=network,
        split=sentences(640),
        recipe=Recipe(nb_epochs=8, batch_size=32, optimizer="adamw", lrn_rate=5e-3, warmup=0.1),
        criterion=lambda outputs, targets, inputs: nn.functional.cross_entropy(outputs, targets),
        compute=plain,
        seed=0,
    ).run()
    right = evaluate(network, sentences(200, seed=1), top_k_accuracy, compute=plain)
    assert right > 0.5  # by chance a third of 200, give or take 7
