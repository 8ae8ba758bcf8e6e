"""Options of a user's experiment file, read from its text: nothing of it is imported."""

from __future__ import annotations

import ast
import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

__all__ = ["option_names", "options_from_text"]

_TYPES: dict[str, Any] = {
    **{"int": int, "float": float, "str": str, "bool": bool, "tuple": tuple},
    **{"Path": Path, "Literal": Literal},
}
"""Names that the types of flags are made of."""


def option_names(path: Path) -> frozenset[str] | None:
    """The fields of the file's class `Options`; None if only an import would tell.

    That is so if the class has bases, is no class statement of the file, or cannot be read.
    """
    found = _options_class(path)
    if found is None:
        return None
    fields = (node.target for node in found[1].body if isinstance(node, ast.AnnAssign))
    return frozenset(target.id for target in fields if isinstance(target, ast.Name))


@contextmanager
def options_from_text(path: Path) -> Iterator[ModuleType | None]:
    """A module with the file's docstring and `Options`, for help; None if only an import would do.

    That is so where `option_names` is None, and where a type or a default is more than a plain
    name or value, such as a constant of the file. Inside the context the class has its source.
    """
    found = _options_class(path)
    kind = None if found is None else _plain_class(found[1])
    if found is None or kind is None:
        yield None
        return
    module = ModuleType(f"text_of_{path.stem}", ast.get_docstring(found[0], clean=False))
    module.__file__ = str(path)
    own: dict[str, Any] = {"__module__": module.__name__, "__qualname__": "Options"}
    own["__annotations__"] = {name: hint for name, hint, _ in kind}
    own |= {name: value for name, _, value in kind if value is not dataclasses.MISSING}
    own["__doc__"] = ast.get_docstring(found[1], clean=False)
    module.Options = dataclasses.dataclass(frozen=True)(type("Options", (), own))  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    try:
        yield module
    finally:
        del sys.modules[module.__name__]


def _options_class(path: Path) -> tuple[ast.Module, ast.ClassDef] | None:
    """The file's tree and its only class `Options`, without bases."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None  # the import says what is wrong
    found = [
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Options"
    ]
    others = [node for node in ast.walk(tree) if _binds_options(node)]
    if len(found) != 1 or found[0].bases or found[0].keywords or others != found:
        return None
    return tree, found[0]


def _plain_class(node: ast.ClassDef) -> list[tuple[str, Any, Any]] | None:
    """Name, type and default of each field; None if one is not plain, or it is no dataclass."""
    if not any("dataclass" in ast.unparse(one) for one in node.decorator_list):
        return None
    fields = []
    for one in node.body:
        if not isinstance(one, ast.AnnAssign) or not isinstance(one.target, ast.Name):
            continue
        try:
            hint = _type(one.annotation)
            value = dataclasses.MISSING if one.value is None else _value(one.value)
            hash(value)
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        fields.append((one.target.id, hint, value))
    needed = [value is dataclasses.MISSING for _, _, value in fields]
    return fields if needed == sorted(needed, reverse=True) else None


def _type(node: ast.expr) -> Any:
    """A type of plain names: `int | None`, `tuple[str, ...]`, `Literal["a", "b"]`."""
    if isinstance(node, ast.Constant) and node.value is None:
        return None
    if isinstance(node, ast.Name):
        return _TYPES[node.id]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _type(node.left) | _type(node.right)
    if isinstance(node, ast.Subscript):
        outer, inner = _type(node.value), node.slice
        if outer is Literal:
            return Literal[ast.literal_eval(inner)]
        parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
        return outer[tuple(... if _is_dots(part) else _type(part) for part in parts)]
    return _refuse()


def _value(node: ast.expr) -> Any:
    """A literal, or a path of one."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "Path" and not node.keywords:
        return Path(*(ast.literal_eval(part) for part in node.args))
    return ast.literal_eval(node)


def _is_dots(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


def _refuse() -> Any:
    raise ValueError("more than a plain name")


def _binds_options(node: ast.AST) -> bool:
    """Whether a statement gives the name `Options` a value."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return node.name == "Options"
    if isinstance(node, ast.Name):
        return node.id == "Options" and isinstance(node.ctx, ast.Store)
    if isinstance(node, ast.alias):
        return (node.asname or node.name) in ("Options", "*")
    return False
