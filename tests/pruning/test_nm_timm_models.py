from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.support.nm_oracle import mask_of
from tests.support.timm_import import timm_or_skip
from ws_learner.pruning.layers.layer_plan import by_role
from ws_learner.pruning.layers.roles import weight_roles
from ws_learner.pruning.methods.mdgf import MdgfConfig
from ws_learner.pruning.patterns.nm import NM
from ws_learner.pruning.patterns.pattern import parse_pattern
from ws_learner.pruning.patterns.slices import Slices
from ws_learner.pruning.sparsifier import Sparsifier

MIXED = parse_pattern("1:8@ff+1:4@q,k")
STEPS = 4


def images(model: nn.Module) -> torch.Tensor:
    return model(pixel_values=torch.randn(2, 3, 16, 16)).logits


def tokens(model: nn.Module) -> torch.Tensor:
    return model(input_ids=torch.randint(30, (2, 9))).logits


def hugging_face(name: str) -> tuple[nn.Module, Callable[[nn.Module], torch.Tensor]]:
    import transformers

    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    windows: dict[str, Any] = {"embed_dim": 16, "depths": [2, 1], "num_heads": [2, 2]}
    windows |= {"image_size": 16, "patch_size": 2, "window_size": 4}
    if name == "vit":
        config = transformers.ViTConfig(**sizes, intermediate_size=32, image_size=16, patch_size=4)
        return transformers.ViTForImageClassification(config), images
    if name == "swin":
        return transformers.SwinForImageClassification(transformers.SwinConfig(**windows)), images
    if name == "swinv2":
        config = transformers.Swinv2Config(**windows)
        return transformers.Swinv2ForImageClassification(config), images
    config = transformers.BertConfig(
        **sizes, intermediate_size=32, vocab_size=30, max_position_embeddings=16
    )
    return transformers.BertForSequenceClassification(config), tokens


def sparsified(
    model: nn.Module, logits: Callable[[nn.Module], torch.Tensor], folder: Path
) -> nn.Module:
    """Train with a mixed pattern, save under the model's own keys, load into a fresh model."""
    fresh, keys, kind = copy.deepcopy(model), list(model.state_dict()), type(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    config = MdgfConfig(pattern=MIXED, dense=0.25, fine_tune=0.25)
    zeros = config.targets(model)
    sparsifier = Sparsifier(model, config, zeros=zeros, total_steps=STEPS)
    sparsifier.attach(optimizer)
    model.train()
    for _ in range(STEPS):
        optimizer.zero_grad()
        logits(model).square().mean().backward()
        optimizer.step()
        assert list(model.state_dict()) == keys
    model = sparsifier.finalize()
    assert type(model) is kind
    state = {name: t.contiguous().clone() for name, t in model.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    fresh.load_state_dict(load_file(folder / "model.safetensors"))
    fresh.eval()
    model.eval()
    torch.manual_seed(0)
    before = logits(model)
    torch.manual_seed(0)
    assert torch.equal(before, logits(fresh))
    return fresh


def check_zeros(model: nn.Module) -> None:
    """Every group of the roles named has N nonzero weights; all else is dense."""
    roles = weight_roles(model)
    found = by_role(model, MIXED)  # type: ignore[arg-type]
    assert {role for name in found for role in roles[name]} >= {"ff", "q", "k"}
    for name, own in roles.items():
        weight = model.get_parameter(name).detach().double().numpy()
        pattern = found.get(name)
        if pattern is None:
            assert not set(own) & {"ff", "q", "k"}
            assert (weight != 0).all()
            continue
        parts = pattern.parts if isinstance(pattern, Slices) else (pattern,)
        step = len(weight) // len(parts)
        for number, part in enumerate(parts):
            rows = weight[number * step : (number + 1) * step]
            if part is None:
                assert (rows != 0).all()
            else:
                assert isinstance(part, NM)
                assert part.m == (8 if own == ("ff",) else 4)
                assert ((rows != 0) == mask_of(rows, part.n, part.m)).all()


@pytest.mark.parametrize("name", ["vit", "swin", "swinv2", "bert"])
def test_hugging_face_models(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, logits = hugging_face(name)
    check_zeros(sparsified(model, logits, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"]
)
def test_timm_models(name: str, tmp_path: Path) -> None:
    """In an environment of its own: timm, and torchvision without its dependencies."""
    timm = timm_or_skip()
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=10)
    size = int(name.rpartition("_")[2].removeprefix("window8")) if "window8" in name else 224

    def logits(network: nn.Module) -> torch.Tensor:
        result: torch.Tensor = network(torch.randn(1, 3, size, size))
        return result

    check_zeros(sparsified(model, logits, tmp_path))
