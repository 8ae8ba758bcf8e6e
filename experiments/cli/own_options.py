"""Names of the options of a user's experiment file, read from its text: nothing is imported."""

from __future__ import annotations

import ast
from pathlib import Path

__all__ = ["option_names"]


def option_names(path: Path) -> frozenset[str] | None:
    """The fields of the file's class `Options`; None if only an import would tell.

    That is so if the class has bases, is no class statement of the file, or cannot be read.
    """
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
    fields = (node.target for node in found[0].body if isinstance(node, ast.AnnAssign))
    return frozenset(target.id for target in fields if isinstance(target, ast.Name))


def _binds_options(node: ast.AST) -> bool:
    """Whether a statement gives the name `Options` a value."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return node.name == "Options"
    if isinstance(node, ast.Name):
        return node.id == "Options" and isinstance(node.ctx, ast.Store)
    if isinstance(node, ast.alias):
        return (node.asname or node.name) in ("Options", "*")
    return False
