"""The policy of a search in a file: agent, scored profiles and curves of one network."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents import Observed
from envs import FloatArray, LayerRow
from ws_learner.core import (
    AnyPath,
    UserError,
    as_path,
    load_state,
    parse_json,
    policy_path,
    read_metadata,
    save_model,
    sealed,
    shown,
    unsealed,
)
from ws_learner.search.policy_schema import check_plain, check_shapes, read_layer

__all__ = ["SavedPolicy", "read_policy", "write_policy"]

FORMAT = 1
_SEEN = ("point", "executed", "value", "slopes")
_REMEDY = "give the folder of a run that searched with protocol optimal, or its policy.safetensors"


@dataclass(frozen=True, kw_only=True, eq=False)
class SavedPolicy:
    """What a search has learned about a network of L layers.

    Attributes:
        layers: The layer table.
        network: `state_digest` of the dense network.
        target: Prune ratio of the run.
        goals: Least and greatest prune ratio that the actor was trained for.
        targets: All of them.
        score_power: See `as_scored`.
        by_divergence: Rewards are exp(-divergence).
        rewarded: What the reward measured, in words; empty for the usual one.
        bounds: The settings `ws_ratio_bounds`, `ws_ratio_min`, `ws_ratio_max`, and those with
            ratios of single layers that were set.
        pattern: Spelling of the pattern.
        curve_ratios: (K,) ratios of the error curves.
        curves: (L, K) error curves.
        own_densities: (J,) densities of the own divergences; None if unknown.
        own: (L, J) own divergences.
        seen: The scored profiles, oldest first.
        actor: The actor's weights by name.
        unit: What targets are shares of: `params`, or the unit of a budget.
    """

    layers: tuple[LayerRow, ...]
    network: str
    target: float
    goals: tuple[float, float]
    targets: tuple[float, ...]
    score_power: float
    by_divergence: bool
    rewarded: str
    bounds: dict[str, Any]
    pattern: str
    curve_ratios: FloatArray
    curves: FloatArray
    own_densities: FloatArray | None
    own: FloatArray | None
    seen: tuple[Observed, ...]
    actor: dict[str, Tensor]
    unit: str = "params"

    def knows(self, target: float) -> bool:
        """Whether the actor was trained for an overall prune ratio."""
        low, high = self.goals
        return low - 1e-9 <= target <= high + 1e-9


_ARRAYS = ("curve_ratios", "curves", "own_densities", "own")
_PLAIN = tuple(
    field.name
    for field in dataclasses.fields(SavedPolicy)
    if field.name not in (*_ARRAYS, "layers", "seen", "actor")
)


def _inputs() -> list[str]:
    from agents import INPUTS  # loads stable-baselines3

    return list(INPUTS)


def write_policy(path: Path, policy: SavedPolicy) -> None:
    """Write a policy as safetensors, with everything that is no array as JSON in its header.

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """
    arrays = {name: getattr(policy, name) for name in _ARRAYS}
    rows, count = policy.seen, len(policy.layers)
    arrays |= {f"seen.{part}": np.array([getattr(one, part) for one in rows]) for part in _SEEN}
    if not rows:
        arrays |= {f"seen.{part}": np.empty((0, count)) for part in _SEEN if part != "value"}
    tensors = {name: torch.from_numpy(a.copy()) for name, a in arrays.items() if a is not None}
    tensors |= {f"actor.{name}": value for name, value in policy.actor.items()}
    facts = {name: getattr(policy, name) for name in _PLAIN}
    if facts["unit"] == SavedPolicy.unit:
        del facts["unit"]  # as earlier versions wrote it
    facts |= {"format": FORMAT, "inputs": _inputs(), "digest": _digest(tensors)}
    facts |= {"layers": [dataclasses.asdict(row) for row in policy.layers]}
    save_model(path, tensors, {"policy": json.dumps(sealed(facts), sort_keys=True)})


def read_policy(given: AnyPath, *, setting: str = "ws_policy") -> SavedPolicy:
    """Read a policy from a run directory or a file.

    Args:
        given: The directory or file.
        setting: Name of the argument, for messages; may be empty.

    Raises:
        UserError: There is none, it is damaged, or it is another version's.
    """
    given = as_path(given, name="given")
    path = policy_path(given)
    where = f"`{setting}` {path}" if setting else str(path)
    if not path.is_file():
        raise UserError(f"{where}: no such file; {_REMEDY}")
    try:
        tensors, header = load_state(path), read_metadata(path)
    except UserError as error:
        raise UserError(f"{where}: damaged, or no policy ({error}); {_REMEDY}") from error
    if "policy" not in header:
        raise UserError(f"{where}: holds no policy; {_REMEDY}")
    remedy = f"{_REMEDY}, or search again"
    whole = parse_json(header["policy"], where=where, remedy=remedy)
    try:
        facts = whole
        if facts["format"] != FORMAT or facts["inputs"] != _inputs():
            raise UserError(
                f"{where}: was written by another version (format {facts['format']}, this one "
                f"reads {FORMAT} with its own inputs of the agent); search again"
            )
        facts = unsealed(whole, where, remedy)
        if facts["digest"] != _digest(tensors):
            raise ValueError("its tensors are not those that were written")
        return _built(facts, tensors)
    except (UserError, MemoryError):
        raise
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise UserError(f"{where}: damaged ({shown(str(error), most=160)}); {remedy}") from error


def _built(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> SavedPolicy:
    plain = {name: ({"unit": SavedPolicy.unit} | dict(facts))[name] for name in _PLAIN}
    check_plain(plain)
    low, high = plain["goals"]
    plain |= {"goals": (low, high), "targets": tuple(plain["targets"])}
    in_weights = plain["unit"] == SavedPolicy.unit
    layers = tuple(read_layer(row, in_weights=in_weights) for row in facts["layers"])
    arrays: dict[str, Any] = {
        name: tensors[name].numpy() if name in tensors else None for name in _ARRAYS
    }
    columns = [tensors[f"seen.{part}"].numpy() for part in _SEEN]
    seen = tuple(
        Observed(point=point, executed=executed, value=float(value), slopes=slopes)
        for point, executed, value, slopes in zip(*columns, strict=True)
    )
    check_shapes(arrays, columns, layers=len(layers))
    prefix = "actor."
    actor = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    return SavedPolicy(layers=layers, seen=seen, actor=actor, **plain, **arrays)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
