"""Every dataclass with a closed choice refuses other values, and settings refuse wrong types."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from torch import nn

import agents
import envs
import experiments
import ws_learner
from agents import DDPGConfig
from tests.support.every_module import every_module
from ws_learner.config import ClusterConfig, Recipe, RolloutConfig, WeightSparseConfig
from ws_learner.core import UserError, choose_device
from ws_learner.pruning import (
    GradualConfig,
    MdgfConfig,
    MovementConfig,
    Sensitivity,
    SrSteConfig,
    drop_unfitting,
    parse_pattern,
    prune_weights_with_magnitude,
)


def literal(hint: Any) -> bool:
    return get_origin(hint) is Literal or any(map(literal, get_args(hint)))


def choices() -> list[tuple[type, str]]:
    found = []
    for module in every_module(ws_learner, agents, envs, experiments):
        for kind in vars(module).values():
            if (
                isinstance(kind, type)
                and dataclasses.is_dataclass(kind)
                and kind.__module__ == module.__name__
                and not inspect.isabstract(kind)
            ):
                found += [(kind, field.name) for field in dataclasses.fields(kind)]
    return [(kind, name) for kind, name in found if literal(hints(kind).get(name))]


def hints(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind)
    except NameError:  # a name for type checkers only
        return {}


def stand_in(hint: Any) -> Any:
    """A value of about the right type, for a field without a default."""
    plain: dict[Any, Any] = {int: 1, float: 0.5, str: "x", bool: True}
    if get_origin(hint) is Literal:
        return get_args(hint)[0]
    return plain.get(hint, () if get_origin(hint) is tuple else object())


CHOICES = choices()


def test_the_walk_finds_what_there_is() -> None:
    names = {f"{kind.__qualname__}.{name}" for kind, name in CHOICES}
    assert {"Recipe.optimizer", "WeightSparseConfig.ws_scope", "Options.task"} <= names
    assert {"OpPruning.reg_type", "GradualConfig.pool", "Spec.dot", "ActionMap.scale"} <= names


@pytest.mark.parametrize(
    ("kind", "name"), CHOICES, ids=[f"{k.__module__}.{k.__qualname__}.{n}" for k, n in CHOICES]
)
def test_a_choice_that_is_none_is_refused(kind: type, name: str) -> None:
    needed = {
        field.name: stand_in(hints(kind)[field.name])
        for field in dataclasses.fields(kind)
        if field.init
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    }
    for wrong in ("no-such-choice", True, ("a",)):
        with pytest.raises(ValueError, match=f"`{name}` .*[Aa]llowed"):
            kind(**needed | {name: wrong})


MADE: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "optimizer": (Recipe, {"nb_epochs": 1, "optimizer": "adamW"}),
    "lrn_schedule": (Recipe, {"nb_epochs": 1, "lrn_schedule": "cosin"}),
    "ws_scope": (WeightSparseConfig, {"ws_scope": "Global"}),
    "ws_method": (WeightSparseConfig, {"ws_method": "gradul"}),
    "criterion": (GradualConfig, {"criterion": "magnitud"}),
    "ramp": (GradualConfig, {"ramp": "polynomia"}),
    "rg_solver": (RolloutConfig, {"rg_solver": "closed_form"}),
}


@pytest.mark.parametrize("name", MADE)
def test_the_nearest_choice_is_named(name: str) -> None:
    kind, values = MADE[name]
    nearest = {"optimizer": "adamw", "lrn_schedule": "cosine", "ws_scope": "global"}
    nearest |= {"ws_method": "gradual", "criterion": "magnitude", "ramp": "polynomial"}
    nearest |= {"rg_solver": "closed-form"}
    with pytest.raises(
        UserError, match=rf"`{name}` {values[name]}: .*did you mean {nearest[name]}"
    ):
        kind(**values)


SETTINGS: list[tuple[type, dict[str, Any]]] = [
    (Recipe, {"nb_epochs": 1}),
    (WeightSparseConfig, {}),
    (RolloutConfig, {}),
    (ClusterConfig, {"workers": 1}),
    (DDPGConfig, {}),
    (GradualConfig, {}),
    (MovementConfig, {}),
    (SrSteConfig, {}),
    (MdgfConfig, {}),
]


@pytest.mark.parametrize(("kind", "needed"), SETTINGS, ids=[kind.__name__ for kind, _ in SETTINGS])
def test_wrong_types_are_refused(kind: type, needed: dict[str, Any]) -> None:
    wrong: dict[Any, tuple[Any, ...]] = {
        int: ("3", True, 2.5, None, [1]),
        float: ("0.9", True, None, [0.9]),
        bool: (1, "yes", None),
        str: (None, 3, True),
        tuple[str, ...]: ("fc", None, (1,), 3),
        tuple[float, ...]: ("0.5", None, ("0.5",), 3),
    }
    checked = 0
    for field in dataclasses.fields(kind):
        for value in wrong.get(hints(kind)[field.name], ()):
            checked += 1
            with pytest.raises(UserError, match=rf"`{field.name}` .*must be"):
                kind(**needed | {field.name: value})
    assert checked > 5


def test_what_fits_is_taken() -> None:
    import numpy as np

    recipe = Recipe(nb_epochs=np.int64(2), lrn_rate=np.float32(0.5), milestones=[0.5])  # type: ignore[arg-type]
    assert recipe.total_steps(256) == 4
    config = WeightSparseConfig(ws_prune_ratio=1, ws_exclude=["fc"], ws_save_path="x.pt")  # type: ignore[arg-type]
    assert config.ws_save_path == Path("x.pt")


WEIGHT = torch.arange(16.0).reshape(4, 4)


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: choose_device("fp16"), "`precision` fp16: did you mean bf16"),
        (
            lambda: prune_weights_with_magnitude([WEIGHT.clone()], ratio=0.5, pool="avg"),
            "`pool` avg: Allowed: max, mean, sum",
        ),
        (lambda: parse_pattern("4x1").pooled(WEIGHT, pool="avg"), "`pool` avg"),
        (lambda: parse_pattern("2:4").mask(WEIGHT, 8, pool="avg"), "`pool` avg"),
        (lambda: parse_pattern("n:4").mask(WEIGHT, 8, pool="avg"), "`pool` avg"),
        (lambda: parse_pattern("unstructured").mask(WEIGHT, 8, pool="avg"), "`pool` avg"),
        (lambda: parse_pattern("channelx1").pooled(WEIGHT, pool="avg"), "`pool` avg"),
        (lambda: Sensitivity({}, of="product "), "`of` product : did you mean product"),
        (
            lambda: drop_unfitting(
                nn.Linear(4, 4), ["weight"], pattern=parse_pattern("3x1"), remainder="Error"
            ),
            "`remainder` Error: did you mean error",
        ),
    ],
    ids=map(str, range(9)),
)
def test_functions_refuse_other_choices_too(call: Callable[[], Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        call()


def options() -> list[type]:
    named = (getattr(module, "Options", None) for module in every_module(experiments))
    return sorted({kind for kind in named if isinstance(kind, type)}, key=lambda k: k.__module__)


@pytest.mark.parametrize("kind", options(), ids=lambda kind: kind.__module__)
def test_options_of_experiments_refuse_wrong_types(kind: type) -> None:
    for field in dataclasses.fields(kind):
        texts = str(field.type).startswith("tuple[str")  # a list of texts is one, too
        for wrong in (object(), [object()] if texts else ["a"]):
            with pytest.raises(UserError, match=f"`{field.name}` "):
                kind(**{field.name: wrong})
