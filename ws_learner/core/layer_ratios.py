"""Ratios of layers as people have them: dict, data frame, text, or a file of any tool."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ws_learner.core.errors import UserError
from ws_learner.core.layer_names import refuse_bad_patterns
from ws_learner.core.paths import AnyPath, as_path
from ws_learner.core.percentages import read_share, share_hint
from ws_learner.core.plain_yaml import load_yaml
from ws_learner.core.ratio_columns import Columns, find_columns
from ws_learner.core.shown_values import shown, shown_repr
from ws_learner.core.texts import parse_json, read_text

__all__ = ["cells_in_file", "is_ratio_text", "ratios_from", "ratios_in_file"]

_COLUMNS = 1000
_FILE = "give a CSV file, such as another run's ratios.csv"


def is_ratio_text(given: object) -> bool:
    """Whether a text is ratios itself, `conv1=0.5,layer3.*=0.95`, rather than a file's path."""
    text = str(given) if isinstance(given, str | Path) else ""
    return "=" in text and not Path(text).exists()


def ratios_from(given: Any, *, setting: str) -> dict[str, float]:
    """Name or pattern -> prune ratio, from whatever holds them.

    Args:
        given: A mapping; a pandas Series or DataFrame; `NAME=RATIO,NAME=RATIO`; or a file, see
            `ratios_in_file`.
        setting: The argument, for messages.

    Raises:
        UserError: It cannot be understood, or a ratio is not within [0, 1].
    """
    if hasattr(given, "columns") and hasattr(given, "to_dict"):
        found = _of_frame(given, where=f"`{setting}`")
    elif hasattr(given, "to_dict") and hasattr(given, "index"):
        found = _checked(given.to_dict().items(), where=f"`{setting}`")
    elif isinstance(given, Mapping):
        found = _checked(given.items(), where=f"`{setting}`")
    elif is_ratio_text(given):
        found = _of_text(str(given), setting=setting)
    elif isinstance(given, str | Path):
        path = Path(given)
        lines = ratios_in_file(path, setting=setting)[0]
        found = _once((name, ratio, f"line {line}") for line, name, ratio in lines)
    else:
        raise UserError(
            f"`{setting}` {type(given).__name__}: must be a dict of layer -> ratio, a data frame, "
            "or a file"
        )
    if not found:
        raise UserError(f"`{setting}`: names no layer; leave it out, or give layer -> ratio")
    refuse_bad_patterns(found, setting=setting)
    return found


def ratios_in_file(path: AnyPath, *, setting: str) -> tuple[list[tuple[int, str, float]], str]:
    """Line, name and ratio of each entry of a file, and what was understood, empty if obvious.

    CSV and TSV need a column of names and one of ratios, see `find_columns`; JSON and YAML hold
    name -> ratio.

    Raises:
        UserError: The file cannot be read, or a ratio is wrong.
    """
    path = as_path(path, name=setting)
    where = f"`{setting}` {path}"
    text = read_text(path, where=where, remedy=_FILE, kind="a CSV text file")
    if path.suffix.lower() in (".json", ".yaml", ".yml"):
        entries = _checked(_loaded(path, text, where=where).items(), where=where)
        return [(place, name, ratio) for place, (name, ratio) in enumerate(entries.items(), 1)], ""
    header, rows = _rows(text, where=where)
    columns = find_columns(header, [row for _, row in rows], where=where)
    found = []
    for line, row in rows:
        name = columns.name(row)
        found.append((line, name, columns.ratio(row, where=f"{where}, line {line}", layer=name)))
    return found, columns.said


def cells_in_file(
    path: AnyPath, *, setting: str, columns: Iterable[str]
) -> list[tuple[int, str, dict[str, str]]]:
    """Line, name and further cells of each entry of a table with our own column names.

    Args:
        path: The file.
        setting: The argument, for messages.
        columns: Headers of the cells; those that the table lacks are left out.

    Returns:
        Nothing if the table is another tool's, without the columns `layer` and `prune_ratio`, or
        has none of the columns.

    Raises:
        UserError: The file cannot be read.
    """
    path = as_path(path, name=setting)
    if path.suffix.lower() in (".json", ".yaml", ".yml"):
        return []
    where = f"`{setting}` {path}"
    header, rows = _rows(
        read_text(path, where=where, remedy=_FILE, kind="a CSV text file"), where=where
    )
    there = [name for name in columns if name in header]
    if not {"layer", "prune_ratio"} <= set(header) or not there:
        return []
    return [(line, row["layer"], {name: row[name] for name in there}) for line, row in rows]


def _loaded(path: Path, text: str, *, where: str) -> Mapping[str, Any]:
    if path.suffix.lower() == ".json":
        loaded = parse_json(text, where=where, remedy="give layer: ratio")
    else:
        try:
            loaded = load_yaml(text)
        except yaml.YAMLError as error:
            reason = shown(" ".join(str(error).split()), most=200)
            raise UserError(f"{where}: cannot be read ({reason}); give layer: ratio") from error
    if not isinstance(loaded, dict):
        raise UserError(f"{where}: must hold layer: ratio for each layer")
    return loaded


def _rows(text: str, *, where: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Header, and line number and cells of every line that is not blank."""
    first = text.partition("\n")[0]
    mark = max(",;\t", key=first.count)  # of equally many the comma
    try:
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=mark, strict=True, skipinitialspace=True
        )
        header = [name.strip() for name in next(reader, [])]
        if len(header) > _COLUMNS:
            raise UserError(f"{where}, line 1: more than {_COLUMNS} columns; {_FILE}")
        rows = []
        for cells in reader:
            padded = [cell.strip() for cell in cells] + [""] * len(header)
            if any(padded):
                rows.append((reader.line_num, dict(zip(header, padded, strict=False))))
    except csv.Error as error:
        raise UserError(f"{where}: not a CSV text file ({error}); {_FILE}") from error
    twice = next((name for name, count in Counter(header).items() if name and count > 1), None)
    if twice is not None:
        raise UserError(f"{where}, line 1: column {shown(twice)} appears twice; keep one")
    return header, rows


def _of_frame(frame: Any, *, where: str) -> dict[str, float]:
    """Ratios of a pandas frame; its index may hold the names."""
    texts = len(frame.index) > 0 and all(isinstance(name, str) for name in frame.index)
    named = frame.reset_index() if texts else frame
    header = [str(name) for name in named.columns]
    rows = [
        {name: "" if value is None else str(value) for name, value in zip(header, row, strict=True)}
        for row in named.itertuples(index=False, name=None)
    ]
    if "index" in header and frame.index.name is None and named is not frame:
        header = ["layer" if name == "index" else name for name in header]
        rows = [{"layer" if k == "index" else k: v for k, v in row.items()} for row in rows]
    columns: Columns = find_columns(header, rows, where=where)
    return _once(
        (name, columns.ratio(row, where=f"{where} row {place}", layer=name), f"row {place}")
        for place, row in enumerate(rows)
        for name in [columns.name(row)]
    )


def _once(entries: Iterable[tuple[str, float, str]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, ratio, place in entries:
        if name in found:
            raise UserError(f"{place}: layer {shown(name)} is listed twice; keep one of the lines")
        found[name] = ratio
    return found


def _of_text(text: str, *, setting: str) -> dict[str, float]:
    pairs = []
    for part in (piece for piece in re.split(r"[,;\n]", text) if piece.strip()):
        name, equals, ratio = part.rpartition("=")
        if not equals or not name.strip():
            raise UserError(
                f"`{setting}` {shown(text)}: {shown_repr(part.strip())} is no NAME=RATIO, as in "
                "conv1=0.5,layer3.*=0.95"
            )
        pairs.append((name.strip(), ratio.strip()))
    counts = Counter(name for name, _ in pairs)
    twice = next((name for name, count in counts.items() if count > 1), None)
    if twice is not None:
        raise UserError(f"`{setting}` {shown(text)}: {shown(twice)} is given twice; keep one")
    return _checked(pairs, where=f"`{setting}`")


def _checked(pairs: Iterable[tuple[Any, Any]], *, where: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in pairs:
        if not isinstance(name, str) or not name:
            raise UserError(f"{where} {shown_repr(name)}: a layer's name must be a text")
        try:
            number = read_share(value) if isinstance(value, str) else float(value)
            ratio = math.nan if isinstance(value, bool) else number
        except (TypeError, ValueError, OverflowError):
            ratio = math.nan
        if not 0 <= ratio <= 1:
            hint = share_hint(value)
            raise UserError(
                f"{where} {shown(name)}: prune ratio {shown_repr(value)} must be a number from 0 "
                f"to 1{hint}"
            )
        found[name] = ratio
    return found
