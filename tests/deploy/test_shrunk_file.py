"""A shrunk network through a file: rebuilt from the original's class, checked, equal to the bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from experiments.models.mobilenet_v2 import mobilenet_v2
from experiments.models.resnet_cifar import resnet_cifar
from tests.support.dead_channels import with_random_norms, zero_channels
from tests.support.fused_attention import FusedAttentionNet
from tests.support.small_bert import SmallBert
from ws_learner.core.errors import UserError
from ws_learner.deploy.shrinking.shrink import Shrunk, shrink
from ws_learner.deploy.shrinking.shrunk_file import load_shrunk, save_shrunk


class Tied(nn.Module):
    """One matrix embeds and decides."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.inner = nn.Embedding(11, 6), nn.Linear(6, 20)
        self.back, self.head = nn.Linear(20, 6), nn.Linear(6, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        result: Tensor = self.head(self.back(self.inner(self.embed(tokens)).relu()))
        return result


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(24, 4, 40, batch_first=True, dropout=0.0)
    return nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)


def image(side: int = 32) -> Tensor:
    return torch.randn(2, 3, side, side)


NETS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor], list[tuple[str, slice]]]] = {
    "resnet": (lambda: resnet_cifar(8), image, [("layer1.0.conv1", slice(0, 7))]),
    "mobilenet": (
        lambda: mobilenet_v2(num_classes=5, width=0.25),
        lambda: image(64),
        [("features.4.conv.0.0", slice(0, 9))],
    ),
    "bert": (
        SmallBert,
        lambda: torch.randint(50, (2, 6)),
        [(f"layers.0.attention.{n}", slice(0, 6)) for n in ("query", "key", "value")],
    ),
    "encoder": (encoder, lambda: torch.randn(2, 5, 24), [("layers.0.linear1", slice(0, 9))]),
    "fused": (
        FusedAttentionNet,
        lambda: torch.randn(2, 5, 24),
        [("attn.qkv", slice(start, start + 6)) for start in (0, 24, 48)],
    ),
    "tied": (Tied, lambda: torch.randint(11, (2, 4)), [("inner", slice(3, 12))]),
}


def made(name: str) -> tuple[Shrunk, Tensor]:
    build, inputs, dead = NETS[name]
    torch.manual_seed(0)
    model = with_random_norms(build())
    for layer, rows in dead:
        zero_channels(model, layer, rows)
    example = inputs()
    return shrink(model, example), example


@pytest.mark.long
@pytest.mark.parametrize("name", NETS)
def test_there_and_back(name: str, tmp_path: Path) -> None:
    shrunk, example = made(name)
    assert any(cut.before > cut.after for cut in shrunk.cuts)
    save_shrunk(shrunk, tmp_path / "small.safetensors")
    torch.manual_seed(1)
    fresh = NETS[name][0]()
    assert load_shrunk(fresh, tmp_path / "small.safetensors") is fresh
    with torch.no_grad():
        assert torch.equal(fresh(example), shrunk.model(example))
    mine, other = fresh.state_dict(), shrunk.model.state_dict()
    assert {n: t.shape for n, t in mine.items()} == {n: t.shape for n, t in other.items()}
    for path, module in shrunk.model.named_modules():
        twin = fresh.get_submodule(path)
        for size in ("in_channels", "out_channels", "groups", "in_features", "num_heads"):
            assert getattr(twin, size, None) == getattr(module, size, None)
    if isinstance(fresh, Tied):
        assert fresh.head.weight is fresh.embed.weight
    fresh.train()
    fresh(example).sum().backward()  # it is an ordinary network that can be trained on
    # The plain state_dict of one loads into the other.
    fresh.load_state_dict(shrunk.model.state_dict())


def test_another_network_is_refused_and_left_alone(tmp_path: Path) -> None:
    save_shrunk(made("resnet")[0], tmp_path / "small.safetensors")
    for other, part in ((resnet_cifar(20), "layer1.1"), (SmallBert(), "SmallBert")):
        before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
        with pytest.raises(UserError, match="made from another network") as caught:
            load_shrunk(other, tmp_path / "small.safetensors")
        assert part in str(caught.value)
        assert all(torch.equal(before[n], t) for n, t in other.state_dict().items())


def test_damage_and_foreign_files_are_told(tmp_path: Path) -> None:
    file = tmp_path / "small.safetensors"
    save_shrunk(made("resnet")[0], file)
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    tensors = load_file(file)
    tensors["fc.bias"][0] += 1
    save_file(tensors, tmp_path / "changed.safetensors", metadata)
    with pytest.raises(UserError, match="was changed after it was written"):
        load_shrunk(resnet_cifar(8), tmp_path / "changed.safetensors")
    about = json.loads(metadata["shrunk"])
    about["sizes"]["conv1"]["out_channels"] = 3
    save_file(
        load_file(file), tmp_path / "c.safetensors", {**metadata, "shrunk": json.dumps(about)}
    )
    with pytest.raises(UserError, match="was changed after it was written"):
        load_shrunk(resnet_cifar(8), tmp_path / "c.safetensors")
    save_file(resnet_cifar(8).state_dict(), tmp_path / "plain.safetensors")
    with pytest.raises(UserError, match="holds no shrunk network"):
        load_shrunk(resnet_cifar(8), tmp_path / "plain.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(UserError, match="not a valid safetensors file"):
        load_shrunk(resnet_cifar(8), tmp_path / "text.safetensors")
    with pytest.raises(UserError, match="no such file"):
        load_shrunk(resnet_cifar(8), tmp_path / "none.safetensors")
