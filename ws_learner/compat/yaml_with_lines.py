"""Safe YAML reader that records line numbers. Free of torch."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

import yaml

from ws_learner.core import PlainLoader, UserError, shown, shown_repr

__all__ = ["Problems", "Rows", "Table", "read_yaml"]

_TEXT = "tag:yaml.org,2002:str"


class Table(dict[str, Any]):
    """A mapping that knows its line, each key's line, and its tag, such as `!Pruner`."""

    line: int
    lines: dict[str, int]
    tag: str


class Rows(list[Any]):
    """A sequence that knows its line and each entry's."""

    line: int
    lines: list[int]


class _Loader(PlainLoader):
    """Knows plain YAML and the tags given to `read_yaml`, and nothing else."""

    twice: list[tuple[int, str]]


def _table(loader: _Loader, node: yaml.Node) -> Table:
    if not isinstance(node, yaml.MappingNode):
        raise yaml.constructor.ConstructorError(
            None, None, f"{node.tag} must hold settings, one a line", node.start_mark
        )
    loader.flatten_mapping(node)
    table = Table()
    table.line, table.lines, table.tag = node.start_mark.line + 1, {}, node.tag
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TEXT:
            raise yaml.constructor.ConstructorError(
                None, None, "a key must be a plain word", key_node.start_mark
            )
        name, line = str(key_node.value), key_node.start_mark.line + 1
        if name in table:
            loader.twice.append((line, name))
        table[name] = loader.construct_object(value_node, deep=True)
        table.lines[name] = line
    return table


def _rows(loader: _Loader, node: yaml.Node) -> Rows:
    if not isinstance(node, yaml.SequenceNode):
        raise yaml.constructor.ConstructorError(
            None, None, f"{node.tag} must hold a list", node.start_mark
        )
    rows = Rows(loader.construct_object(child, deep=True) for child in node.value)
    rows.line = node.start_mark.line + 1
    rows.lines = [child.start_mark.line + 1 for child in node.value]
    return rows


def read_yaml(text: str, *, name: str, tags: Iterable[str] = ()) -> Any:
    """Parse `text`; mappings become `Table`, sequences `Rows`.

    Args:
        text: One YAML document.
        name: Of the file, for messages.
        tags: Tags that mark a mapping and are allowed, such as `!Pruner`.

    Raises:
        UserError: It is no YAML, has a key twice, or has a tag that would make an object.
    """

    class Tagged(_Loader):
        twice: list[tuple[int, str]] = []  # noqa: RUF012

    for tag in (yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, *tags):
        Tagged.add_constructor(tag, _table)
    Tagged.add_constructor(yaml.resolver.BaseResolver.DEFAULT_SEQUENCE_TAG, _rows)
    try:
        loader = Tagged(text)
    except yaml.YAMLError as error:
        raise UserError(f"{name}: not YAML ({shown(str(error), most=200)})") from None
    try:
        value = loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise UserError(f"{name}{where}: {shown(error.problem or '', most=200)}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{name}: not YAML ({shown(str(error), most=200)})") from None
    finally:
        loader.dispose()
    if loader.twice:
        raise UserError(
            f"{name}: "
            + "; ".join(f"line {line}: {shown(key)} is given twice" for line, key in loader.twice)
        )
    return value


class Problems:
    """Collects everything that is wrong with a file, to report it at once."""

    def __init__(self, name: str) -> None:
        """Start with none; `name` is the file's."""
        self._name = name
        self._found: list[tuple[int, str]] = []

    def add(self, line: int, text: str) -> None:
        """One more."""
        self._found.append((line, text))

    def raise_any(self) -> None:
        """Raise an error if there are any.

        Raises:
            UserError: A line each, in the order of the file.
        """
        if not self._found:
            return
        lines = [f"line {line}: {text}" for line, text in sorted(self._found)]
        head = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        raise UserError(f"{self._name}: {head}\n  " + "\n  ".join(lines))

    def keys(self, table: Table, allowed: Iterable[str], *, where: str) -> None:
        """Complain about every key that is not allowed, with the nearest that is."""
        names = sorted(allowed)
        for key in table:
            if key not in names:
                near = difflib.get_close_matches(key, names, n=1)
                hint = f"did you mean {near[0]}?" if near else f"allowed are {', '.join(names)}"
                self.add(table.lines[key], f"{where}: unknown key {shown_repr(key)}; {hint}")

    def value(
        self, table: Table, key: str, convert: Callable[[Any], Any], *, default: Any, wanted: str
    ) -> Any:
        """The converted value of `key`, or `default` if it is absent, null or wrong."""
        given = table.get(key)
        if given is None:
            return default
        try:
            return convert(given)
        except (TypeError, ValueError, OverflowError):
            self.add(table.lines[key], f"{key} {shown_repr(given)}: must be {wanted}")
            return default

    def table(self, table: Table, key: str) -> Table | None:
        """The mapping under `key`, or None if it is absent, null or no mapping."""
        given = table.get(key)
        if given is not None and not isinstance(given, Table):
            self.add(table.lines[key], f"{key} {shown_repr(given)}: must hold settings, one a line")
        return given if isinstance(given, Table) else None
