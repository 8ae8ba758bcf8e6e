"""Build a `Command` from flags, config files and presets. Free of torch."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from agents import DDPGConfig
from experiments.cli.adjust_settings import adjust_settings
from experiments.cli.command import NO_SETTINGS, Command, RunFlags
from experiments.cli.config_file import read_config_file
from experiments.cli.discovery import experiment_names, find_experiment, own_file
from experiments.cli.flag_aliases import ALIASES, SpeltError, canonical_settings, spell_message
from experiments.cli.flag_parser import (
    Flag,
    dataclass_flags,
    parse_arguments,
    peek_flag,
    peek_values,
    read_value,
    refuse_unknown_flags,
)
from experiments.cli.own_errors import describe_own_error
from experiments.cli.own_file import own_folders
from experiments.cli.own_options import option_names, options_from_text
from ws_learner.config import (
    METHODS,
    POCKETFLOW,
    WeightSparseConfig,
    conflicting_settings,
    is_joint,
    parse_pattern_spec,
)
from ws_learner.core import UserError, complain, shown, shown_repr, suggest

__all__ = ["Command", "RunFlags", "parse"]

DEFAULT_EXPERIMENT = "resnet_at_cifar10"
HELP = {"-h": False, "--help": False, "--help_all": True, "--help-all": True}


def parse(argv: Sequence[str], *, prog: str = "./run_local.sh") -> Command:
    """Read a command line: `[EXPERIMENT] [flags]`; the help page calls the command `prog`.

    Raises:
        UserError: Anything that cannot be understood or does not go together, one line each.
        SystemExit: After `-h` and `--help_all`.
    """
    typed = list(argv)
    try:
        return _parse(argv, typed, prog=prog)
    except UserError as error:
        raise SpeltError(spell_message(typed)(str(error))) from error


def _parse(argv: Sequence[str], typed: list[str], *, prog: str) -> Command:
    """Read a command line; spellings of a config file are added to `typed`."""
    words = ["-h" if word == "help" else word for word in argv[:1]] + list(argv[1:])
    named = words.pop(0) if words and not words[0].startswith("-") else None
    file = read_config_file(peek_flag(words, "config"))
    typed += [f"--{name}" for name in file.settings]
    name = str(named or file.settings.get("experiment", DEFAULT_EXPERIMENT))
    include = [Path(one) for one in peek_values(words, "include") or ()]
    if named is None:
        _refuse_files_code(name, config=peek_flag(words, "config"))
    elif own_file(name) is not None and not include:
        _refuse_files_folders(file.settings, config=peek_flag(words, "config"))
    kinds: dict[str, type] = {"run": RunFlags, "ws": WeightSparseConfig, "ddpg": DDPGConfig}
    _refuse_unknown_early(words, name, kinds.values())
    _help_from_text(words, name, kinds, prog=prog)
    module = find_experiment(name, include=include)
    kinds["options"] = module.Options
    flags = {flag.name: flag for kind in kinds.values() for flag in dataclass_flags(kind)}
    for word in words:
        if word in HELP:
            _help(module, flags, everything=HELP[word], prog=prog)
    asked = parse_arguments(words, flags)
    by_file = asked.get("ws_ratios") and asked.get("ws_prune_ratio_prtl", "given") != "given"
    if by_file:
        raise UserError(
            f"--ws_prune_ratio_prtl {asked['ws_prune_ratio_prtl']}: --ws_ratios sets every ratio; "
            "leave one out"
        )
    settings = file.settings_for(module, nb_epochs=asked.get("nb_epochs"))
    written = _typed(settings, flags)
    preset = POCKETFLOW if (written | asked).get("preset") == "pocketflow" else {}
    given = {n: v for n, v in written.items() if v != (preset | _defaults(flags))[n]} | asked
    given |= _implied(written, asked)
    values, adjusted = adjust_settings(_defaults(flags) | preset | written | given, given=given)
    made = _made(kinds, values)
    complain(conflicting_settings(made["ws"], given.keys()))
    return Command(
        experiment=module,
        name=name,
        lpot=file.lpot,
        nncf=file.nncf,
        given=frozenset(given),
        adjusted=adjusted,
        **made,
    )


def _refuse_unknown_early(words: Sequence[str], name: str, kinds: Iterable[type]) -> None:
    """Refuse flags that an experiment file cannot have, before it is imported: it loads torch."""
    path = own_file(name)
    own = None if path is None else option_names(path)
    if own is None or any(word in HELP for word in words):
        return
    flags = {flag.name: flag for kind in kinds for flag in dataclass_flags(kind)}
    refuse_unknown_flags(words, flags, own=own)


def _help_from_text(
    words: Sequence[str], name: str, kinds: Mapping[str, type], *, prog: str
) -> None:
    """Answer `-h` of an experiment file from its text if that says all: an import loads torch."""
    path = own_file(name)
    asked = next((word for word in words if word in HELP), None)
    if path is None or asked is None:
        return
    with options_from_text(path) as module:
        if module is not None:
            every = [*kinds.values(), module.Options]
            flags = {flag.name: flag for kind in every for flag in dataclass_flags(kind)}
            _help(module, flags, everything=HELP[asked], prog=prog)


def _refuse_files_code(name: str, *, config: str | None) -> None:
    """Refuse an experiment file that a config file names: code comes from the command line only."""
    if config is not None and own_file(name) is not None:
        raise UserError(
            f"--config {config}: names the experiment file {shown(name, most=200)}; code is "
            "imported only if the command line names it: give its path as the first word"
        )


def _refuse_files_folders(settings: Mapping[str, Any], *, config: str | None) -> None:
    """Refuse folders of code that a config file names."""
    listed = settings.get("include") or ()
    if listed:
        said = " ".join(map(shown, listed)) if isinstance(listed, list) else shown(listed)
        raise UserError(
            f"--config {config}: names folders to import from, which only the command line may: "
            f"give --include {said}, or take include out of the file"
        )


def _help(module: ModuleType, flags: Mapping[str, Flag], *, everything: bool, prog: str) -> None:
    from experiments.cli.help_page import help_page

    demo = prog.endswith(" demo")
    page = help_page(module, flags, names=experiment_names(), everything=everything, demo=demo)
    if prog != "./run_local.sh":  # installed: there are no scripts
        page = page.replace("./run_local.sh", prog)
        page = page.replace("./run_distributed.sh", "python -m experiments.distributed")
    print(page, end="")
    sys.exit(0)


def _defaults(flags: Mapping[str, Flag]) -> dict[str, Any]:
    return {name: flag.default for name, flag in flags.items()}


def _typed(settings: Mapping[str, Any], flags: Mapping[str, Flag]) -> dict[str, Any]:
    """A config file's values, checked for names and types."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    typed = {key if key in flags else ALIASES.get(str(key), key): str(key) for key in settings}
    for name, value in canonical_settings(
        settings, of="config file: ", own=flags.keys() & ALIASES.keys()
    ).items():
        if name == "experiment":
            continue
        if name not in flags:
            problems.append(
                f"config file: unknown setting {shown_repr(name)}; "
                f"{suggest(str(name), [*flags, *ALIASES])}"
            )
            continue
        try:
            values[name] = read_value(flags[name], value, of="config file: ", name=typed[name])
        except UserError as error:
            problems.append(str(error))
    complain(problems)
    return values


def _implied(written: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """What follows from a file of ratios, or from a pattern or method that sets them by itself.

    Args:
        written: What the config file says.
        asked: What the command line says, which goes before it.
    """
    both, implied = dict(written) | dict(asked), dict[str, Any]()
    pattern = both.get("ws_pattern")
    method = METHODS.get(both.get("ws_method", ""))
    if not pattern and method is not None and method.trains_nm:
        pattern = implied["ws_pattern"] = "2:4"
    joint = pattern and is_joint(pattern)
    spelling = parse_pattern_spec(pattern) if pattern and not joint else None
    by_itself = spelling is not None and spelling.sets_ratios
    locked = method is not None and method.keeps_zeros
    if (by_itself or locked) and "ws_prune_ratio_prtl" not in both:
        implied["ws_prune_ratio_prtl"] = "given"
    if asked.get("ws_ratios") and "ws_prune_ratio_prtl" not in asked:
        implied["ws_prune_ratio_prtl"] = "given"
    fixed = spelling.fixed_ratio if spelling is not None and not both.get("ws_location") else None
    if both.get("ws_budget"):
        return implied
    if fixed is not None and not locked and "ws_prune_ratio" not in both:
        implied["ws_prune_ratio"] = fixed
    return implied


def _made(kinds: Mapping[str, type], values: Mapping[str, Any]) -> dict[str, Any]:
    """Build one instance of each dataclass; report all their errors at once."""
    made: dict[str, Any] = {}
    problems: list[str] = []
    complain([line for key in kinds for line in _lacking(kinds[key], values)])
    for key, kind in kinds.items():
        try:
            chosen = {flag.name: values[flag.name] for flag in dataclass_flags(kind)}
            if kind is RunFlags:
                chosen = {name: chosen[name] for name in chosen.keys() - _hidden(kinds["options"])}
            made[key] = kind(**chosen)
        except ValueError as error:
            problems += [line for line in str(error).splitlines() if not line.endswith("change:")]
        except Exception as error:
            if text := describe_own_error(error, own_folders()):
                raise UserError(f"{kind.__name__} {text}") from error
            raise
    complain(problems)
    return made


def _hidden(options: type) -> set[str]:
    """Flags of no setting that an experiment has as options of its own."""
    return {item.name for item in dataclasses.fields(options)}.intersection(NO_SETTINGS)


def _lacking(kind: type, values: Mapping[str, Any]) -> list[str]:
    """A line for each setting that has no default and was not given, with what it is."""
    missing = [f for f in dataclass_flags(kind) if values[f.name] is dataclasses.MISSING]
    if not missing:
        return []
    from experiments.cli.help_page import flag_help

    return [f"--{f.name}: needed; {flag_help(f)}".rstrip("; ") for f in missing]
