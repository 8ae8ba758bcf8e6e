"""`config.json` of a folder of transformers: values of another type are refused by name.

transformers takes some of them without a word, and ends on others deep inside with half a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ws_learner.core.errors import UserError
from ws_learner.core.paths import AnyPath, as_path
from ws_learner.core.shown_values import shown, shown_repr
from ws_learner.core.texts import parse_json, read_text

__all__ = ["check_saved_config", "reason_of"]

_REMEDY = "download the folder again, or save the network there with model.save_pretrained(folder)"
_SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings"),
    *("n_embd", "n_layer", "n_head", "n_inner", "n_positions", "ffn_dim", "image_size"),
    *("num_channels", "patch_size"),
)
_FACTORS = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "rope_theta")
_FLAGS = ("tie_word_embeddings", "use_cache", "is_encoder_decoder", "attention_bias")
_DTYPES = ("dtype", "torch_dtype")


def check_saved_config(folder: AnyPath, *, source: str) -> None:
    """Refuse a `config.json` with values of another type than transformers writes.

    Args:
        folder: Holds the file.
        source: The folder, for messages.

    Raises:
        UserError: It is no JSON object, or a value is of another type.
    """
    where = f"`model` {source}: config.json"
    content = read_text(as_path(folder, name="folder") / "config.json", where=where, remedy=_REMEDY)
    config = parse_json(content, where=where, remedy=_REMEDY)
    if not isinstance(config, dict):
        raise UserError(f"{where}: holds a {type(config).__name__}, no object; {_REMEDY}")
    for name, rule in _problems(config):
        raise UserError(f"{where}: {name} {shown_repr(config[name])}: must be {rule}; {_REMEDY}")


def _problems(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names of values and what they must be; null is a value that is not given."""
    rules = (
        (_SIZES, _is_size, "a whole number above 0, or a list of such"),
        (_FACTORS, _is_number, "a number above 0"),
        (_FLAGS, lambda value: isinstance(value, bool), "true or false"),
        (_DTYPES, _is_dtype, "the name of a type of floats, such as float32"),
        (("architectures",), _is_names, "a list of the names of classes"),
        (("model_type",), lambda value: isinstance(value, str), "text"),
    )
    for names, fits, rule in rules:
        for name in names:
            if config.get(name) is not None and not fits(config[name]):
                yield name, rule


def _is_size(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_size, value))
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e30


def _is_dtype(value: Any) -> bool:
    if isinstance(value, dict):  # one for each part of the network
        return all(map(_is_dtype, value.values()))
    if not isinstance(value, str):
        return False
    found = getattr(torch, value.removeprefix("torch."), None)
    return value == "auto" or (isinstance(found, torch.dtype) and found.is_floating_point)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def reason_of(error: BaseException) -> str:
    """What a library's error says, on one line; its class where it says nothing."""
    text = re.sub(r"\s+", " ", str(error)).strip()
    return shown(text or type(error).__name__, most=300)
