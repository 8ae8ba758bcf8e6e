"""What a user's file imports: its neighbours, found by reading, not by running. Free of torch."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.cli.own_errors import OURS, ROOT, is_own

__all__ = ["Missing", "OwnImports", "find_module", "import_root", "read_imports"]

_PROJECT = (".git", "pyproject.toml", "setup.py", "setup.cfg")
"""Files that the top folder of a project has."""


@dataclass(frozen=True, order=True)
class Missing:
    """An import of something that is not there."""

    file: Path
    line: int
    name: str


@dataclass(frozen=True)
class OwnImports:
    """The user's own code that an experiment file needs.

    Attributes:
        folders: Where its imports are looked up before the installed packages.
        places: The file itself and what it imports, directly or not, of the user's: a file and
            the folder that it is looked up from; sorted.
        missing: Imports that were not found; those in a `try` or for type checkers do not count.
    """

    folders: tuple[Path, ...]
    places: tuple[tuple[Path, Path], ...]
    missing: tuple[Missing, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files, each once."""
        return tuple(dict.fromkeys(file for file, _ in self.places))


def import_root(path: Path) -> tuple[Path, str]:
    """The folder to search for a file's package, and the file's name as a module.

    A file outside a package is a module of its own folder. So is one in a package that has the
    name of one of ours.
    """
    folder, parts = path.parent, [path.stem]
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    if len(parts) > 1 and parts[0] not in OURS and all(part.isidentifier() for part in parts[:-1]):
        return folder, ".".join(parts)
    return path.parent, path.stem


def read_imports(path: Path, include: Sequence[Path] = ()) -> OwnImports:
    """Read which own files an experiment file imports.

    Args:
        path: The file, absolute.
        include: More folders; of a package the folder above it is searched.

    Raises:
        SyntaxError: A file is no Python.
    """
    root, _ = import_root(path)
    above = [folder.parent if (folder / "__init__.py").is_file() else folder for folder in include]
    folders = list(dict.fromkeys([root, *above]))
    places, missing, waiting = set[tuple[Path, Path]](), list[Missing](), [(path, root)]
    while waiting:
        file, base = waiting.pop()
        if (file, base) in places:
            continue
        places.add((file, base))
        for wanted in _imports(_parsed(file), file):
            found = _files(wanted, folders, path, base)
            if not found and found is not None and not wanted.may_fail:
                missing.append(Missing(file, wanted.line, wanted.shown))
            waiting += found or []
    return OwnImports(tuple(folders), tuple(sorted(places)), tuple(sorted(missing)))


def _parsed(file: Path) -> ast.AST:
    try:
        return ast.parse(file.read_bytes(), filename=str(file))
    except SyntaxError as error:
        error.filename = error.filename or str(file)
        raise
    except ValueError as error:  # of Python 3.11 before 3.11.4, for null bytes
        raise SyntaxError(str(error), (str(file), 1, None, "")) from error


@dataclass(frozen=True)
class _Wanted:
    """One import statement's module: `names` may be modules in it."""

    line: int
    parts: tuple[str, ...]
    names: tuple[str, ...] = ()
    base: Path | None = None  # of a relative import
    may_fail: bool = False

    @property
    def shown(self) -> str:
        return ("." if self.base else "") + ".".join(self.parts)


def _imports(tree: ast.AST, file: Path) -> Iterator[_Wanted]:
    for node, may_fail in _statements(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield _Wanted(node.lineno, tuple(name.name.split(".")), may_fail=may_fail)
        elif isinstance(node, ast.ImportFrom):
            parts = tuple(node.module.split(".")) if node.module else ()
            yield _Wanted(
                node.lineno,
                parts,
                names=tuple(name.name for name in node.names),
                base=file.parents[min(node.level, len(file.parents)) - 1] if node.level else None,
                may_fail=may_fail,
            )


def _statements(node: ast.AST, may_fail: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """All nodes, and whether imports there may fail: in a `try`, or for type checkers only."""
    for child in ast.iter_child_nodes(node):
        guards = isinstance(child, ast.Try) and any(map(_catches, child.handlers))
        guards = guards or (
            isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        )
        yield child, may_fail
        yield from _statements(child, may_fail or guards)


def _catches(handler: ast.ExceptHandler) -> bool:
    named = "" if handler.type is None else ast.unparse(handler.type)
    kinds = ("ImportError", "ModuleNotFoundError", "Exception", "BaseException")
    return not named or any(kind in named for kind in kinds)


def _files(
    wanted: _Wanted, folders: list[Path], start: Path, base: Path
) -> list[tuple[Path, Path]] | None:
    """Own files of an import, with the folder that they are looked up from.

    Empty if the import is not found, None if it is not the user's. `base` is the folder that the
    importing file was looked up from.
    """
    if wanted.base is not None:
        found = _below(wanted.base, wanted.parts, wanted.names)
        here = [wanted.base / "__init__.py"] if (wanted.base / "__init__.py").is_file() else []
        found = [*found, *here] if found or not wanted.parts else []
        return [(file, base) for file in found]
    if not wanted.parts:
        return None
    top = wanted.parts[0]
    if top in OURS or top in sys.stdlib_module_names or top in sys.builtin_module_names:
        return None
    folder = next((one for one in folders if find_module(one, top, bare=False)), None)
    if folder is None:
        elsewhere = _installed(top)
        if elsewhere == "library":
            return None
        named = (one for one in folders if find_module(one, top))
        folder = Path(elsewhere) if elsewhere else next(named, None) or _above(start, top)
        if folder is None:
            return []
        if folder not in folders:
            folders.append(folder)
    files = _below(folder, wanted.parts, wanted.names)
    return [(file, folder) for file in files] or None


def _below(folder: Path, parts: Sequence[str], names: Sequence[str]) -> list[Path]:
    """Files of the module `parts` in a folder, of the packages above it, and of names in it."""
    found: list[Path] = []
    for part in parts:
        file = find_module(folder, part)
        if file is None:
            return found
        if file.suffix == ".py":
            found.append(file)
        folder = folder / part
    inside = (find_module(folder, name) for name in names)
    return found + [file for file in inside if file is not None and file.suffix == ".py"]


def find_module(folder: Path, name: str, *, bare: bool = True) -> Path | None:
    """The file of a module or package in a folder; of a package without `__init__` the folder.

    Such a package counts only if it is allowed by `bare`; Python takes it after all others.
    """
    for file in (folder / name / "__init__.py", folder / f"{name}.py"):
        if file.is_file():
            return file
    place = folder / name
    if not bare or not place.is_dir():
        return None
    return place if any(place.glob("*.py")) or any(place.glob("*/*.py")) else None


def _installed(top: str) -> str:
    """`library`, or the folder that holds the user's module of this name; empty: nowhere."""
    if top in sys.modules and getattr(sys.modules[top], "__spec__", None) is None:
        return "library"
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return ""
    if spec is None:
        return ""
    places = [Path(place) for place in spec.submodule_search_locations or ()]
    home = places[0].parent if places else Path(spec.origin or "").parent
    sample = (places[0] / "__init__.py") if places else Path(spec.origin or "")
    own = sample.is_absolute() and is_own(sample, [home])
    return str(home) if own else "library"


def _above(path: Path, top: str) -> Path | None:
    """A folder above a file that holds the package around it, or a module of its project."""
    seen: list[Path] = []
    for folder in path.parents:
        if folder == folder.parent or folder == Path.home() or _open_to_all(folder):
            break
        seen += [folder, folder / "src"]
        if find_module(folder, top) == folder / top / "__init__.py" and path.is_relative_to(
            folder / top
        ):
            return folder
        if any((folder / name).exists() for name in _PROJECT) and folder != ROOT:
            return next((one for one in seen if find_module(one, top)), None)
    return None


def _open_to_all(folder: Path) -> bool:
    """Whether others can put files there, as in /tmp."""
    return bool(os.stat(folder).st_mode & 0o002)
