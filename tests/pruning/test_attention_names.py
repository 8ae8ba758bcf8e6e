"""Attention naming schemes: roles, head patterns, unit groups and cropping know the same names."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ws_learner.deploy.shrinking.channel_sets import number_of_heads
from ws_learner.deploy.shrinking.crop import crop
from ws_learner.deploy.shrinking.split_attention import split_attention
from ws_learner.pruning.layers import attention_names as names
from ws_learner.pruning.layers.attention_heads import find_attention
from ws_learner.pruning.layers.roles import weight_roles
from ws_learner.pruning.layers.unit_groups import find_groups
from ws_learner.pruning.layers.unresolved_groups import find_unresolved

WIDTH, HEADS = 12, 3


class Attention(nn.Module):
    """Self-attention whose layers and number of heads have given names."""

    def __init__(self, inputs: tuple[str, ...], output: str, count: str, width: str) -> None:
        super().__init__()
        self._inputs, self._output, self._count = inputs, output, count
        for name in inputs:
            self.add_module(name, nn.Linear(WIDTH, WIDTH * 3 // len(inputs)))
        leaf = nn.Linear(WIDTH, WIDTH)
        head, _, tail = output.partition(".")
        self.add_module(head, nn.ModuleList([leaf]) if tail else leaf)
        setattr(self, count, HEADS)
        if width:
            setattr(self, width, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.cat([self.get_submodule(name)(x) for name in self._inputs], -1).chunk(3, -1)
        q, k, v = (
            y.reshape(*x.shape[:2], getattr(self, self._count), -1).transpose(1, 2) for y in parts
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        result: Tensor = self.get_submodule(self._output)(mixed)
        return result


class Net(nn.Module):
    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attn, self.fc1, self.fc2 = attention, nn.Linear(WIDTH, 20), nn.Linear(20, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x + (self.attn(x, x, x)[0] if hasattr(self.attn, "batch_first") else self.attn(x))
        result: Tensor = self.fc2(self.fc1(x).relu())
        return result


SCHEMES: dict[str, tuple[tuple[str, ...], str, str, str]] = {
    "timm": (("qkv",), "proj", "num_heads", "attn_dim"),
    "hugging face bert": (
        ("query", "key", "value"),
        "output",
        "num_attention_heads",
        "all_head_size",
    ),
    "distilbert": (("q_lin", "k_lin", "v_lin"), "out_lin", "n_heads", ""),
    "llama": (("q_proj", "k_proj", "v_proj"), "o_proj", "num_heads", ""),
    "diffusers": (("to_q", "to_k", "to_v"), "to_out.0", "heads", "inner_dim"),
    "vit_pytorch": (("to_qkv",), "to_out", "heads", ""),
    "c_attn": (("c_attn",), "proj", "n_head", ""),
    "t5": (("q", "k", "v"), "o", "n_heads", "inner_dim"),
    "wq": (("wq", "wk", "wv"), "wo", "nhead", ""),
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_user_of_the_names_finds_a_scheme(scheme: str) -> None:
    inputs, output, count, width = SCHEMES[scheme]
    torch.manual_seed(0)
    model, x = Net(Attention(inputs, output, count, width)).eval(), torch.randn(2, 5, WIDTH)
    weights = [f"attn.{name}.weight" for name in (*inputs, output)]
    roles = weight_roles(model)
    wanted = [("q", "k", "v")] if len(inputs) == 1 else [("q",), ("k",), ("v",)]
    assert [roles[name] for name in weights] == [*wanted, ("o",)]
    (found,) = find_attention(model)
    assert (found.name, list(found.patterns)) == ("attn", weights)
    assert {pattern.heads for pattern in found.patterns.values()} == {HEADS}
    assert number_of_heads(model.attn) == HEADS
    groups = find_groups(model)
    (heads,) = [group for group in groups if group.kind == "heads"]
    assert {member.weight for member in heads.members} == set(weights)
    assert find_unresolved(model, groups, weights) == {}
    read = model.get_parameter(f"attn.{output}.weight").data
    read[:, : WIDTH // HEADS] = 0  # nothing reads the first head
    smaller = crop(model, [x]).model
    assert getattr(smaller.attn, count) == HEADS - 1
    assert not width or getattr(smaller.attn, width) == WIDTH - WIDTH // HEADS
    assert torch.allclose(smaller(x), model(x), atol=1e-5)


def test_every_user_of_the_names_finds_the_attention_of_torch() -> None:
    model = Net(nn.MultiheadAttention(WIDTH, HEADS, batch_first=True))
    roles = weight_roles(model)
    assert roles["attn.in_proj_weight"] == ("q", "k", "v")
    assert roles["attn.out_proj.weight"] == ("o",)
    assert number_of_heads(model.attn) == HEADS
    split_attention(model)
    weights = [f"attn.{name}_proj.weight" for name in ("q", "k", "v", "out")]
    assert [weight_roles(model)[name] for name in weights] == [("q",), ("k",), ("v",), ("o",)]
    (found,) = find_attention(model)
    assert list(found.patterns) == weights
    assert [group.kind for group in find_groups(model)].count("heads") == 1


def test_schemes_cover_the_tables() -> None:
    inputs = {name for scheme in SCHEMES.values() for name in scheme[0]}
    counts = {scheme[2] for scheme in SCHEMES.values()}
    assert set(names.HEAD_COUNTS) == counts
    for table in (names.QUERIES, names.KEYS, names.VALUES):
        assert set(table) <= inputs
    assert set(names.FUSED) - inputs == {"qkv_proj", "in_proj"}
