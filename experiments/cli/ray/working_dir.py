"""Working directory of a job: our packages, the user's own code, the files its command names."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from experiments.cli.discovery import own_file
from experiments.cli.flag_parser import underscored
from experiments.cli.own_errors import OURS, ROOT
from experiments.cli.own_imports import import_root
from experiments.cli.ray.own_code import LEFT_OUT, own_code
from ws_learner.core import policy_path

__all__ = ["staged"]

FILES = (
    *("--config", "--sweep", "--ws_ratios", "--ratios", "--ws_rollouts", "--from_rollouts"),
    *("--ws_max_ratios", "--max_ratios", "--ws_min_ratios", "--min_ratios"),
    *("--ws_fixed_ratios", "--fixed_ratios", "--dense_checkpoint", "--dst_checkpoint"),
    *("--ws_policy", "--policy", "--ws_from_policy", "--from_policy"),
)
"""Flags with a file that is sent with the job."""


@contextmanager
def staged(
    words: Sequence[str], *, experiment: str | None = None, include: Sequence[Path] = ()
) -> Iterator[tuple[Path, list[str]]]:
    """A temporary folder for Ray's `working_dir`, and the command as it reads from there.

    A user's own experiment file is sent with its folder, or its package, and `include`. They lie
    at the top, beside our packages, so that every process of the job imports them by name.

    Args:
        words: The command line.
        experiment: The experiment that a config file names, if the command line names none.
        include: The folders of --include.

    Raises:
        UserError: An import of it is not found, or it is too large.
    """
    with tempfile.TemporaryDirectory(prefix="ws-job-") as name:
        folder = Path(name)
        for package in OURS:
            ignore = shutil.ignore_patterns(*LEFT_OUT)
            shutil.copytree(ROOT / package, folder / package, ignore=ignore)
        named = next((word for word in words if own_file(word) is not None), None)
        file = own_file(named or experiment or "")
        if file is not None:
            for target, source in own_code(file, include).items():
                (folder / target).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, folder / target)
        rewritten = _rewrite(_without_include(words), named, folder)
        if file is not None and named is None:
            rewritten.insert(0, str(file.relative_to(import_root(file)[0])))
        yield folder, [*rewritten, *(["--include", "."] if include else [])]


def _rewrite(words: Sequence[str], named: str | None, folder: Path) -> list[str]:
    rewritten, before = [], ""
    for word in words:
        flag, equals, value = underscored(word).partition("=")
        if before in FILES:
            word = _take(_file(before, word), folder)
        elif flag in FILES and equals:
            word = f"{flag}={_take(_file(flag, value), folder)}"
        elif word == named and (file := own_file(word)) is not None:
            word = str(file.relative_to(import_root(file)[0]))
        rewritten.append(word)
        before = "" if equals else flag
    return rewritten


def _without_include(words: Sequence[str]) -> list[str]:
    """The words without --include and its folders, which are at the top there."""
    kept, skipping = list[str](), False
    for word in words:
        if word.startswith("--"):
            skipping = underscored(word).partition("=")[0] == "--include"
        elif word.startswith("-"):
            skipping = False
        if not skipping:
            kept.append(word)
    return kept


def _file(flag: str, value: str) -> str:
    """The file that a flag means by a folder."""
    return str(policy_path(Path(value))) if flag.endswith("policy") else value


def _take(value: str, folder: Path) -> str:
    """Copy a file; what is no file stays as it is, for the parser to complain about."""
    path = Path(value).expanduser()
    if not path.is_file():
        return value
    inside = not path.is_absolute() and ".." not in path.parts
    target = path if inside else Path("given") / path.name
    (folder / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, folder / target)
    return str(target)
