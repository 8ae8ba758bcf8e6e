"""SmolLM2-135M-Instruct as a Hugging Face folder, de-quantised once from its GGUF file.

The file has 4 bits for each weight of the blocks (Q4_1) and 8 for the embedding. What the folder
holds, and what every table calls dense, is that network with its weights as 32-bit numbers.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ws_learner.core import UserError, read_json, say, sha256_of, write_json
from ws_learner.data import cache_folder, smollm2_file
from ws_learner.language.transformers_import import import_transformers, quiet

__all__ = ["DENSE_NOTE", "read_gguf", "smollm2_folder"]

DENSE_NOTE = "the network de-quantised from Q4_1, 4 bits a weight (embedding: 8)"
_SEAL = "converted.json"
_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
_LAYERS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def smollm2_folder() -> Path:
    """The folder in the cache; downloaded and converted if it is not there or damaged.

    Raises:
        UserError: No source is reachable, a package is missing, or the disk is full.
    """
    folder = cache_folder() / "smollm2" / "dequantised"
    if folder.exists():
        if _is_whole(folder):
            return folder
        say(f"{folder}: is damaged; converting again")
        shutil.rmtree(folder, ignore_errors=True)
    source = smollm2_file()
    say("converting SmolLM2-135M-Instruct to safetensors, once (540 MB)")
    try:
        _convert_to(folder, source)
    except OSError as error:
        raise UserError(
            f"cannot write {folder}: {error.strerror or error}; free 700 MB or set WS_DATA_DIR"
        ) from error
    return folder


def _convert_to(folder: Path, source: Path) -> None:
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".converting-"))
    try:
        _convert(source, made)
        digests = {file.name: sha256_of(file) for file in sorted(made.iterdir())}
        write_json(made / _SEAL, digests)
        made.chmod(0o755)
        with suppress(OSError):  # another process was first
            made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    if not _is_whole(folder):
        raise UserError(f"{folder}: is damaged; remove it and run the same command again")


def _is_whole(folder: Path) -> bool:
    try:
        digests = read_json(folder / _SEAL)
        return bool(digests) and all(
            sha256_of(folder / n) == digest for n, digest in digests.items()
        )
    except (OSError, UserError, AttributeError):
        return False


def _convert(source: Path, folder: Path) -> None:
    facts, state = read_gguf(source)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    transformers = import_transformers()
    with quiet():
        _config(facts).save_pretrained(folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            source.parent, gguf_file=source.name, local_files_only=True
        )
        tokenizer.save_pretrained(folder)


def read_gguf(source: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Metadata of a GGUF file of a Llama, and its tensors in float32 under transformers' names.

    Raises:
        UserError: The package gguf is missing.
    """
    try:
        from gguf import GGUFReader
    except ModuleNotFoundError as error:
        raise UserError("a GGUF file needs the package gguf: pip install gguf") from error
    reader: Any = GGUFReader(str(source))
    facts = {name: field.contents() for name, field in reader.fields.items() if "." in name}
    heads = facts["llama.attention.head_count"]
    groups = facts["llama.attention.head_count_kv"]
    state = {}
    for tensor in reader.tensors:
        name, value = _name(tensor.name), _values(tensor)
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            value = _unpermuted(value, heads if "q_proj" in name else groups)
        state[name] = value.contiguous()
    return facts, state


def _config(facts: dict[str, Any]) -> Any:
    """Configuration of transformers' Llama."""
    return import_transformers().LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=facts["llama.vocab_size"],
        hidden_size=facts["llama.embedding_length"],
        intermediate_size=facts["llama.feed_forward_length"],
        num_hidden_layers=facts["llama.block_count"],
        num_attention_heads=facts["llama.attention.head_count"],
        num_key_value_heads=facts["llama.attention.head_count_kv"],
        max_position_embeddings=facts["llama.context_length"],
        rms_norm_eps=round(facts["llama.attention.layer_norm_rms_epsilon"], 9),
        rope_parameters={"rope_type": "default", "rope_theta": facts["llama.rope.freq_base"]},
        tie_word_embeddings=True,
        bos_token_id=facts["tokenizer.ggml.bos_token_id"],
        eos_token_id=facts["tokenizer.ggml.eos_token_id"],
        dtype="float32",
    )


def _name(name: str) -> str:
    """A tensor's name in transformers' Llama."""
    outer = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
    stem, _, kind = name.rpartition(".")
    if stem in outer:
        return f"{outer[stem]}.{kind}"
    _, number, part = stem.split(".")
    return f"model.layers.{number}.{(_NORMS | _LAYERS)[part]}.{kind}"


def _values(tensor: Any) -> Tensor:
    from gguf.quants import dequantize

    return torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy()).float()


def _unpermuted(weight: Tensor, heads: int) -> Tensor:
    """Rows in the order of transformers, which rotates halves of a head; GGUF rotates pairs."""
    rows, inputs = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, inputs).transpose(1, 2).reshape(rows, -1)
