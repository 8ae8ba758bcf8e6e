"""Identity of a run of the Python interface: everything that changes its result."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from torch import nn

from ws_learner.config import Recipe, WeightSparseConfig, as_recorded, identity_settings
from ws_learner.core import (
    MESSAGES_FILE,
    PROGRESS_FILE,
    AnyPath,
    ComputeDevice,
    RunDir,
    UserError,
    ValueDigest,
    as_path,
    forward_digest,
    identity_hash,
    keep_messages,
    log_progress,
    plan_phases,
    policy_path,
    say,
    sha256_of,
    state_digest,
)
from ws_learner.data import DataSplits, content_digest
from ws_learner.report import write_html, write_report
from ws_learner.training.evaluation import Loss, Metric

__all__ = [
    "build_run_identity",
    "config_identity",
    "default_settings",
    "owned_run",
    "progress_of",
]

_MARKS = {"identity.json", ".lock", "defaults.yaml", MESSAGES_FILE, PROGRESS_FILE}
_FILES = ("ws_ratios", "ws_rollouts", "ws_policy", "ws_from_policy")


def build_run_identity(
    model: nn.Module,
    data: DataSplits,
    *,
    loss: Loss,
    metric: Metric,
    recipe: Recipe,
    compute: ComputeDevice,
    seed: int,
    teacher: nn.Module | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Everything that changes a run's result, as JSON values.

    Networks, loss and metric count by what they compute (`ValueDigest`), data by their digest and
    by what is in memory, or a sample (`content_digest`). Devices, processes and paths do not count;
    the precision does.

    Args:
        model: The network that the run starts from.
        data: The splits.
        loss: (outputs, targets) -> scalar.
        metric: (outputs, targets) -> (B,).
        recipe: The training.
        compute: Its precision counts.
        seed: Of everything random.
        teacher: If it is not `model`.
        **more: Other settings, as JSON values.
    """
    return {
        "model": _network(model),
        "teacher": None if teacher is None else _network(teacher),
        "data": _data(data),
        "loss": _function(loss, "loss"),
        "metric": _function(metric, "metric"),
        "recipe": recipe.identity(),
        "seed": seed,
        "precision": "bf16" if compute.bf16 else "fp32",
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",  # bytecode depends on it
        **more,
    }


def config_identity(config: WeightSparseConfig) -> dict[str, Any]:
    """The settings that change the result; files count by their content.

    Raises:
        UserError: A file cannot be read.
    """
    kept = identity_settings(dataclasses.asdict(config))
    del kept["ws_save_path"]
    for name in _FILES:
        if kept[name] is not None and not isinstance(kept[name], dict):
            kept[name] = _content(policy_path(Path(kept[name])), name)
    return kept


def progress_of(run: RunDir) -> AbstractContextManager[None]:
    """Write `progress.jsonl` inside this context, unless the run has finished already."""
    if run.finished:
        return nullcontext()
    return log_progress(run.path, finished=lambda: run.finished)


def default_settings(*made: Any) -> dict[str, Any]:
    """The default of every setting of these dataclasses, as plain values."""
    found = {name: value for one in made for name, value in dataclasses.asdict(type(one)()).items()}
    plain: dict[str, Any] = json.loads(json.dumps(found, default=str))
    return plain


@contextmanager
def owned_run(
    run_dir: AnyPath | None,
    stem: str,
    *,
    identity: Callable[[], Mapping[str, Any]],
    claims: bool,
    phases: Sequence[str] = ("training", "report"),
) -> Iterator[RunDir]:
    """Lock a run's directory and check that it was made with the same identity.

    A run that has finished gets its `report.md`.

    Args:
        run_dir: The directory; by default runs/`stem`-<hash of the identity>.
        stem: What the directory is called but for the hash.
        identity: Makes the identity, if it is needed.
        claims: False leaves lock, check, report and `progress.jsonl` to the caller.
        phases: Of the run, see `plan_phases`.

    Raises:
        UserError: The directory is locked, or was made with other settings.
    """
    if not claims and run_dir is not None:
        with plan_phases(phases):
            yield RunDir(as_path(run_dir, name="run_dir"))
        return
    asked = identity()
    run = RunDir(Path(run_dir or Path("runs") / f"{stem}-{identity_hash(asked)}"))
    if "config" in asked:
        recorded = run.record().get("config", asked["config"])
        asked = {**asked, "config": as_recorded(asked["config"], recorded)}
    fresh = not run.path.exists()
    with run.locked(named=run_dir is not None):
        run.claim(None, asked)
        say(f"run directory: {run.path}{' (finished)' if run.finished else ''}")
        try:
            kept = nullcontext() if run.finished else keep_messages(run.path)
            with plan_phases(phases), progress_of(run), kept:
                yield run
        except UserError:
            if fresh and {path.name for path in run.path.iterdir()} <= _MARKS:
                shutil.rmtree(run.path)  # refused before anything was made
            raise
        if run.finished and not (run.path / "report.md").exists():
            write_report(run.path)
        if run.finished and not (run.path / "report.html").exists():
            write_html(run.path, run.path / "report.html")


def _network(model: nn.Module) -> dict[str, str]:
    return {
        "class": type(model).__qualname__,
        "weights": state_digest(model)[:16],
        "forward": forward_digest(model),
    }


def _data(data: DataSplits) -> dict[str, Any]:
    sizes = {name: len(getattr(data, name)) for name in ("train", "search", "select", "test")}
    about = {"digest": data.digest, "classes": data.num_classes, "shape": list(data.input_shape)}
    about |= {"padding": data.pad_id}
    if data.measured_on != "test":
        about |= {"measured_on": data.measured_on}
    return about | {"sizes": sizes, "content": content_digest(data)}


def _function(function: Callable[..., Any], which: str) -> dict[str, str]:
    digest = ValueDigest()
    found = digest.of(function)[:16]
    if digest.opaque:
        say(
            f"run directory: objects of {', '.join(sorted(digest.opaque))} in the {which} count "
            "by their type only; give another `run_dir` if one of them changes"
        )
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return {"name": name, "code": found}


def _content(path: Path, name: str) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise UserError(f"`{name}` {path}: cannot be read ({error.strerror})") from error
