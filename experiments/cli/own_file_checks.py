"""Whether a module is an experiment file: `Options` and `build`. Free of torch."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from pathlib import Path
from types import ModuleType
from typing import Any

from ws_learner.core import UserError, say

__all__ = ["EXPECTED", "check_own_file", "kind_in_words"]

EXPECTED = (
    "an experiment file holds a dataclass `Options` and `build(options, *, seed)`, which returns "
    "an Experiment (experiments/experiment.py)"
)


def check_own_file(module: ModuleType, name: str) -> None:
    """Refuse a module that is no experiment file.

    Args:
        module: What was imported.
        name: Stands before the messages, such as `experiment mine.py`.

    Raises:
        UserError: The message says what was found and what is expected.
    """
    missing = [part for part in ("Options", "build") if not hasattr(module, part)]
    if missing:
        own = [
            key
            for key, value in vars(module).items()
            if getattr(value, "__module__", "") == module.__name__ and not key.startswith("_")
        ]
        found = f" (it has {', '.join(own)})" if own else ""
        raise UserError(
            f"{name}: defines no {' and no '.join(missing)}{found}; "
            "see experiments/experiment.py for what an experiment file holds"
        )
    options: Any = module.Options
    if not (isinstance(options, type) and dataclasses.is_dataclass(options)):
        raise UserError(f"{name}: Options is {kind_in_words(options)}, not a dataclass; {EXPECTED}")
    try:
        typing.get_type_hints(options)
    except Exception as error:  # annotations are code, so they raise anything
        raise UserError(
            f"{name}: the types of Options cannot be understood: {type(error).__name__}: {error}"
        ) from error
    for key, value in vars(options).items():
        named = key.islower() and not key.startswith("_")
        if named and key not in options.__dataclass_fields__ and _is_plain(value):
            say(
                f"{name}: Options.{key} has no type, so it is no flag; write "
                f"{key}: {type(value).__name__} = {value!r}"
            )
    for item in dataclasses.fields(options):
        default = item.default
        if item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        if default is not dataclasses.MISSING and not _is_plain(default):
            raise UserError(
                f"{name}: Options.{item.name} is {kind_in_words(default)}; a flag holds numbers, "
                "texts, paths, True or False, None, or a tuple of these"
            )
    _check_build(module.build, name)


def _check_build(build: Any, name: str) -> None:
    if not callable(build):
        raise UserError(f"{name}: build is {kind_in_words(build)}, not a function; {EXPECTED}")
    try:
        signature = inspect.signature(build)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(None, seed=0)
    except TypeError as error:
        raise UserError(
            f"{name}: build{signature} cannot be called as build(options, seed=0): {error}"
        ) from error


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | Path)


def kind_in_words(value: Any) -> str:
    """A value's kind, in a word or two: what a user wrote in the place of something else."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if inspect.isroutine(value):
        return f"the function {value.__name__}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    if value is None:
        return "None"
    article = "an" if type(value).__name__[0] in "aeiouAEIOU" else "a"
    return f"{article} {type(value).__name__}"
