"""What `-h` and `--help_all` print: the settings in groups, from their docstrings."""

from __future__ import annotations

import dataclasses
import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from experiments.cli.flag_aliases import readable_name, spell_message
from experiments.cli.flag_parser import Flag
from experiments.cli.language_flags import (
    LANGUAGE_DEFAULTS_SHOWN,
    LANGUAGE_FLAGS,
    LANGUAGE_PROTOCOLS,
    is_language_model,
)
from ws_learner.config import Registry

__all__ = ["flag_help", "help_page"]

ESSENTIALS = {
    "learner": "prune, or train the dense network",
    "ws_prune_ratio": "share of weights to become zero",
    "ws_budget": "or what it may cost: macs=0.3, bytes=2MB, latency=8ms@onnxruntime, ...",
    "ws_prune_ratio_prtl": "how each layer's ratio is chosen",
    "ws_nb_rlouts": "rollouts, if it is a search",
    "ws_method": "training method",
    "ws_pattern": "what is pruned together: unstructured, 4x1, 2:4, n:4, mha, units, ...",
    "nb_epochs": "length of the sparse training, instead of the recipe's",
    "batch_size": "examples per step, instead of the recipe's",
    "lrn_rate": "peak learning rate, instead of the recipe's",
    "enbl_dst": "distil from the dense network",
    "dense_checkpoint": "dense weights to start from",
    "config": "YAML settings, or LPOT's, NNCF's, timm's file",
    "run_dir": "where the run lives, instead of runs/<experiment>-<method>-<hash>",
    "exec_mode": "eval measures the result in --run_dir again",
    "seed": "fixes everything random",
}
"""The settings that `-h` shows, with its words for them."""

EXPERIMENT, THE_REST = "This experiment", "Gradual pruning"
GROUPS: dict[str, tuple[str, ...]] = {
    "The run": (
        *("name", "tag", "track", "preset", "include", "quiet", "precision", "dst_checkpoint"),
        "ws_save_path",
    ),
    "Training": (
        *("optimizer", "lrn_*", "weight_decay", "momentum", "warmup_epochs", "clip_norm"),
        *("label_smoothing", "mixup", "loss_w_*", "tempr_dst", "dst_*"),
    ),
    "Search: who sets the ratios": (
        *("ws_nb_rlouts*", "ws_rlouts*", "ws_patience", "ws_search_time", "ws_reward*"),
        *("ws_score*", "ws_nb_rescore", "ws_nb_jitters"),
        *("ws_ratio*", "ws_max_ratios", "ws_min_ratios", "ws_fixed_ratios"),
        *("ws_rollouts", "ws_action_scale"),
        *("ws_goals", "ws_policy", "ws_from_policy"),
        *("ws_dtype", "ws_latency_batch", "ws_latency_threads"),
    ),
    "A rollout": ("ws_rg_*", "ws_lrn_rate_*", "ws_nb_*", "ws_batch_size_ft"),
    THE_REST: ("ws_schedule", "ws_iter_ratio*", "ws_mask_update_step"),
    "Patterns, criteria, layers": (
        *("ws_criterion*", "ws_scope", "ws_remainder", "ws_location", "ws_qkv_pattern"),
        *("ws_sparse_dim", "ws_include", "ws_exclude", "ws_exempt", "ws_keep_zeros"),
    ),
    "Methods: group lasso, movement": ("group_lasso*", "movement*"),
    "Methods: N:M training": ("nm_*", "srste_*", "mdgf_*", "sdgf_*"),
    "The RL agent": ("ddpg_*",),
}
"""Which settings stand together; patterns of names, the first that fits."""

EXAMPLES = """\
Examples:
  ./run_local.sh                                              # search, prune, report
  ./run_local.sh --prune_ratio 0.9 --protocol knapsack        # without a search
  ./run_local.sh bert_at_trec --pattern 2:4
  ./run_local.sh my_experiment.py --nb_epochs 1 --num_rollouts 20   # a small run

The same command resumes an interrupted run. Unset options are adjusted to fit the ones you set.
PocketFlow's spellings (--ws_prune_ratio, ...) work, too. See docs/: protocols, patterns, budgets.
"""
LANGUAGE_EXAMPLES = """\
Examples:
  ./run_local.sh smollm_at_sotu --prune_ratio 0.5                       # downloaded once
  ./run_local.sh lm_at_text --model hf:DIR --text 'notes/*.txt' --pattern 2:4
  ./run_local.sh smollm_at_sotu --pattern 2:4 --recover_minutes 60      # and train on
  ws-learner export runs/<one> --to hf                                  # for from_pretrained

The same command resumes an interrupted run.
"""
DEMO_ABOUT = """\
The whole job on printed digits, in a minute and without data of your own: train a small network,
search each layer's prune ratio in 60 rollouts, prune, report."""
DEMO_EXAMPLES = """\
Examples:
  ./run_local.sh                          # nothing to set; ends in a report
  ./run_local.sh --prune_ratio 0.9        # more zeros
  ./run_local.sh --pattern 4x1 --num_rollouts 100
  ./run_local.sh --budget macs=0.3        # what it may cost, instead of a share of zeros
  ws-learner new my_experiment.py         # then your own: ws-learner prune my_experiment.py

The same command resumes an interrupted run. Unset options are adjusted to fit the ones you set.
"""
CLUSTER = """\
On Ray: ./run_distributed.sh takes the same flags and -n=K, --gpus_per_worker, --sweep, --storage,
--dashboard, --no_follow; see ./run_distributed.sh -h.
"""


def help_page(
    module: ModuleType,
    flags: Mapping[str, Flag],
    *,
    names: Sequence[str],
    everything: bool,
    demo: bool = False,
) -> str:
    """The page for an experiment.

    Args:
        module: Its file.
        flags: All settings by name.
        names: Experiments that come with the project.
        everything: All flags with all that is said of them, or the essential ones in a line each.
        demo: The command names the experiment by itself, as `ws-learner demo` does.
    """
    width = min(shutil.get_terminal_size((100, 24)).columns, 100)
    about = (module.__doc__ or "").strip().partition("\n")[0]
    known = f"EXPERIMENT is a file of your own, or one of {', '.join(names)} (the default is "
    known += "resnet_at_cifar10, about five minutes)."
    language = is_language_model(module)
    parts = ["usage: ./run_local.sh [EXPERIMENT] [flags]", textwrap.fill(about, width)]
    parts += [textwrap.fill(known, width), (LANGUAGE_EXAMPLES if language else EXAMPLES).strip()]
    if demo:
        parts = ["usage: ./run_local.sh [flags]", DEMO_ABOUT, DEMO_EXAMPLES.strip()]
    groups = _grouped(module, flags)
    if language:
        return "\n\n".join([*parts, *_language_groups(groups, width, everything=everything)]) + "\n"
    for title in groups if everything else list(groups)[:2]:
        lines = [_entry(flag, width, whole=everything) for flag in groups[title]]
        parts.append("\n".join([f"{title}:", *lines]))
    parts += [] if demo else [CLUSTER.strip()]
    hidden = sum(map(len, groups.values())) - sum(map(len, list(groups.values())[:2]))
    if not everything:
        titles = "; ".join(title.replace(": ", " - ") for title in list(groups)[2:])
        more = f"--help_all lists {hidden} more flags, all with full descriptions: {titles}."
        parts.append(textwrap.fill(more, width))
    return "\n\n".join(parts) + "\n"


def _language_groups(
    groups: Mapping[str, Sequence[Flag]], width: int, *, everything: bool
) -> list[str]:
    """The groups of flags that have an effect on a language model, all of them."""
    own, found = groups[EXPERIMENT], list[str]()
    kept = {
        title: [_as_language(flag) for flag in part if flag in own or flag.name in LANGUAGE_FLAGS]
        for title, part in groups.items()
    }
    for title, part in kept.items():
        lines = [_entry(flag, width, whole=everything) for flag in part]
        found += ["\n".join([f"{title}:", *lines])] if lines else []
    return [*found, "docs/language_models.md says more of each."]


def _as_language(flag: Flag) -> Flag:
    """A flag with the choices and the default that it has for language models."""
    if flag.name == "ws_prune_ratio_prtl":
        kind: Any = Literal[LANGUAGE_PROTOCOLS]
        flag = dataclasses.replace(flag, kind=kind, registry=None)
    return dataclasses.replace(flag, default=LANGUAGE_DEFAULTS_SHOWN.get(flag.name, flag.default))


def _grouped(module: ModuleType, flags: Mapping[str, Flag]) -> dict[str, list[Flag]]:
    """Title -> flags; the essential ones and the experiment's own come first."""
    groups: dict[str, list[Flag]] = {"Essential": [flags[name] for name in ESSENTIALS]}
    groups |= {title: [] for title in (EXPERIMENT, *GROUPS)}
    for name, flag in flags.items():
        fitting = (t for t, allowed in GROUPS.items() if any(fnmatch(name, p) for p in allowed))
        if flag.owner is module.Options:
            groups[EXPERIMENT].append(flag)
        elif name not in ESSENTIALS:
            groups[next(fitting, THE_REST)].append(flag)
    return groups


def flag_help(flag: Flag) -> str:
    """What a setting's docstring says."""
    return _documentation(flag.owner).get(flag.name, "").rstrip(".")


def _entry(flag: Flag, width: int, *, whole: bool) -> str:
    text = _documentation(flag.owner).get(flag.name, "")
    if not whole:
        text = ESSENTIALS.get(flag.name) or re.split(r"(?<=[.;])\s", text)[0].rstrip(".;")
    elif flag.registry is not None:
        text = f"{text} {_choices_help(flag.registry)}".strip()
    shown = _default(flag.default)
    text = f"{text} (default {shown})" if shown else text
    text = f"{text} (needed)" if flag.default is dataclasses.MISSING else text
    alias = readable_name(flag.name)
    text += f" (also --{flag.name})" if whole and alias != flag.name else ""
    head = f"  --{alias} {_metavar(flag)}".rstrip()
    lines = textwrap.wrap(text, width, initial_indent=" " * 30, subsequent_indent=" " * 30)
    if lines and len(head) <= 28:
        lines[0] = head.ljust(30) + lines[0].strip()
        return "\n".join(lines)
    heads = textwrap.wrap(head.strip(), width, initial_indent="  ", subsequent_indent=" " * 8)
    return "\n".join([*heads, *lines])


def _choices_help(registry: Registry[Any]) -> str:
    """What each name of a registry stands for, in one paragraph."""
    spelled = {getattr(entry, "spelling", "") or name: entry for name, entry in registry.items()}
    return "; ".join(f"{name}: {entry.help}" for name, entry in spelled.items()) + "."


def _metavar(flag: Flag) -> str:
    if flag.switch:
        return ""
    if flag.choices:
        return "{" + ", ".join(map(str, flag.choices)) + "}"
    if flag.many:
        return "DIR ..." if flag.name == "include" else "... "
    if flag.name.endswith("_dir"):
        return "DIR"
    return {int: "N", float: "X", Path: "FILE", str: "TEXT"}.get(flag.kind, "VALUE")


def _default(value: Any) -> str:
    if value in (None, dataclasses.MISSING, (), ""):
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _documentation(owner: type) -> dict[str, str]:
    """Field -> what its docstring says, in one paragraph; a subclass adds to its bases."""
    from docstring_parser import parse_from_object

    found: dict[str, str] = {}
    for kind in reversed(owner.__mro__[:-1]):
        for parameter in parse_from_object(kind).params:
            text = " ".join((parameter.description or "").split())
            found[parameter.arg_name] = spell_message([])(text)  # the library names arguments
    return found
