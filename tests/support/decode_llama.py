"""Random networks of two blocks for tests of decoding."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["PROMPT", "Words", "gpt2", "llama"]


def llama(*, zeros: float = 0.6, **other: Any) -> Any:
    """A random Llama of two blocks with zeros in its linear layers."""
    settings = {
        **{"vocab_size": 250, "hidden_size": 48, "intermediate_size": 100, "num_hidden_layers": 2},
        **{"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 16},
        **{"max_position_embeddings": 128, "eos_token_id": None, "bos_token_id": None},
    }
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(**(settings | other))
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, weight in model.model.layers.named_parameters():
            if weight.dim() == 2:
                weight.mul_(4)
                weight[torch.rand_like(weight) < zeros] = 0
            elif name.endswith("bias"):
                weight.normal_()
            else:
                weight.uniform_(0.5, 1.5)
    return model


PROMPT = [3, 77, 12, 200, 5, 9, 41]


class Words:
    """A fast tokenizer of transformers as far as it is asked for: a word for each letter."""

    def __init__(self, count: int) -> None:
        from tokenizers import Tokenizer, models, pre_tokenizers

        words = {chr(65 + i): i for i in range(count)}
        self.backend_tokenizer = Tokenizer(models.WordLevel(words, unk_token="A"))
        self.backend_tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()


def gpt2(*, zeros: float = 0.6, **other: Any) -> Any:
    """A random GPT-2 of two blocks with zeros in its linear layers, and with biases."""
    import transformers

    settings = {
        **{"vocab_size": 250, "n_embd": 48, "n_inner": 100, "n_layer": 2, "n_head": 3},
        **{"n_positions": 128, "eos_token_id": None, "bos_token_id": None},
    }
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**(settings | other))).eval()
    with torch.no_grad():
        for name, weight in model.transformer.named_parameters():
            if name.startswith("h.") and weight.dim() == 2:
                weight.normal_(std=0.2)
                weight[torch.rand_like(weight) < zeros] = 0
            elif name.endswith("bias"):
                weight.normal_()
            elif weight.dim() == 1:
                weight.uniform_(0.5, 1.5)
            else:
                weight.normal_(std=0.5)
    return model
