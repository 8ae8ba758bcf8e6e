"""Experiment files of the user's: imported with their neighbours, checked, built. Free of torch."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from experiments.cli.own_errors import OURS, ROOT, own_errors, show_path
from experiments.cli.own_file_checks import EXPECTED, check_own_file, kind_in_words
from experiments.cli.own_imports import (
    Missing,
    OwnImports,
    find_module,
    import_root,
    read_imports,
)
from ws_learner.core import UserError

if TYPE_CHECKING:
    from experiments.experiment import Experiment

__all__ = [
    "build_experiment",
    "import_own_file",
    "imports_of",
    "missing_import",
    "own_folders",
]


class _Active:
    """What the last experiment file changed in this process."""

    imports: OwnImports | None = None
    before: frozenset[str] = frozenset()
    stamps: dict[Path, int] = {}  # noqa: RUF012  # replaced, never changed


_INSTALLED = ("site-packages", "dist-packages")
_IMPORTS: dict[str, OwnImports] = {}
"""By the file of a module."""


def own_folders() -> tuple[Path, ...]:
    """Where the files of the last experiment file are; empty if it comes with the project."""
    return _Active.imports.folders if _Active.imports is not None else ()


def imports_of(module: ModuleType) -> OwnImports | None:
    """What a user's experiment file imports of the user's; None for one of the project's."""
    return _IMPORTS.get(str(module.__file__))


def import_own_file(path: Path, *, shown: str, include: Sequence[Path] = ()) -> ModuleType:
    """Import an experiment file, with the modules next to it or in its package.

    Args:
        path: The file, absolute.
        shown: What the user calls it.
        include: More folders to import from.

    Raises:
        UserError: It is no experiment file; the message has the file's own lines only.
    """
    name = f"experiment {shown}"
    with own_errors(name, [path.parent, *include], doing="import"):
        _forget(path, include)
        imports = read_imports(path, include)
    _activate(imports, path)
    _, dotted = import_root(path)
    if "." not in dotted and _is_taken(dotted, path):
        dotted = f"experiment_{dotted}"
    try:
        with own_errors(name, imports.folders, doing="import"):
            module = _execute(path, dotted)
    except UserError as error:
        if isinstance(error.__cause__, ImportError) and (line := _unfound(error, imports)):
            raise UserError(f"{name}: {line}") from error
        raise
    _IMPORTS[str(path)] = imports
    _Active.stamps = {file: file.stat().st_mtime_ns for file in imports.files}
    check_own_file(module, name)
    return module


def build_experiment(module: ModuleType, options: Any, *, seed: int) -> Experiment:
    """Call an experiment file's `build`.

    Raises:
        UserError: It raised something, or returned no `Experiment`.
    """
    from experiments.experiment import Experiment

    imports = imports_of(module)
    if imports is not None and _Active.imports is not imports:
        _forget(Path(str(module.__file__)), imports.folders)
        _activate(imports, Path(str(module.__file__)))
    folders = imports.folders if imports is not None else ()
    name = f"experiment {show_path(str(module.__file__))}"
    with own_errors(name, folders, doing="build"):
        made = module.build(options, seed=seed)
    if not isinstance(made, Experiment):
        raise UserError(
            f"{name}: build returned {kind_in_words(made)}, not an Experiment; {EXPECTED}"
        )
    return made


def missing_import(imports: OwnImports) -> str | None:
    """A line about the first import that is not found here; None if there is none."""
    return _missing_line(imports.missing[0], imports) if imports.missing else None


def _missing_line(missing: Missing, imports: OwnImports) -> str:
    where = ", ".join(dict.fromkeys(show_path(folder) for folder in imports.folders))
    said = f"{show_path(missing.file)}:{missing.line}: imports {missing.name}, which is not found"
    if missing.name.startswith("."):
        return f"{said} in {show_path(missing.file.parent)}"
    return f"{said} in {where}, nor installed; --include DIR adds a folder"


def _unfound(error: UserError, imports: OwnImports) -> str | None:
    """The line for an import of the user's own that failed; None if another one did."""
    cause = error.__cause__
    if "relative import" in str(cause) and "no known parent" in str(cause):
        place = str(error).splitlines()[-1].strip()
        return f"{place}: a relative import needs an __init__.py in the file's folder"
    if not isinstance(cause, ModuleNotFoundError):
        return None
    fitting = (one for one in imports.missing if one.name.partition(".")[0] == cause.name)
    found = next(fitting, None)
    return None if found is None else _missing_line(found, imports)


def _forget(path: Path, include: Sequence[Path]) -> None:
    """Undo what an earlier file did to this process, unless this one has the same neighbours."""
    imports = _Active.imports
    if imports is None:
        return
    sys.path[:] = [entry for entry in sys.path if not isinstance(entry, _OwnPath)]
    same = import_root(path)[0] == imports.folders[0] and set(include) <= set(imports.folders)
    if same and all(f.exists() and f.stat().st_mtime_ns == t for f, t in _Active.stamps.items()):
        return
    for name, module in list(sys.modules.items()):
        if name in _Active.before or (file := getattr(module, "__file__", None)) is None:
            continue
        if any(_is_named_from(folder, Path(file), name) for folder in imports.folders):
            del sys.modules[name]


def _is_named_from(folder: Path, file: Path, name: str) -> bool:
    """Whether a module has the name that it has as seen from a folder."""
    if not file.is_relative_to(folder):
        return False
    return file.relative_to(folder).with_suffix("").parts in (
        (*name.split("."),),
        (*name.split("."), "__init__"),
    )


class _OwnPath(str):
    """An entry of `sys.path` that is ours to remove."""

    __slots__ = ()


def _activate(imports: OwnImports, path: Path) -> None:
    if _Active.imports is None or _Active.imports.folders != imports.folders:
        _Active.before = frozenset(sys.modules)
    _Active.imports = imports
    root, dotted = import_root(path)
    own = root if dotted in sys.stdlib_module_names else None  # must not be taken for that module
    first, middle, last = list[str](), list[str](), list[str]()
    for folder in imports.folders:
        clash = folder != ROOT and any(find_module(folder, name) for name in OURS)
        place = middle if folder == own else first
        # Folders with a package of our name come last.
        (last if clash else place).append(_OwnPath(folder))
    here = (n for n, entry in enumerate(sys.path) if Path(entry).name in _INSTALLED)
    after = next(here, len(sys.path))  # the standard library comes before what is installed
    sys.path[:] = [*first, *sys.path[:after], *middle, *sys.path[after:], *last]
    importlib.invalidate_caches()


def _is_taken(name: str, path: Path) -> bool:
    """Whether another module has this name already."""
    there = sys.modules.get(name)
    if there is None or name not in _Active.before:
        return name in sys.stdlib_module_names or name in OURS
    return str(getattr(there, "__file__", "")) != str(path)


def _execute(path: Path, name: str) -> ModuleType:
    package, _, last = name.rpartition(".")
    parent = importlib.import_module(package) if package else None
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.__dict__["__sent_by_value__"] = True  # see ws_learner.core.importable
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
        raise
    if parent is not None:
        setattr(parent, last, module)
    return module
