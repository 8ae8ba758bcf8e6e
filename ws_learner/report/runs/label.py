"""Name and tags of a run: `label.json` in its folder, no part of its identity or results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ws_learner.core import AnyPath, UserError, as_path, complain, shown_repr, write_json
from ws_learner.report.runs.fields import read_object

__all__ = ["LABEL", "Label", "check_label", "label_problems", "read_label", "write_label"]

LABEL = "label.json"

_MOST_NAME, _MOST_TAG, _MOST_TAGS = 60, 40, 20


@dataclass(frozen=True, kw_only=True)
class Label:
    """What people call a run.

    Attributes:
        name: Empty without one.
        tags: Each once, in the order given.
    """

    name: str = ""
    tags: tuple[str, ...] = ()


def check_label(*, name: str | None = None, tags: Iterable[str] = ()) -> None:
    """Refuse a name or tags that cannot be used.

    Args:
        name: 1 to 60 printable characters without `/`, or empty for none; not `last`, which means
            the newest run, and not one that begins with `-`, `.` or `~`.
        tags: Each 1 to 40 printable characters without a comma.

    Raises:
        UserError: Some cannot be used; a line for each.
    """
    complain(label_problems(name=name, tags=list(tags)))


def label_problems(*, name: str | None, tags: Sequence[str]) -> Iterator[str]:
    """What `check_label` refuses, a line each."""
    if name:
        rule = "must be at most 60 printable characters without /, and not begin with -, . or ~"
        if name == "last":
            yield "`name` last: means the newest run; choose another name"
        elif not _printable(name, _MOST_NAME) or "/" in name or name[0] in "-.~":
            yield f"`name` {shown_repr(name)}: {rule}"
    elif name is not None and not isinstance(name, str):
        yield f"`name` {shown_repr(name)}: must be text"
    for tag in tags:
        if not isinstance(tag, str) or not _printable(tag, _MOST_TAG) or "," in tag:
            yield f"`tag` {shown_repr(tag)}: must be 1 to 40 printable characters without a comma"
    if len(set(tags)) > _MOST_TAGS:
        yield f"`tag`: {len(set(tags))} tags; a run takes at most {_MOST_TAGS}"


def _printable(text: Any, most: int) -> bool:
    return isinstance(text, str) and 0 < len(text) <= most and text == text.strip() and (
        text.isprintable()
    )  # fmt: skip


def read_label(run: AnyPath) -> Label:
    """Name and tags of a run; what `check_label` refuses counts as not given. Nothing is raised."""
    try:
        found = read_object(as_path(run, name="run") / LABEL)
    except UserError:
        return Label()
    name, tags = found.get("name"), found.get("tags")
    listed = [tag for tag in tags if _fits(tags=[tag])] if isinstance(tags, list) else []
    return Label(
        name=name if isinstance(name, str) and _fits(name=name) else "",
        tags=tuple(dict.fromkeys(listed))[:_MOST_TAGS],
    )


def _fits(*, name: str | None = None, tags: Sequence[str] = ()) -> bool:
    return not any(label_problems(name=name, tags=tags))


def write_label(
    run: AnyPath,
    *,
    name: str | None = None,
    tags: Sequence[str] = (),
    without: Sequence[str] = (),
) -> Label:
    """Change name and tags of a run, which stays the same run: its identity is not touched.

    Args:
        run: The run's folder.
        name: New name; empty takes it away, None leaves it.
        tags: Tags to add.
        without: Tags to take away.

    Returns:
        Name and tags as they are now.

    Raises:
        UserError: There is no such folder, name or tags cannot be used, see `check_label`, or the
            folder cannot be written.
    """
    path = as_path(run, name="run")
    if not path.is_dir():
        raise UserError(f"`run` {path}: no such folder")
    check_label(name=name, tags=tags)
    before = read_label(path)
    kept = [tag for tag in dict.fromkeys((*before.tags, *tags)) if tag not in without]
    check_label(tags=kept)
    label = Label(name=before.name if name is None else name, tags=tuple(kept))
    if label != before:
        write_json(Path(path) / LABEL, {"name": label.name, "tags": list(label.tags)})
    return label
