"""Parse command-line arguments into typed settings, with argparse and pydantic."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin

from experiments.cli.flag_aliases import ALIASES, canonical_words
from ws_learner.config import Registry
from ws_learner.core import UserError, complain, read_share, share_hint, shown, suggest

__all__ = [
    "Flag",
    "dataclass_flags",
    "parse_arguments",
    "peek_flag",
    "peek_values",
    "read_value",
    "refuse_unknown_flags",
    "underscored",
]

OF_RAY = ("n", "gpus_per_worker", "sweep", "storage", "dashboard", "no_follow")
"""Flags of ./run_distributed.sh only."""

SHARES = (
    *("ws_prune_ratio", "ws_ratio_min", "ws_ratio_max", "ws_initial_ratio"),
    *("ws_iter_ratio_beg", "ws_iter_ratio_end", "label_smoothing", "mdgf_zero_at"),
)
"""Settings that are shares of 1, which may be typed as percentages: 75% is 0.75."""

REPEATED = ("tag", "track")
"""Flags whose values add up; of others, the last one counts."""


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One setting.

    Attributes:
        name: Of the field and of the flag.
        owner: The dataclass it belongs to.
        kind: Its type, without `None`.
        optional: Whether it may be `None`.
        default: Value if the flag is not given.
        registry: Holds the names it takes.
    """

    name: str
    owner: type
    kind: Any
    optional: bool
    default: Any
    registry: Registry[Any] | None = None

    @property
    def choices(self) -> tuple[Any, ...]:
        """All that is allowed, if it can be counted."""
        if self.registry is not None:
            return () if self.registry.spelled else tuple(self.registry)
        return get_args(self.kind) if get_origin(self.kind) is Literal else ()

    @property
    def many(self) -> bool:
        """Whether it takes several words."""
        return get_origin(self.kind) is tuple

    @property
    def switch(self) -> bool:
        """Whether it is on or off."""
        return self.kind is bool


def dataclass_flags(owner: type) -> list[Flag]:
    """The settings of a dataclass, in its order."""
    hints, found = typing.get_type_hints(owner, include_extras=True), []
    for item in dataclasses.fields(owner):
        hint, registry = hints[item.name], None
        if get_origin(hint) is Annotated:
            hint, registry = get_args(hint)
        parts = get_args(hint) if get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
        kinds = [part for part in parts if part is not type(None)]
        default = item.default
        if item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        found.append(
            Flag(
                name=item.name,
                owner=owner,
                kind=kinds[0] if len(kinds) == 1 else hint,
                optional=len(kinds) < len(parts),
                default=default,
                registry=registry,
            )
        )
    return found


class _Parser(argparse.ArgumentParser):
    """Argument parser with the error format of the command line."""

    def error(self, message: str) -> NoReturn:
        flag, _, reason = message.removeprefix("argument ").partition(": ")
        lacking = reason.startswith("expected")
        raise UserError(f"{flag}: needs a value" if lacking else f"{flag}: {reason}")


def parse_arguments(words: Sequence[str], flags: Mapping[str, Flag]) -> dict[str, Any]:
    """The values of all flags on a command line.

    Raises:
        UserError: Flags that do not exist, values that cannot be read; all of them at once.
    """
    words = canonical_words(
        [underscored(word) for word in words], own=flags.keys() & ALIASES.keys()
    )
    switches = {f"no_{name}" for name, flag in flags.items() if flag.switch}
    _refuse_unknown(words, flags.keys() | switches)
    parser = _Parser(allow_abbrev=False, add_help=False, argument_default=argparse.SUPPRESS)
    for flag in flags.values():
        many = "*" if flag.many else "?" if flag.switch else None
        if flag.name in REPEATED and flag.many:
            parser.add_argument(f"--{flag.name}", nargs="*", action="extend")
            continue
        parser.add_argument(f"--{flag.name}", nargs=many, const="true" if flag.switch else None)
        if flag.switch:
            parser.add_argument(
                f"--no_{flag.name}", dest=flag.name, action="store_const", const="false"
            )
    raw, extra = parser.parse_known_args(words)
    if extra:
        raise UserError(_stray(extra[0]))
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, text in vars(raw).items():
        try:
            values[name] = read_value(flags[name], text)
        except UserError as error:
            problems.append(str(error))
    complain(problems)
    return values


def underscored(word: str) -> str:
    """A flag with underscores for hyphens; its value stays as it is."""
    flag, sign, value = word.partition("=")
    return flag.replace("-", "_").replace("__", "--", 1) + sign + value if _is_flag(word) else word


def _is_flag(word: str) -> bool:
    return word.startswith("--") and len(word) > 2


def _stray(word: str) -> str:
    name = word.lstrip("-").partition("=")[0]
    if word.startswith("-") and name in OF_RAY:
        return f"{word}: is a flag of ./run_distributed.sh"
    if word.startswith("-"):
        return f"{word}: no such flag; -h lists them"
    return f"{word}: belongs to no flag; the experiment comes first, then flags with their values"


def refuse_unknown_flags(
    words: Sequence[str], flags: Mapping[str, Flag], *, own: Collection[str]
) -> None:
    """Refuse flags that do not exist, before an experiment file is imported.

    Args:
        words: As typed.
        flags: The settings of every experiment.
        own: Names of the file's options.

    Raises:
        UserError: There are some, a line each.
    """
    switches = {f"no_{name}" for name, flag in flags.items() if flag.switch}
    known = flags.keys() | set(own)
    words = canonical_words([underscored(word) for word in words], own=known & ALIASES.keys())
    switches |= {f"no_{name}" for name in own}
    _refuse_unknown(words, known | switches)


def _refuse_unknown(words: Sequence[str], names: Collection[str]) -> None:
    allowed = set(names)
    problems = []
    for word in words:
        flag = word.removeprefix("--").partition("=")[0]
        if _is_flag(word) and flag not in allowed and flag not in OF_RAY:
            near = difflib.get_close_matches(flag, [*ALIASES, *names], n=1)
            hint = f"did you mean --{near[0]}?" if near else "--help_all lists them all"
            problems.append(f"--{flag}: no such flag; {hint}")
    complain(problems)


def read_value(flag: Flag, value: Any, *, of: str = "--", name: str = "") -> Any:
    """Convert a word, or a YAML value, to the flag's type.

    Args:
        flag: The setting.
        value: The word or value.
        of: Stands before the name in errors.
        name: The spelling that was typed, if it is not the setting's name.

    Raises:
        UserError: It is none.
    """
    from pydantic import TypeAdapter, ValidationError

    shown_name = of + (name or flag.name)
    if flag.optional and value in (None, "None"):
        return None
    if flag.choices:
        named = {str(choice): choice for choice in flag.choices}
        if str(value) not in named:
            near = suggest(shown(value), named)
            raise UserError(f"{shown_name} {shown(value)}: no such choice; {near}")
        return named[str(value)]
    kinds = {flag.kind, *get_args(flag.kind)}
    values = value if isinstance(value, list) else [value]
    if any(isinstance(one, bool) for one in values) and bool not in kinds and kinds & {int, float}:
        raise UserError(f"{shown_name} {shown(value)}: must be a number, not yes or no")
    if flag.name in SHARES and isinstance(value, str) and value.endswith("%"):
        return _read_percentage(value, name=shown_name)
    try:
        read = TypeAdapter(flag.kind).validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Input should be ")
        said = " ".join(map(shown, value)) if isinstance(value, list) else value
        hint = share_hint(value) if flag.kind is float and str(value).endswith("%") else ""
        raise UserError(f"{shown_name} {shown(said)}: must be {reason}{hint}") from None
    return read.expanduser() if isinstance(read, Path) else read


def _read_percentage(value: str, *, name: str) -> float:
    try:
        share = read_share(value)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UserError(f"{name} {shown(value)}: must be a share from 0 to 1, or from 0% to 100%")
    return share


def peek_flag(words: Sequence[str], name: str) -> str | None:
    """The value of `--name value` or `--name=value`, before it is known which flags there are."""
    found = None  # the last one counts, as with every flag
    for index, word in enumerate(words):
        flag, sign, value = word.partition("=")
        if flag == f"--{name}":
            found = value if sign else (words[index + 1] if index + 1 < len(words) else "")
    return found


def peek_values(words: Sequence[str], name: str) -> list[str] | None:
    """The values of a flag that takes several, the last time it is given; None if it is not."""
    found: list[str] | None = None
    reading = False
    for word in words:
        flag, sign, value = underscored(word).partition("=")
        if flag.startswith("--"):
            reading = flag == f"--{name}"
            found = ([value] if sign else []) if reading else found
        elif reading and found is not None:
            found.append(word)
    return found
