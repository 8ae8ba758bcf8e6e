"""The parser of a verb's arguments: errors on one line, with the nearest name. Free of torch."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from experiments.cli.flag_aliases import ARGUMENTS, readable_name
from ws_learner.core import shown, suggest, warn

__all__ = ["VerbParser", "plain_reason"]

_NAMED = re.compile(r"(?P<first>(?:^|(?<=\n))\s*)?`(?P<name>[A-Za-z]\w*)`(?P<gap> ?)")
_SPELT = re.compile(r"(?<![\w-])--(ws_\w+)")
_PLACES = ("file", "folder", "path", "run", "run_dir", "runs")
"""Arguments of the library that stand without a flag in a verb."""

_MEANT = {
    **dict.fromkeys(("done", "complete", "completed", "ended"), "finished"),
    **dict.fromkeys(("crashed", "error"), "failed"),
    **dict.fromkeys(("active", "going"), "running"),
    **dict.fromkeys(("interrupted", "paused"), "stopped"),
}
"""Other words for states of a run."""

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "read_share": "a share",
    "as_path": "a path",
    "Path": "a path",
}


class VerbParser(argparse.ArgumentParser):
    """Argument parser that refuses as the rest of the command line does, with exit code 2.

    Args:
        example: A command that works, for those who left an argument out.
        known: As of `argparse.ArgumentParser`.
    """

    def __init__(self, *, example: str = "", **known: Any) -> None:
        super().__init__(**known)
        self._example = example

    def spell(self, text: str) -> str:
        """A message of the library for this verb: names become flags only if it has these flags.

        Of an argument without a flag the value alone stays; other settings keep readable names.
        """
        flags = {name[2:] for one in self._actions for name in one.option_strings}

        def flag(name: str) -> str | None:
            setting = ARGUMENTS.get(name, name)
            known = (name, setting, readable_name(setting), readable_name(f"ws_{setting}"))
            return next((f"--{one}" for one in known if one in flags), None)

        def spelt(found: re.Match[str]) -> str:
            first, name, gap = found["first"], found["name"], found["gap"]
            if (typed := flag(name)) is not None:
                return f"{first or ''}{typed}{gap}"
            if first is not None and gap and name in _PLACES:
                return first
            return f"{first or ''}{readable_name(name)}{gap}"

        text = _NAMED.sub(spelt, text)
        return _SPELT.sub(lambda m: flag(m[1]) or readable_name(m[1]), text)

    def error(self, message: str) -> NoReturn:
        """Print what is wrong on one line and exit with 2."""
        reason = plain_reason(self, message)
        if self._example and reason.startswith("needs "):
            reason = f"{self.prog}: {reason}, as in `{self._example}`"
        warn(f"error: {reason}; -h explains" if ";" not in reason else f"error: {reason}")
        sys.exit(2)


def plain_reason(parser: argparse.ArgumentParser, message: str) -> str:
    """What argparse says, in the words of the other errors.

    Args:
        parser: It knows the flags and their choices.
        message: Its own message.
    """
    if found := re.match(r"the following arguments are required: (.*)", message):
        names = (one if one.startswith("-") else one.upper() for one in found[1].split(", "))
        return f"needs {' and '.join(names)}"
    if found := re.match(r"unrecognized arguments: (\S+)", message):
        return _stray(parser, found[1])
    found = re.match(r"argument (?P<names>[^:]+): (?P<reason>.*)", message, re.DOTALL)
    if found is None:
        return message
    typed, reason = found["names"].split("/")[-1], found["reason"]
    if choice := re.match(r"invalid choice: (?:'(.*?)'|(\S+)) \(", reason):
        value = choice[1] if choice[1] is not None else choice[2]
        return f"{typed} {shown(value)}: no such choice; {_near(value, _choices(parser, typed))}"
    if wrong := re.match(r"invalid (\w+) value: '(.*)'", reason):
        return f"{typed} {shown(wrong[2])}: must be {_KINDS.get(wrong[1], wrong[1])}"
    if extra := re.match(r"ignored explicit argument '(.*)'", reason):
        return f"{typed}={shown(extra[1])}: takes no value"
    return f"{typed}: needs a value" if reason.startswith("expected") else f"{typed}: {reason}"


def _near(value: str, allowed: Sequence[str]) -> str:
    meant = _MEANT.get(value, value)
    return suggest(meant if meant in allowed else value, allowed)


def _choices(parser: argparse.ArgumentParser, name: str) -> Sequence[str]:
    for action in parser._actions:  # argparse has no other way to ask
        if name in action.option_strings or name in (action.dest, action.metavar):
            return [str(one) for one in action.choices or ()]
    return []


def _stray(parser: argparse.ArgumentParser, word: str) -> str:
    if not word.startswith("-"):
        return f"{shown(word)}: is one argument too many; -h explains"
    flags = [name for action in parser._actions for name in action.option_strings]
    return f"{shown(word)}: no such flag; {suggest(word, [f for f in flags if f[:2] == '--'])}"
