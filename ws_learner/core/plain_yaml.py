"""YAML as people mean it: `2:4` is a pattern, `1e-3` a number, a key given twice an error.

YAML 1.1, which PyYAML reads, takes 2:4 for 2 * 60 + 4, 010 for 8 and 1e-3 for a word.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import Any

import yaml

from ws_learner.core.errors import UserError
from ws_learner.core.paths import AnyPath
from ws_learner.core.shown_values import shown, shown_repr
from ws_learner.core.texts import read_text

__all__ = ["PlainLoader", "dump_yaml", "load_yaml", "read_yaml_file"]

_INT = re.compile(r"^[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_PLAIN = ("null", "bool", "int", "float", "str", "seq", "map")
_DATE = "tag:yaml.org,2002:timestamp"
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class PlainLoader(yaml.SafeLoader):
    """Safe loader without base 60, octal numbers and dates; what looks like one is text.

    Limits hold for what a file may ask for: its size, its depth, its values with every alias
    written out, and the digits of a whole number.
    """

    most_bytes = 1 << 20
    most_depth = 50
    most_values = 100_000
    most_digits = 40

    def __init__(self, text: str) -> None:
        """Refuse a text that is larger, or has characters that YAML has not."""
        if len(text) > self.most_bytes:
            raise yaml.YAMLError(f"is larger than {self.most_bytes >> 10} KiB")
        super().__init__(text)
        self._depth = self._values = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Count depth and values; an alias counts as what it stands for."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        before = self._values
        self._depth += 1
        if self._depth > self.most_depth:
            raise _wrong(f"nested deeper than {self.most_depth}", event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._sizes:
                raise _wrong(f"{shown(event.anchor)} holds itself", event.start_mark)
            self._values += self._sizes[id(node)]
        else:
            self._values += 1
            self._sizes[id(node)] = self._values - before
        if self._values > self.most_values:
            raise _wrong(
                f"more than {self.most_values} values, aliases written out", event.start_mark
            )
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node, or an error with its place."""
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
            reason = shown(str(error) or type(error).__name__)
            raise _wrong(f"{shown_repr(node.value)}: {reason}", node.start_mark) from error

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """A whole number of a sensible length."""
        if len(node.value) > self.most_digits:
            raise _wrong(f"a number of {len(node.value)} digits", node.start_mark)
        return int(super().construct_yaml_int(node))

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse a key given twice, of which YAML would keep the last, and one that is no text."""
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise _wrong(
                    f"the key {shown_repr(key.value)} is no text; put it in quotes", key.start_mark
                )
            if key.value in seen:
                raise _wrong(f"{shown(key.value)} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _wrong(reason: str, mark: Any) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, reason, mark)


PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (*_NUMBERS, _DATE)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
PlainLoader.yaml_constructors = {
    tag: make
    for tag, make in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.removeprefix("tag:yaml.org,2002:") in _PLAIN
}
PlainLoader.add_constructor(_NUMBERS[0], PlainLoader.construct_yaml_int)


class _Dumper(yaml.SafeDumper):
    """Quotes text that this or another reader would take for a number."""


for _kind in (PlainLoader, _Dumper):
    _kind.add_implicit_resolver(_NUMBERS[0], _INT, list("-+0123456789"))
    _kind.add_implicit_resolver(_NUMBERS[1], _FLOAT, list("-+0123456789."))


def load_yaml(text: str) -> Any:
    """Read one document of plain values.

    Raises:
        yaml.YAMLError: It is no YAML, has a key twice or one that is no text, has a tag that would
            make an object, or is beyond the limits of `PlainLoader`.

    Example:
        >>> load_yaml("{pattern: 2:4, rate: 1e-3}")
        {'pattern': '2:4', 'rate': 0.001}
    """
    return yaml.load(text, PlainLoader)


def read_yaml_file(path: AnyPath, *, where: str, remedy: str) -> Any:
    """The value of a file of plain YAML, see `load_yaml`.

    Args:
        path: The file.
        where: What stands before the reason in messages.
        remedy: What stands after it.

    Raises:
        UserError: It cannot be read, or is no such YAML.
    """
    text = read_text(path, where=where, remedy=remedy, most=PlainLoader.most_bytes)
    try:
        return load_yaml(text)
    except yaml.YAMLError as error:
        reason = shown(" ".join(str(error).split()), most=300)
        raise UserError(f"{where}: not YAML ({reason}); {remedy}") from error


def dump_yaml(values: Mapping[str, Any]) -> str:
    """Plain values as YAML that `load_yaml`, and any reader of YAML 1.1, reads back as they are."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False)
