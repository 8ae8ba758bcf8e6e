"""Run directory: one path per configuration, so that the same command resumes the run."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ws_learner.core.errors import UserError
from ws_learner.core.files import read_json, remove_unfinished, unfinished, write_text
from ws_learner.core.held_locks import lock_holder
from ws_learner.core.messages import say
from ws_learner.core.other_settings import other_settings
from ws_learner.core.paths import AnyPath, as_path
from ws_learner.core.plain_yaml import dump_yaml
from ws_learner.core.progress_file import PROGRESS_FILE
from ws_learner.core.run_summary import read_run_summary, write_run_summary

__all__ = ["RunDir", "folder_name", "identity_hash", "policy_path"]

_MOST_NAME = 150
_TRY_AGAIN = 0.05  # seconds


def identity_hash(identity: Mapping[str, Any]) -> str:
    """Hash of the settings that change the result, eight hex digits."""
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def folder_name(name: str) -> str:
    """A name as one folder below another: letters, digits and `._+=@,-` stay, others become `_`.

    Example:
        >>> folder_name("resnet_at_cifar10-gradual"), folder_name("../up")
        ('resnet_at_cifar10-gradual', '_up')
    """
    plain = re.sub(r"[^\w.+=@, -]", "_", name).lstrip(". ") or "run"
    return plain[:_MOST_NAME]


@dataclass(frozen=True)
class RunDir:
    """Directory of one run and the names of its files.

    Attributes:
        path: The directory.
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", as_path(self.path))

    @property
    def config(self) -> Path:
        """Resolved settings; accepted back by `--config`."""
        return self.path / "config.yaml"

    @property
    def defaults(self) -> Path:
        """What the settings of `config` are by default, for reports."""
        return self.path / "defaults.yaml"

    @property
    def dense_weights(self) -> Path:
        """One row per weight that stays dense, with the reason."""
        return self.path / "dense.csv"

    @property
    def protocols(self) -> Path:
        """One row per layer: zeros by each protocol that takes no rollout."""
        return self.path / "protocols.csv"

    @property
    def rollouts(self) -> Path:
        """One row per rollout."""
        return self.path / "rollouts.csv"

    @property
    def ratios(self) -> Path:
        """One row per layer: chosen and achieved ratio."""
        return self.path / "ratios.csv"

    @property
    def metrics(self) -> Path:
        """Losses, rates and accuracies over steps."""
        return self.path / "metrics.csv"

    @property
    def summary(self) -> Path:
        """Headline numbers; exists once the run is finished."""
        return self.path / "summary.json"

    @property
    def model(self) -> Path:
        """Weights of the result."""
        return self.path / "model.safetensors"

    @property
    def progress(self) -> Path:
        """Lines about the work as it goes on; no result."""
        return self.path / PROGRESS_FILE

    @property
    def policy(self) -> Path:
        """What an `optimal` search has learned: profiles for any target."""
        return self.path / "policy.safetensors"

    @property
    def frontier(self) -> Path:
        """One row per target of a search over `ws_goals`: emitted profile and its reward."""
        return self.path / "frontier.csv"

    @property
    def state(self) -> Path:
        """Folder of checkpoints for resuming."""
        return self.path / "state"

    @property
    def lock(self) -> Path:
        """Held by the process that works in the directory."""
        return self.path / ".lock"

    @property
    def finished(self) -> bool:
        """Whether the run has finished."""
        return self.summary.exists()

    def read_summary(self) -> dict[str, Any]:
        """Read the headline numbers.

        Raises:
            UserError: The run is not finished, or the folder holds no run; or a file of its results
                is damaged or its weights are missing.
        """
        if not self.finished:
            raise UserError(
                f"`run_dir` {self.path}: holds no finished run (no summary.json); "
                "give a folder under runs/, or run the command again to finish the run"
            )
        return read_run_summary(self.path)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write the headline numbers and the checksums of the results, which must be there."""
        write_run_summary(self.path, summary)

    def record(self) -> dict[str, Any]:
        """The identity that the directory was made with; empty if there is none to read."""
        try:
            made = read_json(self.path / "identity.json")
        except (OSError, ValueError):
            return {}
        return made if isinstance(made, dict) else {}

    def claim(
        self,
        settings: Mapping[str, Any] | None,
        identity: Mapping[str, Any],
        *,
        given: Collection[str] = (),
    ) -> None:
        """Write the identity, or check that the directory was created with the same one.

        Args:
            settings: Written to `config` if the run is not finished; None writes no such file.
            identity: Everything that changes the result.
            given: Names of settings that the user chose; of a run that was made with others, these
                are listed.

        Raises:
            UserError: The directory holds a run with other settings, or files of no run.
        """
        self.refuse_other(identity, given=given)
        record = self.path / "identity.json"
        if record.exists():
            for folder in (self.path, self.state, self.path / "figures"):
                remove_unfinished(folder)
        else:
            remove_unfinished(self.path)
            asked = json.loads(json.dumps(identity, default=str))
            write_text(record, json.dumps(asked, indent=2, sort_keys=True) + "\n")
        if settings is not None and not self.finished:
            write_text(self.config, dump_yaml(settings))

    def refuse_other(self, identity: Mapping[str, Any], *, given: Collection[str] = ()) -> None:
        """Check that the directory is new, or was created with this identity; write nothing.

        Args:
            identity: Everything that changes the result.
            given: Names of settings that the user chose.

        Raises:
            UserError: The directory holds a run with other settings, or files of no run.
        """
        record = self.path / "identity.json"
        asked = json.loads(json.dumps(identity, default=str))
        if record.exists():
            made = read_json(record)
            if not isinstance(made, dict):
                raise UserError(
                    f"{record}: holds no settings; it is damaged: choose another folder"
                )
            told = other_settings(made, asked, given=given)
            if told:
                raise UserError(f"`run_dir` {self.path}: {told}")
        elif self.path.exists() and any(not _of_claim(path) for path in self.path.iterdir()):
            raise UserError(
                f"`run_dir` {self.path}: holds files but no run (no identity.json), so nothing "
                "says which settings they belong to; choose an empty or new folder. load_run(path, "
                "model=model) still opens a finished run"
            )

    def record_defaults(self, defaults: Mapping[str, Any]) -> None:
        """Write the settings' defaults, unless they are there."""
        if not self.defaults.exists():
            write_text(self.defaults, dump_yaml(defaults))

    @contextmanager
    def locked(self, *, waits: bool = False, named: bool = True) -> Iterator[None]:
        """Lock the directory against other processes; the lock is released when this one ends.

        Args:
            waits: If another process works here, say so and wait until it ends.
            named: The user gave the directory, as `run_dir`.

        Raises:
            UserError: Another process works here, or the directory cannot be written.
        """
        where = f"`run_dir` {self.path}" if named else str(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = self.lock.open("w")
        except OSError as error:
            raise UserError(
                f"{where}: cannot be written ({error.strerror}); free space or "
                "choose another folder, then run the same command again"
            ) from error
        with handle:
            if not _lock(handle):
                holder = lock_holder(self.lock)
                who = "another process or call" + (f" (process {holder})" if holder else "")
                if not waits:
                    raise UserError(
                        f"{where}: is locked by {who}; wait until it ends, then give the same "
                        "command again"
                    )
                say(f"{where}: {who} works on it; waiting until it ends")
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _lock(handle: IO[str]) -> bool:
    """Lock a file; try again for a moment, for a list of runs tries the lock for an instant."""
    for again in (True, True, True, False):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if again:
                time.sleep(_TRY_AGAIN)
        else:
            return True
    return False


def _of_claim(path: Path) -> bool:
    """Whether a process that was killed while it claimed the directory may have left the file."""
    return path.name == ".lock" or (path.name.startswith(".identity-") and unfinished(path))


def policy_path(given: AnyPath) -> Path:
    """The policy file that a user names: the file, or the directory of its run."""
    given = as_path(given, name="given")
    if not given.is_dir():
        return given
    run = RunDir(given)
    if run.finished:
        run.read_summary()  # refuses damaged results
    return run.policy
