"""Find the experiment file that a finished run was made from, also after it has moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments.cli.discovery import experiment_names, find_experiment, own_file
from experiments.cli.own_errors import show_path
from experiments.cli.own_file import imports_of
from ws_learner.core import RunDir, UserError, read_json, say, sha256_of

__all__ = ["find_run_experiment", "included_folders", "neighbour_digests", "say_changed"]

_LEVELS = 4
"""How many folders above the run are looked into."""


def find_run_experiment(run: RunDir, settings: Mapping[str, Any]) -> ModuleType:
    """Import the experiment of a run: the file of its settings, or the same file elsewhere.

    A file at another place than recorded is taken only if it is the same, byte for byte.

    Args:
        run: The run.
        settings: Its `config.yaml`.

    Raises:
        UserError: The file is not there; the message says where it was looked for.
    """
    name, digest = str(settings["experiment"]), _record(run).get("file")
    stem = Path(name).stem.removesuffix("_run")
    if digest is None and stem in experiment_names():
        return find_experiment(name)
    tried: list[Path] = []
    for base, path in _places(run, name):
        found = own_file(str(path))
        if found is None or found in tried:
            tried += [] if path in tried else [path]
            continue
        tried.append(found)
        if path == Path(name).expanduser() or digest in (None, sha256_of(found)):
            if path != Path(name).expanduser():
                say(f"{name}: found as {show_path(found)}")
            module = find_experiment(str(path), include=included_folders(settings, base))
            say_changed(run, module)
            return module
    places = dict.fromkeys(show_path(path.parent.absolute()) for path in tried)
    raise UserError(
        f"{run.path}: was made from the experiment file {name}, which is not there any more; "
        f"looked in {', '.join(places)}; put it back, or name it: EXPERIMENT before --exec_mode "
        'eval, --experiment FILE of export, load_run(path, experiment="...")'
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


def _places(run: RunDir, name: str) -> Iterator[tuple[Path, Path]]:
    """(folder that relative paths start from, file) to try, the recorded one first."""
    path = Path(name).expanduser()
    yield Path(), path
    above = run.path.resolve().parents[:_LEVELS]
    if not path.is_absolute():
        yield from ((folder, folder / path) for folder in above)
    yield from ((folder, folder / path.name) for folder in (Path.cwd(), *above))


def included_folders(settings: Mapping[str, Any], base: Path) -> list[Path]:
    """The folders of --include in a run's settings, from the current folder or `base`."""
    given = [Path(one).expanduser() for one in settings.get("include") or ()]
    return [one if one.is_dir() or not (base / one).is_dir() else base / one for one in given]
