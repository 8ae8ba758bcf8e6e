"""Small models of Hugging Face's families, each with an input, and a block with a fused qkv."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor, nn

Built = tuple[nn.Module, dict[str, Tensor]]

SIZES: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 20,
}


def _tokens() -> dict[str, Tensor]:
    mask = torch.ones(3, 7, dtype=torch.long)
    mask[1, 4:] = 0
    return {"input_ids": torch.randint(5, 60, (3, 7)), "attention_mask": mask}


def _model(kind: str, config: Any, attention: str) -> nn.Module:
    torch.manual_seed(0)
    config._attn_implementation = attention
    model: nn.Module = getattr(transformers, kind)(config)
    for parameter in model.parameters():  # biases and tables are zero at first
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def bert(attention: str = "sdpa") -> Built:
    config = transformers.BertConfig(vocab_size=60, **SIZES)
    return _model("BertForSequenceClassification", config, attention), _tokens()


def roberta(attention: str = "sdpa") -> Built:
    config = transformers.RobertaConfig(vocab_size=60, **SIZES)
    return _model("RobertaForSequenceClassification", config, attention), _tokens()


def distilbert(attention: str = "sdpa") -> Built:
    config = transformers.DistilBertConfig(
        vocab_size=60, dim=24, n_layers=2, n_heads=4, hidden_dim=20
    )
    return _model("DistilBertForSequenceClassification", config, attention), _tokens()


def vit(attention: str = "sdpa") -> Built:
    config = transformers.ViTConfig(image_size=16, patch_size=8, **SIZES)
    model = _model("ViTForImageClassification", config, attention)
    return model, {"pixel_values": torch.randn(2, 3, 16, 16)}


def swin(attention: str = "sdpa") -> Built:
    config = transformers.SwinConfig(
        image_size=32,
        patch_size=4,
        embed_dim=16,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=4,
        mlp_ratio=2.0,
    )
    model = _model("SwinForImageClassification", config, attention)
    return model, {"pixel_values": torch.randn(2, 3, 32, 32)}


def wav2vec2(attention: str = "sdpa") -> Built:
    config = transformers.Wav2Vec2Config(
        conv_dim=[8, 8],
        conv_stride=[5, 4],
        conv_kernel=[10, 4],
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        classifier_proj_size=6,
        **SIZES,
    )
    model = _model("Wav2Vec2ForSequenceClassification", config, attention)
    return model, {"input_values": torch.randn(2, 400)}


FAMILIES: dict[str, Callable[..., Built]] = {
    "bert": bert,
    "roberta": roberta,
    "distilbert": distilbert,
    "vit": vit,
    "swin": swin,
    "wav2vec2": wav2vec2,
}


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = heads, width // heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, length, 3, -1, self.head_dim).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        result: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return result


class _Mlp(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.fc2(nn.functional.gelu(self.fc1(x)))
        return result


class FusedBlock(nn.Module):
    """A block as timm writes it, q, k and v in one layer."""

    def __init__(self, width: int = 24, heads: int = 4, inner: int = 20) -> None:
        super().__init__()
        self.attn, self.mlp = _Attention(width, heads), _Mlp(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        result: Tensor = x + self.mlp(x)
        return result
