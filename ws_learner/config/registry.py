"""A registry: name -> entry, for every kind of thing that a setting can name. Free of torch."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ws_learner.core import UserError, suggest

__all__ = ["Entry", "Loaded", "Registry", "load_object"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a registry holds under one name.

    Attributes:
        help: One line for `--help_all`.
    """

    help: str


E = TypeVar("E", bound=Entry)
T = TypeVar("T")


class Registry(Mapping[str, E], Generic[E]):
    """The names that a setting accepts, each with its entry.

    The project's own entries stand in a literal table; `register` adds others at run time, before
    the settings that name them are made. A worker process of Ray needs the entry too: register it
    in a module that the worker imports, such as the experiment file.

    Args:
        setting: The setting that takes these names.
        entries: The project's own entries.
        spelled: The setting takes spellings such as `4x1`, of which names are only a part.
    """

    def __init__(self, setting: str, entries: Mapping[str, E], *, spelled: bool = False) -> None:
        self.setting, self.spelled = setting, spelled
        self._own, self._added = dict(entries), dict[str, E]()

    def __getitem__(self, name: str) -> E:
        return self._added[name] if name in self._added else self._own[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*self._own, *self._added))

    def __len__(self) -> int:
        return len(self._own) + len(self._added)

    def register(self, name: str, entry: E) -> None:
        """Add an entry.

        Raises:
            ValueError: The name is taken, or is not lower-case letters, digits, `_` and `-`.
        """
        if name in self:
            raise ValueError(f"{name!r} is already registered for `{self.setting}`")
        plain = name.replace("_", "").replace("-", "")
        if not (plain.isascii() and plain.isalnum() and name == name.lower()):
            raise ValueError(f"{name!r}: use lower-case letters, digits, `_` and `-`")
        self._added[name] = entry

    def unregister(self, name: str) -> None:
        """Remove an entry that `register` added.

        Raises:
            KeyError: There is none.
        """
        del self._added[name]

    def problems(self, name: str) -> Iterator[str]:
        """A line if there is no such name, with the nearest match."""
        if name not in self:
            yield f"`{self.setting}` {name}: no such choice; {suggest(name, self)}"

    def find(self, name: str) -> E:
        """The entry of a name.

        Raises:
            UserError: There is none; the message names the nearest match.
        """
        for problem in self.problems(name):
            raise UserError(problem)
        return self[name]


class Loaded(Mapping[str, T]):
    """The entries that have a certain attribute, as a mapping from name to the loaded object.

    Args:
        registry: Where the entries are.
        attribute: Holds an object or its `module:name`; entries with None are left out.
    """

    def __init__(self, registry: Registry[Any], attribute: str) -> None:
        self._registry, self._attribute = registry, attribute

    def __getitem__(self, name: str) -> T:
        place = getattr(self._registry[name], self._attribute)
        if place is None:
            raise KeyError(name)
        found: T = load_object(place)
        return found

    def __iter__(self) -> Iterator[str]:
        pairs = self._registry.items()
        return (name for name, entry in pairs if getattr(entry, self._attribute) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __reversed__(self) -> Iterator[str]:
        return reversed(tuple(self))


def load_object(place: Any) -> Any:
    """Import the object of a `module:name`; anything but text is returned as it is."""
    if not isinstance(place, str):
        return place
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
