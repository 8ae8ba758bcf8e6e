"""Layers named by people: exact names, shell patterns and regular expressions."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from ws_learner.core.errors import UserError
from ws_learner.core.expressions import Expression, compile_expression
from ws_learner.core.shown_values import shown_repr

__all__ = ["by_layer", "closest_names", "name_fits", "refuse_bad_patterns"]

Value = TypeVar("Value")

_REGEX = "re:"
_CLOSE = 3
_WRAPPERS = ("module.", "_orig_mod.", "model.")  # DistributedDataParallel, compile, Lightning


def name_fits(name: str, pattern: str) -> bool:
    """Whether a name is what a pattern says.

    Args:
        name: Of a parameter or a module.
        pattern: The name itself, a shell pattern (`*`, `?`, `[ab]`; `*` crosses dots), or `re:`
            and a regular expression for the whole name.

    Raises:
        UserError: The regular expression is none, or takes too long.
    """
    if pattern.startswith(_REGEX):
        return _expression(pattern).fullmatch(name)
    return name == pattern or fnmatchcase(name, pattern)


def refuse_bad_patterns(patterns: Iterable[str], *, setting: str) -> None:
    """Refuse regular expressions that are none.

    Raises:
        UserError: The line names the setting and the pattern.
    """
    for pattern in patterns:
        if pattern.startswith(_REGEX):
            try:
                _expression(pattern)
            except UserError as error:
                raise UserError(f"`{setting}` {error}") from None


def _expression(pattern: str) -> Expression:
    return compile_expression(pattern.removeprefix(_REGEX), said=shown_repr(pattern))


def by_layer(
    given: Mapping[str, Value], names: Sequence[str], *, where: Mapping[str, str] | str
) -> dict[str, tuple[str, Value]]:
    """Resolve what is given for names and patterns to layers.

    A key means a parameter (`conv1.weight`), its module (`conv1`), or all that a pattern fits. An
    exact name goes before a pattern, and of several patterns the one with the most literal
    characters. Prefixes of wrappers (`module.`, `_orig_mod.`, `model.`) may be there or not.

    Args:
        given: Name or pattern -> value.
        names: Parameter names of the layers.
        where: Stands before a key in messages, for all or for each.

    Returns:
        Parameter name -> the key that decides, and its value; layers of no key are left out.

    Raises:
        UserError: A key fits no layer; the line has the closest names.
    """
    exact: dict[str, tuple[str, Value]] = {}
    loose: dict[str, tuple[int, str, Value]] = {}
    for key, value in given.items():
        prefix = where if isinstance(where, str) else where[key]
        same = [name for name in names if key in (name, _module(name))]
        same = same or _wrapped(key, names)
        fits = same or [
            name for name in names if name_fits(name, key) or name_fits(_module(name), key)
        ]
        if not fits:
            raise UserError(f"{prefix} {key!r}: fits no layer; {closest_names(key, names)}")
        for name in fits:
            if same and not (name in exact and exact[name][0] == name):
                exact[name] = key, value
            elif not same:
                loose[name] = max(
                    loose.get(name, (-1, key, value)),
                    (_literals(key), key, value),
                    key=lambda entry: entry[:2],
                )
    chosen = {name: (key, value) for name, (_, key, value) in loose.items()}
    return chosen | exact


def closest_names(key: str, names: Sequence[str]) -> str:
    """Name the layers that are most like a name, to follow a complaint."""
    known = {_module(name) or name: None for name in names} | dict.fromkeys(names)
    wanted = key.removeprefix(_REGEX)
    near = difflib.get_close_matches(wanted, known, n=_CLOSE, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    shown = ", ".join(names[:_CLOSE])
    more = f" and {len(names) - _CLOSE} more" if len(names) > _CLOSE else ""
    return f"the layers are {shown}{more}" if names else "there is no layer"


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _wrapped(key: str, names: Sequence[str]) -> list[str]:
    """Layers of which the key has more, or fewer, prefixes of wrappers."""
    bare = _bare(key)
    return [name for name in names if bare in (_bare(name), _bare(_module(name)))] if bare else []


def _bare(name: str) -> str:
    while (found := next((p for p in _WRAPPERS if name.startswith(p)), None)) is not None:
        name = name.removeprefix(found)
    return name


def _literals(pattern: str) -> int:
    if pattern.startswith(_REGEX):
        return len(re.sub(r"\\.|\W", "", pattern.removeprefix(_REGEX)))
    return len(re.sub(r"\[[^]]*\]|[*?]", "", pattern))
