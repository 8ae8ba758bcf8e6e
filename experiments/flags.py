"""The command line: flags, config files and presets become frozen dataclasses. Free of torch."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from agents.ddpg_config import DDPGConfig
from experiments.config_file import read_config_file
from experiments.find import experiment_names, find_experiment
from ws_learner.cluster.config import ClusterConfig
from ws_learner.config import POCKETFLOW, WeightSparseConfig
from ws_learner.dialects.lpot_conf import LpotConf
from ws_learner.errors import UserError, suggest
from ws_learner.nm_flags import NM_METHODS
from ws_learner.recipe import LrnSchedule, OptimizerName
from ws_learner.sparsity.spelling import read_spelling

if TYPE_CHECKING:
    from ws_learner.dialects.nncf_conf import NncfConf

__all__ = ["Command", "RunFlags", "parse"]

DEFAULT_EXPERIMENT = "resnet_at_cifar10"


@dataclass(frozen=True, kw_only=True)
class RunFlags:
    """The run itself."""

    learner: Literal["weight-sparse", "full-prec"] = "weight-sparse"
    """weight-sparse prunes; full-prec trains the dense network."""
    exec_mode: Literal["train", "eval"] = "train"
    """eval opens the result in --run_dir again and reports its test accuracy."""
    run_dir: Path | None = None
    """Where the run lives; by default runs/<experiment>-<method>-<hash of the settings> in the
    current folder."""
    config: Path | None = None
    """YAML file with any of these settings, such as another run's config.yaml; or a pruning
    config of LPOT / Neural Compressor 1.x (docs/neural_compressor.md), NNCF's JSON with
    movement_sparsity (docs/movement.md), or a timm config with N:M keys (docs/nm_sparsity.md)."""
    preset: Literal["ours", "pocketflow"] = "ours"
    """pocketflow: PocketFlow's own default settings."""
    dense_checkpoint: Path | None = None
    """Dense weights to start from (safetensors or a plain PyTorch state_dict); for pattern_lock
    sparse ones."""
    dst_checkpoint: Path | None = None
    """Weights of the teacher under --enbl_dst, instead of those that training starts from."""
    nb_epochs: float | None = None
    """Passes over the training split in the training asked for (under weight-sparse the sparse
    network's, not that of a dense network trained first), instead of the recipe's."""
    batch_size: int | None = None
    """Examples per step, instead of the recipe's."""
    lrn_rate: float | None = None
    """Peak learning rate, instead of the recipe's."""
    optimizer: OptimizerName | None = None
    """Update rule, instead of the recipe's."""
    weight_decay: float | None = None
    """Weight decay, instead of the recipe's."""
    momentum: float | None = None
    """Momentum of sgd and rmsprop, instead of the recipe's."""
    lrn_schedule: LrnSchedule | None = None
    """Shape of the learning rate, instead of the recipe's."""
    lrn_rate_min: float | None = None
    """Rate at the end of a cosine, instead of the recipe's."""
    warmup_epochs: float | None = None
    """Epochs over which the rate rises, instead of the recipe's."""
    clip_norm: float | None = None
    """Largest norm of all gradients together, instead of the recipe's."""
    label_smoothing: float | None = None
    """Of the cross-entropy, instead of the recipe's."""
    mixup: float | None = None
    """Alpha of mixup, instead of the recipe's; 0 mixes nothing."""
    seed: int = 0
    """Fixes everything random."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of training; auto chooses by the processor's features, and what it chose is part
    of the run's settings and name."""
    workers: int | None = None
    """Processes that score roll-outs; by default one per core, 0 for none beside this one. The
    result does not depend on it."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A parsed command line.

    Attributes:
        experiment: Module of the experiment file.
        name: The experiment as the user named it, resolved.
        run: Flags of the run.
        ws: Settings of the weight-sparse learner.
        ddpg: Settings of the agent.
        options: The experiment's own `Options`.
        lpot: What an LPOT file says, if `--config` names one.
        nncf: What an NNCF file says, if `--config` names one.
        cluster: Ray workers, if it runs on Ray; no setting, for the result is the same.
        runs: Folder of the run directories.
    """

    experiment: ModuleType
    name: str
    run: RunFlags
    ws: WeightSparseConfig
    ddpg: DDPGConfig
    options: Any
    lpot: LpotConf | None = None
    nncf: NncfConf | None = None
    cluster: ClusterConfig | None = None
    runs: Path = Path("runs")

    def settings(self) -> dict[str, Any]:
        """Every setting under its flag's name, as plain YAML values."""
        flat: dict[str, Any] = {"experiment": self.name}
        for part in (self.run, self.ws, self.ddpg, self.options):
            for item in dataclasses.fields(part):
                flat[item.name] = _plain(getattr(part, item.name))
        del flat["config"]
        return flat


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def parse(argv: Sequence[str]) -> Command:
    """Read a command line: `[EXPERIMENT] [flags]`.

    Raises:
        UserError: Anything that cannot be understood, in one line.
        SystemExit: After `-h`.
    """
    words = list(argv)
    named = words.pop(0) if words and not words[0].startswith("-") else None
    file = read_config_file(_value_of(words, "config"))
    name = named or file.settings.get("experiment", DEFAULT_EXPERIMENT)
    module = find_experiment(name)
    given = file.settings_for(module)
    given.pop("experiment", None)
    if _value_of(words, "preset") == "pocketflow" or given.get("preset") == "pocketflow":
        given = POCKETFLOW | given
    if _value_of(words, "ws_ratios") and not _value_of(words, "ws_prune_ratio_prtl"):
        words += ["--ws_prune_ratio_prtl", "given"]
    words += _implied(words, given)
    run, ws, ddpg, options = _parse_flags(module, words, given)
    if run.workers is not None and run.workers < 0:
        raise UserError(f"--workers {run.workers}: must be 0 (no processes of their own) or more")
    parts: dict[str, Any] = {"run": run, "ws": ws, "ddpg": ddpg, "options": options}
    return Command(experiment=module, name=name, lpot=file.lpot, nncf=file.nncf, **parts)


def _implied(words: Sequence[str], given: Mapping[str, Any]) -> list[str]:
    """Flags that follow from a pattern or method which sets the ratios by itself."""

    def asked(flag: str) -> Any:
        value = _value_of(words, flag)
        return given.get(flag) if value is None else value

    pattern, implied = asked("ws_pattern"), []
    if not pattern and asked("ws_method") in NM_METHODS:
        pattern = "2:4"
        implied += ["--ws_pattern", pattern]
    spelling = read_spelling(str(pattern)) if pattern else None
    by_itself = spelling is not None and spelling.sets_ratios
    locked = asked("ws_method") == "pattern_lock"
    if (by_itself or locked) and not asked("ws_prune_ratio_prtl"):
        implied += ["--ws_prune_ratio_prtl", "given"]
    fixed = spelling.fixed_ratio if spelling is not None and not asked("ws_location") else None
    if fixed is not None and not locked and asked("ws_prune_ratio") is None:
        implied += ["--ws_prune_ratio", repr(fixed)]
    return implied


def _value_of(words: Sequence[str], flag: str) -> str | None:
    """The value of `--flag value` or `--flag=value`, before the real parsing."""
    for index, word in enumerate(words):
        if word == f"--{flag}":
            return words[index + 1] if index + 1 < len(words) else ""
        if word.startswith(f"--{flag}="):
            return word.split("=", 1)[1]
    return None


def _parse_flags(
    module: ModuleType, words: Sequence[str], given: Mapping[str, Any]
) -> tuple[RunFlags, WeightSparseConfig, DDPGConfig, Any]:
    import tyro

    parts = {
        "run": RunFlags,
        "pruning": WeightSparseConfig,
        "agent": DDPGConfig,
        "experiment": module.Options,
    }
    defaults = _defaults(parts, given)
    schema = dataclasses.make_dataclass(
        "Settings",
        [(name, _unprefixed(kind), field(default=defaults[name])) for name, kind in parts.items()],
        frozen=True,
    )
    names = {item.name for kind in parts.values() for item in dataclasses.fields(kind)}
    _refuse_unknown(words, names)
    caught = io.StringIO()
    try:
        with contextlib.redirect_stderr(caught):
            parsed: Any = tyro.cli(
                schema,
                prog="./run_local.sh [EXPERIMENT]",
                description=_describe(module),
                args=list(words),
                use_underscores=True,
            )
    except SystemExit as stop:
        if stop.code:
            raise UserError(_one_line(caught.getvalue())) from None
        sys.stderr.write(caught.getvalue())
        raise
    return parsed.run, parsed.pruning, parsed.agent, parsed.experiment


def _unprefixed(kind: type) -> Any:
    """The type, marked so that its flags bear the plain names of its fields."""
    import tyro

    return Annotated[kind, tyro.conf.OmitArgPrefixes]


def _describe(module: ModuleType) -> str:
    doc = next(iter((module.__doc__ or "").strip().splitlines()), "")
    names = ", ".join(experiment_names())
    return (
        f"{doc} EXPERIMENT is one of {names} (default {DEFAULT_EXPERIMENT}: about ten minutes on "
        "two cores), or a file of your own. The same command goes on where it stopped."
    )


def _defaults(parts: Mapping[str, type], given: Mapping[str, Any]) -> dict[str, Any]:
    """Instances with the config file's values, checked for names and types."""
    from pydantic import TypeAdapter, ValidationError

    owners = {item.name: key for key, kind in parts.items() for item in dataclasses.fields(kind)}
    for name in given:
        if name not in owners:
            raise UserError(f"config file: unknown setting {name!r}; {suggest(name, owners)}")
    made: dict[str, Any] = {}
    for key, kind in parts.items():
        values = {name: value for name, value in given.items() if owners[name] == key}
        try:
            made[key] = TypeAdapter(kind).validate_python(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise UserError(
                f"config file: {where} {first['input']!r}: {first['msg']}"
                if where
                else str(first["ctx"]["error"])
            ) from None
    return made


def _refuse_unknown(words: Sequence[str], names: set[str]) -> None:
    allowed = names | {f"no_{name}" for name in names} | {"help"}
    for word in words:
        flag = word.removeprefix("--").split("=", 1)[0].replace("-", "_")
        if word.startswith("--") and flag not in allowed:
            near = difflib.get_close_matches(flag, names, n=1)
            hint = f"did you mean --{near[0]}?" if near else "-h lists them all"
            raise UserError(f"--{flag}: no such flag; {hint}")


def _one_line(box: str) -> str:
    """The first section of tyro's message, without its frame and with the nearest choice."""
    sections: list[list[str]] = [[]]
    for line in box.splitlines():
        text = line.strip("│| ")
        if not text.strip("─-"):
            sections.append([])
        elif not text.startswith(("╭", "╰")):
            sections[-1].append(text)
    # Where the frame cannot be drawn, the title has a section of its own.
    lines = sections[0 if box.startswith("╭") else 1]
    message = re.sub(r"^Error parsing (?:[a-z]+: )?", "", " ".join(lines))
    choice = re.match(r"invalid choice '(.*)' for argument '(--\w+)'.*\((.*)\)", message)
    if not choice:
        return message
    value, flag, allowed = choice.groups()
    names = re.findall(r"'([^']*)'", allowed)
    return f"{flag} {value}: no such choice; {suggest(value, names)}"
