"""Parsed command lines, as frozen dataclasses. Free of torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from agents import DDPGConfig
from ws_learner.compat import LpotConf
from ws_learner.config import ClusterConfig, LrnSchedule, OptimizerName, WeightSparseConfig
from ws_learner.core import (
    OutputKind,
    check_settings,
    complain,
    plain_number,
    share_hint,
    shown,
    suggest,
)
from ws_learner.report import TRACKERS, label_problems

if TYPE_CHECKING:
    from ws_learner.compat import NncfConf

__all__ = ["NO_SETTINGS", "Command", "RunFlags", "plain_value"]

NO_SETTINGS = ("config", "quiet", "name", "tag", "track")
"""Flags that are kept out of a run's settings and identity."""


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
    name: str | None = None
    """What the run is called in lists and by other commands, such as `ws-learner export NAME`. It
    is no setting: the run, its folder and its result stay the same."""
    tag: tuple[str, ...] = ()
    """Tags of the run, for `ws-learner runs --tag`; may be repeated. No setting either."""
    track: tuple[str, ...] = ()
    """Send parameters, metrics and files to tensorboard or mlflow while the run works."""
    config: Path | None = None
    """YAML file with any of these settings, such as another run's config.yaml; or a pruning
    config of LPOT / Neural Compressor 1.x (docs/neural_compressor.md), NNCF's JSON with
    movement_sparsity (docs/movement.md), or a timm config with N:M keys (docs/nm_sparsity.md)."""
    include: tuple[Path, ...] = ()
    """Folders that an experiment file of your own imports from, besides its own folder or package.
    A folder that is a package is imported by its name. On a cluster they travel with the job."""
    preset: Literal["ours", "pocketflow"] = "ours"
    """pocketflow: PocketFlow's own default settings."""
    dense_checkpoint: Path | None = None
    """Dense weights to start from (safetensors or a plain PyTorch state_dict); for pattern_lock
    sparse ones."""
    dst_checkpoint: Path | None = None
    """Weights of the teacher under --distill, instead of those that training starts from."""
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
    outputs: OutputKind | None = None
    """What the network's outputs mean, where the experiment does not say it and shapes do not tell
    (docs/guide.md): how searches and --distill compare them."""
    seed: int = 0
    """Fixes everything random."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of training; auto chooses by the processor's features, and what it chose is part
    of the run's settings and name."""
    workers: int | None = None
    """Processes that score rollouts; by default one per core, 0 for none beside this one. The
    result does not depend on it."""
    quiet: bool = False
    """Print warnings, errors and one line with the result only; progress.jsonl in the run's folder
    is written as always."""

    def __post_init__(self) -> None:
        check_settings(self)
        complain(self._problems())

    def _problems(self) -> Iterator[str]:
        yield from label_problems(name=self.name, tags=self.tag)
        yield from (
            f"--track {shown(one)}: no such tracker; {suggest(one, TRACKERS)}"
            for one in self.track
            if one not in TRACKERS
        )
        if self.workers is not None and self.workers < 0:
            yield f"--workers {self.workers}: must be 0 (no processes of their own) or more"
        if not 0 <= self.seed < 2**63:
            yield f"--seed {self.seed}: must be 0 or more, below 2^63"
        for name in ("nb_epochs", "batch_size", "lrn_rate", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                yield f"--{name} {plain_number(value)}: must be a number above 0"
        for name in ("weight_decay", "momentum", "lrn_rate_min", "warmup_epochs", "mixup"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                yield f"--{name} {plain_number(value)}: must be 0 or above"
        if self.label_smoothing is not None and not 0 <= self.label_smoothing < 1:
            hint = share_hint(self.label_smoothing)
            said = plain_number(self.label_smoothing)
            yield f"--label_smoothing {said}: must lie in [0, 1){hint}"
        warmup, epochs = self.warmup_epochs or 0.0, self.nb_epochs
        if epochs is not None and warmup >= epochs > 0:
            yield (
                f"--warmup_epochs {plain_number(warmup)}: must be below "
                f"--nb_epochs {plain_number(epochs)}"
            )


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
        given: Names of the settings that the user chose; the others may be adjusted to them.
        adjusted: Adjustments made so far, one line each.
        fitted: Those to the length that an experiment of the project has by itself; they are kept
            for the report, and not printed.
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
    given: frozenset[str] = frozenset()
    adjusted: tuple[str, ...] = ()
    fitted: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """Every setting under its flag's name, as plain YAML values."""
        flat: dict[str, Any] = {"experiment": self.name}
        for part in (self.run, self.ws, self.ddpg, self.options):
            for item in dataclasses.fields(part):
                if part is not self.run or item.name not in NO_SETTINGS:
                    flat[item.name] = plain_value(getattr(part, item.name))
        return flat


def plain_value(value: Any) -> Any:
    """A setting as YAML holds it: paths are text, tuples are lists."""
    if isinstance(value, Path):
        return str(value)
    return [plain_value(one) for one in value] if isinstance(value, tuple) else value
