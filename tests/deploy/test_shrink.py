"""Structured shrink: a smaller network with the outputs of the masked one, many architectures."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from experiments.models.mobilenet_v2 import mobilenet_v2
from experiments.models.resnet_cifar import resnet_cifar
from tests.support.dead_channels import with_random_norms, zero_channels
from tests.support.small_bert import SmallBert
from ws_learner.core.errors import UserError
from ws_learner.deploy.shrinking.shrink import Shrunk, shrink
from ws_learner.deploy.shrinking.split_attention import SplitAttention, split_attention


def same(model: nn.Module, shrunk: Shrunk, *inputs: Tensor) -> None:
    """The outputs agree to 1e-5 of their size, on inputs that the shrinking never saw."""
    with torch.no_grad():
        wanted, got = model(*inputs), shrunk.model(*inputs)
    assert float((wanted - got).abs().max()) <= 1e-5 * max(1.0, float(wanted.abs().max()))


def cut_of(shrunk: Shrunk, layer: str) -> tuple[int, int]:
    return next((c.before, c.after) for c in shrunk.cuts if c.layer == layer)


def test_mlp_neurons_leave_with_their_biases_folded() -> None:
    torch.manual_seed(0)
    model = with_random_norms(
        nn.Sequential(
            nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 7, bias=False), nn.ReLU(), nn.Linear(7, 3)
        )
    )
    zero_channels(model, "0", slice(2, 5))
    zero_channels(model, "4", slice(0, 2), columns=True)
    shrunk = shrink(model, torch.randn(2, 6))
    assert [tuple(p.shape) for p in shrunk.model.parameters() if p.dim() == 2] == [
        (7, 6),
        (5, 7),
        (3, 5),
    ]
    assert torch.equal(shrunk.model[0].weight, model[0].weight[[0, 1, 5, 6, 7, 8, 9]])
    assert shrunk.model[2].bias is not None  # tanh of three biases has to go somewhere
    same(model, shrunk, torch.randn(50, 6))


def test_a_removed_layer_takes_what_only_it_read() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(8, 8) for _ in range(3)])
    zero_channels(model, "2", slice(0, 4), columns=True)  # rows 0-3 of layer 1 are unread ...
    model[1].weight.data[4:, 5:] = 0  # ... so columns 5-7 of it are read by nobody
    shrunk = shrink(model, torch.randn(2, 8))
    assert [tuple(m.weight.shape) for m in shrunk.model] == [(5, 8), (4, 5), (8, 4)]
    same(model, shrunk, torch.randn(50, 8))


def test_resnet20_through_residuals_and_batch_norm() -> None:
    torch.manual_seed(1)
    model = with_random_norms(resnet_cifar(20))
    zero_channels(model, "layer1.0.conv1", slice(3, 9))
    for name in ("conv1", "layer1.0.conv2", "layer1.1.conv2", "layer1.2.conv2"):
        zero_channels(model, name, slice(10, 14))
    zero_channels(model, "layer3.2.conv2", slice(0, 64, 2), columns=True)
    shrunk = shrink(model, torch.randn(2, 3, 32, 32))
    before, after = cut_of(shrunk, "layer1.0.conv1")
    # Six filters are zero; at most one of them stays, for a constant past the padding.
    assert (before, after in (10, 11)) == (16, True)
    assert cut_of(shrunk, "conv1")[1] in (12, 13)
    assert cut_of(shrunk, "layer3.2.conv1") == (64, 32)
    assert type(shrunk.model) is type(model)
    same(model, shrunk, torch.randn(4, 3, 32, 32))
    same(model, shrunk, torch.randn(2, 3, 48, 40))  # other borders, same network


def test_one_dead_conv_of_a_residual_sum_is_not_enough() -> None:
    torch.manual_seed(1)
    model = with_random_norms(resnet_cifar(8))
    zero_channels(model, "layer1.0.conv2", slice(0, 8))
    shrunk = shrink(model, torch.randn(2, 3, 32, 32))
    assert cut_of(shrunk, "conv1") == (16, 16)
    same(model, shrunk, torch.randn(2, 3, 32, 32))


def test_constants_that_pass_padding_are_merged_into_one_channel() -> None:
    torch.manual_seed(2)
    model = with_random_norms(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1))
    )
    zero_channels(model, "0", slice(0, 6))
    model[0].bias.data[:6] = torch.tensor([0.5, -1.0, 0.2, 2.0, 0.0, 1.0])
    shrunk = shrink(model, torch.randn(1, 3, 8, 8))
    # 2 live ones and one for the constants 0.5, 0.2, 2 and 1; -1 and 0 are cut off by the ReLU.
    assert shrunk.model[0].weight.shape[0] == 3
    assert float(shrunk.model[0].bias.data[0]) == 2.0
    assert "padding" in next(cut.note for cut in shrunk.cuts if cut.layer == "0")
    same(model, shrunk, torch.randn(3, 3, 11, 9))


def test_mobilenet_v2_with_depthwise_convolutions() -> None:
    torch.manual_seed(3)
    model = with_random_norms(mobilenet_v2(num_classes=7, width=0.25))
    block = "features.4.conv"
    zero_channels(model, f"{block}.1.0", slice(0, 9))  # depthwise filters alone
    zero_channels(model, f"{block}.2", slice(9, 15), columns=True)  # unread by the projection
    zero_channels(model, "classifier.1", slice(100, 300), columns=True)
    shrunk = shrink(model, torch.randn(1, 3, 64, 64))
    hidden = model.get_submodule(f"{block}.0.0").weight.shape[0]
    assert shrunk.model.get_submodule(f"{block}.0.0").weight.shape[0] == hidden - 15
    depthwise = shrunk.model.get_submodule(f"{block}.1.0")
    assert (depthwise.groups, depthwise.weight.shape[0]) == (hidden - 15, hidden - 15)
    assert shrunk.model.classifier[1].weight.shape == (7, 1280 - 200)
    same(model, shrunk, torch.randn(2, 3, 96, 64))


@pytest.mark.long
def test_mobilenet_v2_with_a_third_of_all_filters_dead() -> None:
    torch.manual_seed(3)
    model = with_random_norms(mobilenet_v2(num_classes=7, width=0.25))
    for module in list(model.modules())[2:]:
        if isinstance(module, nn.Conv2d):
            rows = torch.randperm(len(module.weight))[: len(module.weight) // 3]
            module.weight.data[rows] = 0
    shrunk = shrink(model, torch.randn(1, 3, 64, 64))
    # A depthwise filter and the convolution before it die apart: a third, then a third of the rest.
    before, after = cut_of(shrunk, "features.17.conv.1.0")
    assert before == 240
    assert after < 0.6 * before
    for module in shrunk.model.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            assert module.groups == module.in_channels == module.weight.shape[0]
    same(model, shrunk, torch.randn(2, 3, 96, 64))


class Grouped(nn.Module):
    """A grouped convolution, and a depthwise one with two filters for each input."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.grouped = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 3, groups=4, padding=1)
        self.middle, self.twice = nn.Conv2d(12, 5, 1), nn.Conv2d(5, 10, 3, groups=5)
        self.wide, self.last = nn.Conv2d(10, 9, 1), nn.Conv2d(9, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.middle(self.grouped(self.first(x).relu()).relu())
        result: Tensor = self.last(self.wide(self.twice(x).relu()).relu())
        return result


def test_channels_of_grouped_convolutions_stay_and_others_go() -> None:
    torch.manual_seed(6)
    model = with_random_norms(Grouped())
    for name, rows in {"first": 2, "grouped": 6, "middle": 2, "twice": 4, "wide": 5}.items():
        zero_channels(model, name, slice(0, rows))
    shrunk = shrink(model, torch.randn(1, 3, 8, 8))
    assert cut_of(shrunk, "wide") == (9, 4)
    for name, count in {"first": 8, "grouped": 12, "middle": 5, "twice": 10}.items():
        assert cut_of(shrunk, name) == (count, count)
        (note,) = {cut.note for cut in shrunk.cuts if cut.layer == name}
        assert "dead channels stay: they pass through a grouped convolution" in note
    same(model, shrunk, torch.randn(2, 3, 9, 9))


@pytest.mark.parametrize("side", ["rows", "columns"])
def test_bert_heads_and_neurons(side: str) -> None:
    torch.manual_seed(4)
    model = with_random_norms(SmallBert())
    for head in (1, 3):
        part = slice(6 * head, 6 * head + 6)
        for name in ("query", "key", "value") if side == "rows" else ():
            zero_channels(model, f"layers.0.attention.{name}", part)
        if side == "columns":
            zero_channels(model, "layers.0.attention.output", part, columns=True)
    zero_channels(model, "layers.1.attention.value", slice(0, 5))  # no whole head
    zero_channels(model, "layers.1.output", slice(30, 40), columns=True)
    tokens = torch.randint(50, (2, 7))
    shrunk = shrink(model, tokens)
    attention = shrunk.model.layers[0].attention
    assert (attention.num_attention_heads, attention.all_head_size) == (2, 12)
    kept = [*range(6), *range(12, 18)]
    assert torch.equal(attention.key.weight, model.layers[0].attention.key.weight[kept])
    assert shrunk.model.layers[1].attention.num_attention_heads == 4
    assert shrunk.model.layers[1].intermediate.weight.shape == (30, 24)
    same(model, shrunk, torch.randint(50, (5, 11)))


@pytest.mark.parametrize("build", [lambda: resnet_cifar(8), SmallBert], ids=["resnet", "bert"])
def test_a_dense_network_is_left_alone_and_the_original_always(
    build: Callable[[], nn.Module],
) -> None:
    model = build()
    example = torch.randn(1, 3, 32, 32) if hasattr(model, "conv1") else torch.randint(50, (1, 4))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    shrunk = shrink(model, example)
    for name, tensor in shrunk.model.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert torch.equal(model.state_dict()[name], before[name])
    assert model.training


def test_the_same_network_gives_the_same_bits_twice() -> None:
    torch.manual_seed(1)
    model = with_random_norms(resnet_cifar(8))
    zero_channels(model, "layer1.0.conv1", slice(3, 9))
    first, second = (shrink(model, torch.randn(1, 3, 32, 32)).model.state_dict() for _ in range(2))
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("batch_first", [True, False])
def test_pytorchs_own_encoder_loses_heads_and_neurons(batch_first: bool) -> None:
    torch.manual_seed(5)
    layer = nn.TransformerEncoderLayer(24, 4, 40, batch_first=batch_first, dropout=0.1)
    model = with_random_norms(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))
    attention = model.layers[0].self_attn
    for start in (0, 24, 48):
        attention.in_proj_weight.data[start + 6 : start + 12] = 0
    zero_channels(model, "layers.1.linear1", slice(0, 15))
    shrunk = shrink(model, torch.randn(3, 5, 24))
    assert shrunk.model.layers[0].self_attn.num_heads == 3
    assert shrunk.model.layers[0].self_attn.q_proj.weight.shape == (18, 24)
    assert shrunk.model.layers[1].linear2.weight.shape == (24, 25)
    same(model, shrunk, torch.randn(4, 7, 24))
    padding = torch.zeros(4, 7, dtype=torch.bool)
    padding[1, 5:] = True
    x = torch.randn(4, 7, 24) if batch_first else torch.randn(7, 4, 24)
    causal = nn.Transformer.generate_square_subsequent_mask(7)
    with torch.no_grad():
        for extra in ({"src_key_padding_mask": padding}, {"mask": causal}):
            torch.testing.assert_close(
                shrunk.model(x, **extra), model(x, **extra), rtol=1e-5, atol=1e-5
            )


@pytest.mark.parametrize("sizes", [(None, None), (10, 14)], ids=["packed", "cross"])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("mask", ["none", "bool", "float", "per head"])
def test_a_split_attention_is_the_same_function(
    sizes: tuple[int | None, int | None], batch_first: bool, mask: str
) -> None:
    torch.manual_seed(0)
    whole = nn.MultiheadAttention(
        12, 3, kdim=sizes[0], vdim=sizes[1], batch_first=batch_first, bias=mask != "bool"
    ).eval()
    for parameter in whole.parameters():
        nn.init.normal_(parameter, std=0.3)
    split = SplitAttention(whole).eval()
    inputs = [torch.randn(2, n, e or 12) for n, e in zip((4, 5, 5), (12, *sizes), strict=True)]
    if not batch_first:
        inputs = [x.transpose(0, 1) for x in inputs]
    masks: dict[str, Tensor | None] = {
        "none": None,
        "bool": torch.ones(4, 5, dtype=torch.bool).triu(1),
        "float": torch.randn(4, 5),
        "per head": torch.randn(6, 4, 5),
    }
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    if mask != "bool":
        padding = torch.zeros(2, 5).masked_fill(padding, float("-inf"))  # of the mask's own type
    given = {"attn_mask": masks[mask], "key_padding_mask": padding}
    for average in (True, False):
        for got, wanted in zip(
            split(*inputs, **given, average_attn_weights=average),
            whole(*inputs, **given, average_attn_weights=average),
            strict=True,
        ):
            torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    alone = [x[0] if batch_first else x[:, 0] for x in inputs]
    for got, wanted in zip(split(*alone), whole(*alone), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    assert split(*inputs, need_weights=False)[1] is None


def test_an_attention_with_extra_rows_stays_whole() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 12)
    model.self_attn = nn.MultiheadAttention(8, 2, add_bias_kv=True)
    zero_channels(with_random_norms(model), "linear1", slice(0, 5))
    shrunk = shrink(model, torch.randn(3, 1, 8))
    assert isinstance(shrunk.model.self_attn, nn.MultiheadAttention)
    assert cut_of(shrunk, "linear1") == (12, 7)
    assert any("add_bias_kv" in str(obstacle) for obstacle in shrunk.obstacles)
    same(model, shrunk, torch.randn(4, 2, 8))
    with pytest.raises(UserError, match="add_bias_kv"):
        split_attention(nn.Sequential(model.self_attn))


@pytest.mark.parametrize("made", [8, 16])
@pytest.mark.parametrize("kernel", [2, 4])
def test_channels_before_and_after_a_transposed_convolution_leave(made: int, kernel: int) -> None:
    torch.manual_seed(0)
    up = nn.ConvTranspose2d(16, made, kernel, stride=2, padding=(kernel - 2) // 2)
    model = with_random_norms(
        nn.Sequential(
            nn.Conv2d(4, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), up, nn.ReLU(), nn.Conv2d(made, 3, 1)
        )
    )
    with torch.no_grad():
        up.weight[:5] = 0  # unread: the inputs are the first axis
        up.weight[:, 1:4] = 0  # no data in them
        model[0].weight[10:12] = 0  # constants, which a bias cannot stand for
    shrunk = shrink(model, torch.randn(2, 4, 8, 8))
    shape = tuple(shrunk.model[3].weight.shape)
    assert shape[1:] == (made - 3, kernel, kernel)
    assert shape[0] in (9, 10, 11)  # of two constants one carries both, unless ReLU ends them
    same(model, shrunk, torch.randn(3, 4, 10, 8))
