"""YAML as people mean it: `2:4` is a pattern, `1e-3` a number, a key given twice an error.

YAML 1.1, which PyYAML reads, takes 2:4 for 2 * 60 + 4, 010 for 8 and 1e-3 for a word.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import Any

import yaml

__all__ = ["PlainLoader", "dump_yaml", "load_yaml"]

_INT = re.compile(r"^[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class PlainLoader(yaml.SafeLoader):
    """Safe loader without base 60 and octal numbers; what looks like one is text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse a key given twice, of which YAML would keep the last."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{key.value} is given twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NUMBERS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Dumper(yaml.SafeDumper):
    """Quotes text that this or another reader would take for a number."""


for _kind in (PlainLoader, _Dumper):
    _kind.add_implicit_resolver(_NUMBERS[0], _INT, list("-+0123456789"))
    _kind.add_implicit_resolver(_NUMBERS[1], _FLOAT, list("-+0123456789."))


def load_yaml(text: str) -> Any:
    """Read one document of plain values.

    Raises:
        yaml.YAMLError: It is no YAML, has a key twice, or has a tag that would make an object.

    Example:
        >>> load_yaml("{pattern: 2:4, rate: 1e-3}")
        {'pattern': '2:4', 'rate': 0.001}
    """
    return yaml.load(text, PlainLoader)


def dump_yaml(values: Mapping[str, Any]) -> str:
    """Plain values as YAML that `load_yaml`, and any reader of YAML 1.1, reads back as they are."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False)
