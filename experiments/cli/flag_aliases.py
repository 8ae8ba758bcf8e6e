"""Spellings of settings: readable aliases, PocketFlow's names, flags in messages. Free of torch."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from ws_learner.core import UserError

__all__ = [
    "ALIASES",
    "SpeltError",
    "canonical_settings",
    "canonical_words",
    "readable_name",
    "spell_message",
]

ALIASES: dict[str, str] = {
    "prune_ratio": "ws_prune_ratio",
    "protocol": "ws_prune_ratio_prtl",
    "num_rollouts": "ws_nb_rlouts",
    "from_rollouts": "ws_rollouts",
    "budget": "ws_budget",
    "dtype": "ws_dtype",
    "latency_batch": "ws_latency_batch",
    "latency_threads": "ws_latency_threads",
    "goals": "ws_goals",
    "policy": "ws_policy",
    "from_policy": "ws_from_policy",
    "patience": "ws_patience",
    "search_time": "ws_search_time",
    "method": "ws_method",
    "pattern": "ws_pattern",
    "criterion": "ws_criterion",
    "location": "ws_location",
    "ratios": "ws_ratios",
    "max_ratios": "ws_max_ratios",
    "min_ratios": "ws_min_ratios",
    "fixed_ratios": "ws_fixed_ratios",
    "keep_zeros": "ws_keep_zeros",
    "distill": "enbl_dst",
}
"""Readable flag or config key -> the setting's name. Both are accepted, everywhere."""

READABLE = {name: alias for alias, name in ALIASES.items()}

ARGUMENTS: dict[str, str] = {
    "ClusterConfig.workers": "n",
    "DistillationLoss.temperature": "tempr_dst",
    "DistillationLoss.weight": "loss_w_dst",
    "GroupLassoConfig.alpha": "group_lasso_alpha",
    "MdgfConfig.beta": "mdgf_beta",
    "MdgfConfig.zero_at": "mdgf_zero_at",
    "MovementConfig.score_lr": "movement_score_lr",
    "MovementConfig.start": "movement_start",
    "MovementConfig.steps": "movement_steps",
    "SdgfConfig.stages": "sdgf_stages",
    "SrSteConfig.weight": "srste_lambda",
    "include": "ws_include",
    "ramp": "ws_schedule",
    **{name: name for name in ("data_dir", "gpus_per_worker", "longest", "overlap", "storage")},
}
"""Arguments of the library whose flag has another name, or is not a field of the settings."""

_ARGUMENT = re.compile(r"`([A-Za-z]\w*(?:\.\w+)?)`")
_FLAG = re.compile(r"(?<![\w-])--(\w+)")


class SpeltError(UserError):
    """An error whose message has the spellings of the command line and its config file already."""


def readable_name(name: str) -> str:
    """The readable alias of a setting, or its name."""
    return READABLE.get(name, name)


def canonical_settings(
    settings: Mapping[str, Any], *, of: str, own: Collection[str] = ()
) -> dict[str, Any]:
    """Settings under their names, whichever spelling a file uses.

    Args:
        settings: As in the file.
        of: Stands before a name in errors.
        own: Options of the experiment; these are not taken for aliases.

    Raises:
        UserError: A setting is given in both spellings, with different values.
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        name = key if key in own else ALIASES.get(str(key), key)
        if name in found and found[name] != value:
            raise UserError(
                f"{of}{READABLE[name]} and {name} are one setting, given as "
                f"{settings[READABLE[name]]} and {settings[name]}; keep one"
            )
        found[name] = value
    return found


def canonical_words(words: Sequence[str], *, own: Collection[str] = ()) -> list[str]:
    """A command line with every alias replaced by the setting's name.

    Args:
        words: As typed.
        own: Options of the experiment; these are not taken for aliases.

    Raises:
        UserError: A setting is given in both spellings, with different values.
    """
    aliases = {alias: name for alias, name in ALIASES.items() if alias not in own}
    both = {*aliases, *aliases.values()}
    given: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {}
    for flag, value in _given(words):
        spelling = flag.removeprefix("no_") if flag.removeprefix("no_") in both else flag
        shown = " ".join([f"--{flag}", *value])
        meant = ("false",) if spelling != flag else tuple(map(_meant, value)) or ("true",)
        given.setdefault(aliases.get(spelling, spelling), {})[spelling] = shown, meant
    for name, spellings in given.items():
        if len({meant for _, meant in spellings.values()}) > 1:
            shown = " and ".join(shown for shown, _ in spellings.values())
            raise UserError(f"{shown}: are one setting, {name}; keep one")
    return [_canonical(word, aliases) for word in words]


def _meant(value: str) -> str:
    """A value in one form: 0.5 for 0.50."""
    try:
        return str(float(value))
    except ValueError:
        return value


def _given(words: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Flags of a command line as typed, with their values."""
    flag, values = "", list[str]()
    for word in [*words, "--"]:
        if word.startswith("--"):
            if flag:
                yield flag, tuple(values)
            flag, sign, value = word.removeprefix("--").partition("=")
            flag, values = flag.replace("-", "_"), [value] if sign else []
        else:
            values.append(word)


def _canonical(word: str, aliases: Mapping[str, str]) -> str:
    flag, sign, value = word.partition("=")
    name = flag.removeprefix("--").replace("-", "_")
    if not flag.startswith("--"):
        return word
    if name.startswith("no_") and name[3:] in aliases:
        return f"--no_{aliases[name[3:]]}{sign}{value}"
    return f"--{aliases[name]}{sign}{value}" if name in aliases else word


def spell_message(words: Sequence[str], *, own: Collection[str] = ()) -> Callable[[str], str]:
    """Make the function that turns a message of the library into one for this command line.

    The library names its arguments in backticks. On a command line they are flags, in the spelling
    that was typed; a setting that was not typed has its readable alias, unless PocketFlow's
    spellings were typed for others.

    Args:
        words: The command line as typed.
        own: Options of the experiment; a setting is not shown by the same name.
    """
    typed = {flag for flag, _ in _given(words)}
    pocketflow = any(name in READABLE or name.startswith("ws_") for name in typed)
    pocketflow = pocketflow and not typed & set(ALIASES)

    def flag(name: str) -> str:
        if name == "n":
            return "-n"
        alias = READABLE.get(name, name)
        if alias in own or name in typed or (alias not in typed and pocketflow):
            return f"--{name}"
        return f"--{alias}"

    def argument(match: re.Match[str]) -> str:
        name = match.group(1)
        setting = ARGUMENTS.get(name, name)
        for found in (setting, f"ws_{setting}"):
            if found in _settings() or found in ARGUMENTS.values():
                return flag(found)
        return f"--{name}" if name in typed else match.group()

    def style(text: str) -> str:
        text = _ARGUMENT.sub(argument, text)
        return _FLAG.sub(lambda m: flag(m.group(1)) if m.group(1) in READABLE else m.group(), text)

    return style


@cache
def _settings() -> frozenset[str]:
    from agents import DDPGConfig
    from experiments.cli.command import RunFlags
    from ws_learner.config import WeightSparseConfig

    owners = (RunFlags, WeightSparseConfig, DDPGConfig)
    return frozenset(item.name for owner in owners for item in dataclasses.fields(owner))
