"""Random causal language models of two blocks, a tokenizer and text, made on the spot."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

__all__ = ["KINDS", "make_folder", "make_text"]

_WORDS = "the quick brown fox jumps over a lazy dog and runs from big bad wolves in dark woods"
_PIECES, _WIDTH = 300, 16
_LLAMA = {
    "vocab_size": _PIECES,
    "hidden_size": _WIDTH,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
_ENDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}


def _configs() -> dict[str, Any]:
    t: Any = transformers
    neox = {k: v for k, v in _LLAMA.items() if k != "num_key_value_heads"}
    return {
        "llama": t.LlamaConfig(**_LLAMA, **_ENDS, tie_word_embeddings=True),
        "gpt2": t.GPT2Config(
            vocab_size=_PIECES, n_embd=_WIDTH, n_layer=2, n_head=4, n_positions=64, **_ENDS
        ),
        "opt": t.OPTConfig(
            vocab_size=_PIECES,
            hidden_size=_WIDTH,
            ffn_dim=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=64,
            word_embed_proj_dim=8,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=1,
        ),
        "neox": t.GPTNeoXConfig(**neox, **_ENDS, max_position_embeddings=64),
        "qwen2": t.Qwen2Config(**_LLAMA, **_ENDS),
        "mistral": t.MistralConfig(**_LLAMA, **_ENDS, sliding_window=8),
    }


KINDS = ("llama", "gpt2", "opt", "neox", "qwen2", "mistral")


def make_folder(folder: Path, kind: str = "llama", *, blocks: int = 2, **saving: Any) -> Path:
    """Save a network of a kind with its tokenizer; `saving` goes to `save_pretrained`."""
    dtype = saving.pop("dtype", torch.float32)
    torch.manual_seed(0)
    config = _configs()[kind]
    config.num_hidden_layers = blocks
    model: Any = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():  # large enough for pruning to change predictions
            if parameter.dim() == 2:
                parameter.mul_(8)
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model.to(dtype).save_pretrained(folder, **saving)
    _tokenizer().save_pretrained(folder)
    return folder


def make_text(path: Path, words: int = 4000, seed: int = 0) -> Path:
    """Write about 20 kB of words."""
    draw = random.Random(seed)
    path.write_text(" ".join(draw.choice(_WORDS.split()) for _ in range(words)))
    return path


def _tokenizer() -> Any:
    cut = Tokenizer(models.BPE())
    cut.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=_PIECES,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<end>"],
        show_progress=False,
    )
    cut.train_from_iterator([_WORDS] * 5, trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=cut, eos_token="<end>")
