"""Working directory of a job: our packages and the files its command names."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from experiments.cli.discovery import experiment_names
from experiments.cli.flag_parser import underscored
from ws_learner.core import policy_path

__all__ = ["staged"]

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("agents", "envs", "experiments", "ws_learner")
LEFT_OUT = ("__pycache__", "results", "benchmarks", "*.pyc", ".*")
FILES = (
    *("--config", "--sweep", "--ws_ratios", "--ratios", "--ws_rollouts", "--from_rollouts"),
    *("--ws_max_ratios", "--max_ratios", "--ws_min_ratios", "--min_ratios"),
    *("--ws_fixed_ratios", "--fixed_ratios", "--dense_checkpoint", "--dst_checkpoint"),
    *("--ws_policy", "--policy", "--ws_from_policy", "--from_policy"),
)
"""Flags with a file that is sent with the job."""


@contextmanager
def staged(words: Sequence[str]) -> Iterator[tuple[Path, list[str]]]:
    """A temporary folder for Ray's `working_dir`, and the command as it reads from there.

    A user's own experiment file is sent too, at its own relative path; modules it imports from
    the same folder are not.
    """
    with tempfile.TemporaryDirectory(prefix="ws-job-") as name:
        folder = Path(name)
        for package in PACKAGES:
            ignore = shutil.ignore_patterns(*LEFT_OUT)
            shutil.copytree(ROOT / package, folder / package, ignore=ignore)
        yield folder, _rewrite(words, folder)


def _rewrite(words: Sequence[str], folder: Path) -> list[str]:
    rewritten, before = [], ""
    for word in words:
        flag, equals, value = underscored(word).partition("=")
        if before in FILES:
            word = _take(_file(before, word), folder)
        elif flag in FILES and equals:
            word = f"{flag}={_take(_file(flag, value), folder)}"
        elif _own_experiment(word):
            word = _take(word, folder)
        rewritten.append(word)
        before = "" if equals else flag
    return rewritten


def _file(flag: str, value: str) -> str:
    """The file that a flag means by a folder."""
    return str(policy_path(Path(value))) if flag.endswith("policy") else value


def _own_experiment(word: str) -> bool:
    path = Path(word)
    ours = path.resolve().parent == ROOT / "experiments" and path.stem in experiment_names()
    return path.suffix == ".py" and path.is_file() and not ours


def _take(value: str, folder: Path) -> str:
    """Copy a file; what is no file stays as it is, for the parser to complain about."""
    path = Path(value)
    if not path.is_file():
        return value
    inside = not path.is_absolute() and ".." not in path.parts
    target = path if inside else Path("given") / path.name
    (folder / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, folder / target)
    return str(target)
