"""Reads NNCF's compression JSON with movement sparsity. Free of torch.

Comments and trailing commas are allowed, as NNCF allows them. Differences, all deliberate: masks
are unstructured unless `enable_structured_masking` says otherwise (as the manual has it; NNCF's
code had it on), both spellings of the first threshold are known, and every mistake of a file is
told at once.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ws_learner.compat.values import read_config_text
from ws_learner.core import AnyPath, UserError, as_path, parse_json, shown, shown_repr, suggest

if TYPE_CHECKING:
    from ws_learner.compat.nncf.schema import NncfConf

__all__ = ["is_nncf", "parse_nncf", "read_nncf"]

_ALGORITHMS = ("movement_sparsity", "knowledge_distillation", "quantization")
# What is not closed counts to the end, so that a text of many quotes is read once.
_TOKENS = re.compile(
    r'"(?:\\.|[^"\\])*(?:"|\\?\Z)|//[^\n]*|/\*.*?(?:\*/|\Z)|,(?=\s*[\]}])', re.DOTALL
)


def is_nncf(content: str) -> bool:
    """Whether a config file is of this dialect: JSON with `compression` at the top."""
    return content.lstrip().startswith(("{", "//", "/*")) and '"compression"' in content


def read_nncf(path: AnyPath) -> NncfConf:
    """Read a file; see `parse_nncf`.

    Raises:
        UserError: The file cannot be read, or its content is refused.
    """
    path = as_path(path)
    return parse_nncf(read_config_text(path), path=path)


def parse_nncf(content: str, *, path: AnyPath | None = None) -> NncfConf:
    """Understand a compression config.

    Raises:
        UserError: It is no JSON, or settings are missing, unknown, of a wrong type or out of
            range; one line for each, with the path of its field.
    """
    path = None if path is None else as_path(path)
    from pydantic import ValidationError

    from ws_learner.compat.nncf.schema import NncfConf

    name = f"`config` {path}" if path else "compression config"
    loaded = _load(content, name)
    try:
        conf = NncfConf.model_validate(loaded)
    except ValidationError as error:
        found = [_worded(one, loaded) for one in error.errors()]
        lines = "".join(f"\n  {line}" for line in dict.fromkeys(found))
        raise UserError(f"{name}:{lines}") from None
    return conf.model_copy(update={"path": path})


def _load(content: str, name: str) -> Any:
    plain = _TOKENS.sub(lambda m: m[0] if m[0].startswith('"') else "", content)
    hint = "leave its line `...(other algorithms)` out" if "..." in plain else "correct it"
    loaded = parse_json(plain, where=name, remedy=hint)
    if not isinstance(loaded, dict):
        raise UserError(f"{name}: must be a table with the key compression")
    return loaded


def _worded(error: Any, loaded: Any) -> str:
    """Format one error as a line: path of the field, error, allowed values."""
    place = [part for part in error["loc"] if part not in _ALGORITHMS]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    field = field.removeprefix(".") or "top level"
    kind, given = error["type"], error.get("input")
    last = str(place[-1]) if place else ""
    if kind == "missing":
        return f"{field}: Missing `{last}`, which is required in config"
    if kind == "extra_forbidden":
        return f"{field}: unknown or not supported here; {_near(last, place[:-1], loaded)}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        named = given.get("algorithm") if isinstance(given, dict) else given
        near = suggest(shown(named), _ALGORITHMS)
        return f"{field}: algorithm {shown_repr(named)} is not supported; {near}"
    if kind == "value_error":
        return f"{field}: {error['ctx']['error']}"
    return f"{field}: {shown_repr(given)} is wrong: {error['msg'][0].lower()}{error['msg'][1:]}"


def _near(name: str, place: list[Any], loaded: Any) -> str:
    """The allowed keys at the place of an unknown one."""
    from ws_learner.compat.nncf import schema
    from ws_learner.compat.nncf.movement_schema import MovementSection, Params, Structure

    at = loaded
    for part in place:
        if isinstance(at, list) or (isinstance(at, dict) and part in at):
            at = at[part]  # a single algorithm stands for a list of one
    kinds = {
        "params": schema.RangeParams if "range" in place else Params,
        "sparse_structure_by_scopes": Structure,
        "range": schema.RangeInit,
        "initializer": schema.Initializer,
        "weights": schema.Quantizers,
        "activations": schema.Quantizers,
        "input_info": schema.Input,
    }
    words = [part for part in place if isinstance(part, str)]
    model: Any = schema.NncfConf
    if words and words[-1] in kinds:
        model = kinds[words[-1]]
    elif words:
        chosen = at.get("algorithm") if isinstance(at, dict) else None
        model = {
            "knowledge_distillation": schema.NncfDistillation,
            "quantization": schema.Quantization,
        }.get(str(chosen), MovementSection)
    return suggest(name, [key for key in model.model_fields if key != "path"])
