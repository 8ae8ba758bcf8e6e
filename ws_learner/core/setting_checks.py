"""Values of a settings class checked against its annotations. Free of torch."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import inspect
import numbers
import os
import sys
import types
import typing
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from ws_learner.core.errors import UserError, complain, suggest
from ws_learner.core.paths import as_path
from ws_learner.core.percentages import share_hint
from ws_learner.core.shown_values import shown, shown_repr

__all__ = ["check_choice", "check_settings", "setting_problems"]


def check_choice(value: Any, hint: Any, *, name: str) -> None:
    """Refuse an argument that is not among the choices of a `Literal`.

    Raises:
        UserError: The message has the choices and the nearest one.
    """
    wrong = _wrong(value, hint)
    if wrong is not None:
        raise UserError(f"`{name}` {shown(value)}: {wrong}")


def check_settings(settings: Any) -> None:
    """Refuse values that the fields of a dataclass do not allow; for its `__post_init__`.

    Paths that are given as text become `Path`, and numbers of another kind, such as NumPy's, plain
    ones.

    Raises:
        UserError: A line per field, see `setting_problems`.
    """
    complain(setting_problems(settings))
    hints = _hints(cast(Hashable, type(settings)))
    for field in (field for field in dataclasses.fields(settings) if field.init):
        value = getattr(settings, field.name)
        if isinstance(value, str | os.PathLike) and _takes_path(hints.get(field.name)):
            object.__setattr__(settings, field.name, as_path(value, name=field.name))
        elif (plain := _plain(value)) is not value:
            object.__setattr__(settings, field.name, plain)


def _plain(value: Any) -> Any:
    """Plain numbers for those of another kind, in tuples, lists and dicts, too."""
    if isinstance(value, bool | int | float) and type(value) in (bool, int, float):
        return value
    if isinstance(value, numbers.Integral):
        return value if isinstance(value, enum.Enum) else int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if type(value) in (tuple, list):
        parts = [_plain(part) for part in value]
        same = all(new is old for new, old in zip(parts, value, strict=True))
        return value if same else type(value)(parts)
    if type(value) is dict:
        plain = {key: _plain(part) for key, part in value.items()}
        return value if all(plain[key] is value[key] for key in value) else plain
    return bool(value) if type(value).__name__ == "bool" else value


def _takes_path(hint: Any) -> bool:
    """Whether a hint is `Path`, or `Path | None`; where text is allowed, too, it stays text."""
    parts = get_args(hint) if _is_union(hint) else (hint,)
    return Path in parts and str not in parts


def setting_problems(settings: Any) -> Iterator[str]:
    """A line for each field of a dataclass whose value its annotation does not allow.

    Checked are choices (`Literal`, or `Annotated` with a registry), numbers, texts, booleans,
    paths (or their text), tuples (or lists) of these, and None where it is not allowed. A boolean
    is no number, a text is no tuple, and 3.0 is no whole number. Other types only refuse None.
    """
    hints = _hints(cast(Hashable, type(settings)))
    for field in (field for field in dataclasses.fields(settings) if field.init):
        hint = hints.get(field.name, Any)
        value = getattr(settings, field.name)
        wrong = _wrong(value, hint)
        if wrong is not None:
            plain = isinstance(value, str) and _choices(hint)
            said = shown(value) if plain else shown_repr(value)
            percent = isinstance(value, str) and "number" in wrong and value.endswith("%")
            hint = share_hint(value) if percent else ""
            yield f"`{field.name}` {said}: {wrong}{hint}"


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    """The annotations; those with names that only type checkers see are left out."""
    with contextlib.suppress(NameError):
        return typing.get_type_hints(kind, include_extras=True)
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        names = vars(sys.modules[base.__module__])
        for name, hint in inspect.get_annotations(base).items():
            with contextlib.suppress(NameError):
                found[name] = eval(hint, names) if isinstance(hint, str) else hint
    return found


def _choices(hint: Any) -> list[str]:
    """The names that a hint allows, if it is a closed choice."""
    if get_origin(hint) is Literal:
        return [str(choice) for choice in get_args(hint)]
    if get_origin(hint) is Annotated:
        for extra in get_args(hint)[1:]:
            if isinstance(extra, Mapping) and not getattr(extra, "spelled", False):
                return list(extra)
        return _choices(get_args(hint)[0])
    if _is_union(hint):
        return [name for part in get_args(hint) for name in _choices(part)]
    return []


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def _wrong(value: Any, hint: Any) -> str | None:
    """Why a value is not allowed; None if it is."""
    if hint is Any or hint is object:
        return None
    if _is_union(hint):
        reasons = [_wrong(value, part) for part in get_args(hint)]
        if None in reasons:
            return None
        if value is None or not _choices(hint):
            return " or ".join(dict.fromkeys(filter(None, reasons))).replace(" or must be", " or")
        return suggest(shown(value), _choices(hint))
    if get_origin(hint) is Annotated:
        names = _choices(hint)
        if not isinstance(value, str) and get_args(hint)[0] is str:
            return "must be a name" + (f"; {suggest(shown(value), names)}" if names else "")
        if not names:
            return _wrong(value, get_args(hint)[0])
        return None if value in names else f"no such choice; {suggest(shown(value), names)}"
    if get_origin(hint) is Literal:
        same = (_equal(value, choice) for choice in get_args(hint))
        return None if any(same) else suggest(shown(value), _choices(hint))
    if get_origin(hint) is tuple or hint is tuple:
        return _wrong_tuple(value, get_args(hint))
    return _wrong_plain(value, hint)


def _equal(value: Any, choice: Any) -> bool:
    kinds = (str, numbers.Number)
    return (
        isinstance(value, kinds)
        and isinstance(value, bool) == isinstance(choice, bool)
        and bool(value == choice)
    )


def _wrong_tuple(value: Any, parts: tuple[Any, ...]) -> str | None:
    if not isinstance(value, tuple | list):
        return "must be a tuple, such as ('a',) for one entry"
    if not parts:
        return None
    if len(parts) == 2 and parts[1] is Ellipsis:
        parts = (parts[0],) * len(value)
    if len(parts) != len(value):
        return f"must be a tuple of {len(parts)}"
    reasons = (_wrong(one, part) for one, part in zip(value, parts, strict=True))
    return next((f"each entry {reason}" for reason in reasons if reason is not None), None)


def _wrong_plain(value: Any, hint: Any) -> str | None:
    boolean = isinstance(value, bool)
    if hint is type(None):
        return None if value is None else "must be None"
    if hint is bool:
        fits = boolean or type(value).__name__ == "bool"  # NumPy's
        return None if fits else "must be True or False"
    if hint is int:
        whole = isinstance(value, numbers.Integral) and not boolean
        return None if whole else "must be a whole number"
    if hint is float:
        return None if isinstance(value, numbers.Real) and not boolean else "must be a number"
    if hint is str:
        return None if isinstance(value, str) else "must be a text"
    if hint is Path:
        fits = isinstance(value, str | os.PathLike) and value != ""
        return None if fits else "must be a path"
    return "must not be None" if value is None else None
