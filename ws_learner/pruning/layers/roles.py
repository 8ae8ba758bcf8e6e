"""Layer roles, derived from the usual names of modules, and the filter of layers by role."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from envs import LayerRow
from ws_learner.core import UserError
from ws_learner.pruning.layers.attention_names import (
    ATTENTIONS,
    FUSED,
    KEYS,
    OUTPUTS,
    QUERIES,
    TORCH_PARAMETERS,
    VALUES,
)
from ws_learner.pruning.layers.weight_kinds import (
    KINDS,
    is_conv1d_of_transformers,
    kinds_of,
)

__all__ = ["filter_by_role", "weight_roles"]

_OUTPUT_LEAVES = {path.rpartition(".")[2] for path in OUTPUTS} | {"c_proj"}
_FEED_FORWARD = (
    *("fc1", "fc2", "fc3", "linear1", "linear2", "lin1", "lin2", "w1", "w2", "w3"),
    *("gate_proj", "up_proj", "down_proj", "c_fc", "fc1_g", "fc1_x"),
)
_BLOCKS = ("mlp", "ffn", "feed_forward", "intermediate", "output")
_HEADS = ("head", "heads", "head_dist", "classifier", "fc", "cls", "lm_head")
_SIDE_NETS = ("cpb_mlp", "continuous_position_bias_mlp", "rel_pos_mlp")
_EMBEDDINGS = ("patch_embed", "patch_embeddings", "embeddings", "embed")

Roles = tuple[str, ...]


def weight_roles(model: nn.Module) -> dict[str, Roles]:
    """Role of each Linear, convolution, attention and expert weight, by parameter name.

    A weight that stacks several projections has a role for each equal slice of its outputs:
    `("q", "k", "v")`. All others have one: `ff`, `q`, `k`, `v`, `o`, `conv`, `embed`, `head` or
    `other`. In a network without any attention every Linear is `ff`, or `head` by its name.
    Known are the names of timm, Hugging Face (ViT, Swin, BERT and relatives) and torch.
    """
    kinds = tuple(KINDS)
    modules = [
        (name, m)
        for name, m in model.named_modules()
        if isinstance(m, kinds) or is_conv1d_of_transformers(m)
    ]
    around = {name.rpartition(".")[0] for name, m in modules if _projection(name.split("."))}
    own = {name for name, m in model.named_modules() if isinstance(m, nn.MultiheadAttention)}
    around |= own  # torch's attention holds its projections as parameters, not as modules
    found: dict[str, Roles] = {}
    for name in own:
        found |= {
            f"{name}.{kind}".lstrip("."): roles
            for kind, roles in TORCH_PARAMETERS.items()
            if getattr(model.get_submodule(name), kind) is not None
        }
    for name, module in modules:
        parts = name.split(".")
        linear = isinstance(module, nn.Linear) or is_conv1d_of_transformers(module)
        roles = _linear(parts) if linear else _conv(parts)
        if (
            roles == ("other",)
            and name.rpartition(".")[0] in around
            and parts[-1] in _OUTPUT_LEAVES
        ):
            roles = ("o",)
        if not around and roles in (("other",), ("o",)):
            roles = ("ff",)
        found[f"{name}.weight" if name else "weight"] = roles
    for name, module in model.named_modules():
        for attribute, kind, _ in kinds_of(name, module):
            if kind == "experts":
                found[f"{name}.{attribute}".lstrip(".")] = ("ff",)
    return found


def _projection(parts: list[str]) -> Roles:
    """Roles of a projection that makes queries, keys or values."""
    for names, roles in (
        (FUSED, ("q", "k", "v")),
        (QUERIES, ("q",)),
        (KEYS, ("k",)),
        (VALUES, ("v",)),
    ):
        if parts[-1] in names:
            return roles
    return ()


def _linear(parts: list[str]) -> Roles:
    if set(parts) & set(_SIDE_NETS):
        return ("other",)
    if roles := _projection(parts):
        return roles
    above = parts[:-1]
    if set(above) & set(ATTENTIONS):
        return ("o",) if parts[-1] in _OUTPUT_LEAVES else ("other",)
    if parts[-1] in _FEED_FORWARD or set(parts) & set(_BLOCKS):
        return ("ff",)
    return ("head",) if set(parts) & set(_HEADS) else ("other",)


def _conv(parts: list[str]) -> Roles:
    if set(parts) & set(_EMBEDDINGS):
        return ("embed",)
    if set(parts) & {"mlp", "ffn"} and parts[-1] in _FEED_FORWARD:
        return ("ff",)
    return ("conv",)


_STACKED = {"qkv": {"q", "k", "v"}}


def filter_by_role(layers: Sequence[LayerRow], roles: Sequence[str]) -> tuple[LayerRow, ...]:
    """The layer table with all layers exempt that have none of these roles; they stay dense.

    Args:
        layers: The layer table.
        roles: As `read_roles` gives them. A weight that stacks q, k and v is pruned where all three
            are named. None at all allows every layer.

    Raises:
        UserError: No layer has one of the roles.
    """
    if not roles:
        return tuple(layers)
    there = {row.role: _STACKED.get(row.role, {row.role}) for row in layers}
    for role in roles:
        if not any(role in own for own in there.values()):
            raise UserError(
                f"`location` {role}: no layer has this role; the roles here are {', '.join(there)}"
            )
    for role, own in there.items():
        if own & set(roles) and not own <= set(roles):
            raise UserError(
                f"`location` {','.join(roles)}: the weights of role {role} hold q, k and v in "
                "one; name all three, or an N:M pattern, which can prune a part"
            )
    return tuple(
        replace(row, exempt=row.exempt or not there[row.role] <= set(roles)) for row in layers
    )
