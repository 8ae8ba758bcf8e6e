"""A finished run's experiment: one of the project's, or the user's file, which has to be named.

A run's folder may come from anywhere, so what it names is not imported, only looked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments.cli.discovery import bundled_name, own_file
from experiments.cli.own_errors import show_path
from experiments.cli.own_file import imports_of
from ws_learner.core import RunDir, UserError, read_json, say, sha256_of, shown

__all__ = ["find_run_experiment", "neighbour_digests", "say_changed"]

_LEVELS = 4
"""How many folders above the run are looked into."""


def find_run_experiment(run: RunDir, settings: Mapping[str, Any]) -> ModuleType:
    """Import the experiment of a run that was made from one of the project's.

    Args:
        run: The run.
        settings: Its `config.yaml`.

    Raises:
        UserError: It was made from another file; the message says where the same file is now,
            byte for byte, and how to name it.
    """
    name, digest = str(settings["experiment"]), _record(run).get("file")
    bundled = bundled_name(name)
    if digest is None and bundled is not None:
        return importlib.import_module(f"experiments.{bundled}")
    named = f"{run.path}: was made from the experiment file {shown(name, most=200)}, which"
    tried: list[Path] = []
    for path in _places(run, name):
        found = own_file(str(path))
        if found is not None and digest in (None, sha256_of(found)):
            raise UserError(
                f"{named} does not come with the project, and a folder does not bring code in by "
                f"itself; name the file: {_how(show_path(found))}"
            )
        tried += [] if path in tried else [path]
    places = dict.fromkeys(show_path(path.parent.absolute()) for path in tried)
    raise UserError(
        f"{named} is not there any more; looked in {', '.join(places)}; it does not come with the "
        f"project, so put it back and name it: {_how(Path(name).name)}"
    )


def _how(file: str) -> str:
    return (
        f"{file} before --exec_mode eval, --experiment {file} of export, or "
        f'load_run(path, experiment="{file}")'
    )


def say_changed(run: RunDir, module: ModuleType) -> None:
    """Say which of the user's files differ from those that the run was made from."""
    made = _record(run)
    now = neighbour_digests(module)
    known = made.get("neighbours") or {}
    changed = [name for name in sorted(known) if now.get(name) != known[name]]
    source = Path(str(module.__file__))
    if made.get("file") not in (None, sha256_of(source)):
        say(f"{show_path(source)}: is not the file that {run.path} was made from, or has changed")
    if changed:
        say(f"{run.path}: was made with other versions of {', '.join(changed)}")


def neighbour_digests(module: ModuleType) -> dict[str, str]:
    """SHA-256 of every own file that a user's experiment file imports, by its path as a module."""
    imports = imports_of(module)
    if imports is None:
        return {}
    found: dict[str, str] = {}
    for file, folder in imports.places:
        if str(file) != str(module.__file__):
            found[file.relative_to(folder).as_posix()] = sha256_of(file)
    return found


def _record(run: RunDir) -> dict[str, Any]:
    record = run.path / "identity.json"
    made = read_json(record) if record.exists() else {}
    return made if isinstance(made, dict) else {}


def _places(run: RunDir, name: str) -> Iterator[Path]:
    """Files to look at, the recorded one first."""
    path = Path(name).expanduser()
    yield path
    above = run.path.resolve().parents[:_LEVELS]
    if not path.is_absolute():
        yield from (folder / path for folder in above)
    yield from (folder / path.name for folder in (Path.cwd(), *above))
