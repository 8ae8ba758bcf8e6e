"""What is wrong with a field of a request, in the words of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ws_learner.core import plain_number, share_hint, shown, suggest
from ws_learner.service.new_run import NewRun

__all__ = ["field_problem"]

_SHARES = ("prune_ratio",)
_BOUNDS = {
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
}
_KINDS = {
    **dict.fromkeys(("float_parsing", "float_type", "finite_number"), "a number"),
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "a whole number"),
    "string_type": "text",
}


def field_problem(error: Mapping[str, Any]) -> str:
    """A line for what pydantic says of a field; of values only numbers are repeated.

    Args:
        error: One of `ValidationError.errors()`, or of a request's.
    """
    place = " ".join(str(part) for part in error["loc"] if part != "body")
    kind, value = str(error["type"]), error.get("input")
    if kind == "extra_forbidden":
        return f"{shown(place)}: no such setting; {suggest(shown(place), NewRun.model_fields)}"
    if kind == "missing" and place:
        return f"{shown(place)}: needed"
    said = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    if kind in _KINDS:
        said = f"must be {_KINDS[kind]}"
    elif kind in _BOUNDS:
        name, word = _BOUNDS[kind]
        said = f"must be {word} {plain_number(error['ctx'][name])}"
        if place in _SHARES:
            said = f"must be a share above 0 and below 1{share_hint(value)}"
    named = f"{place} {plain_number(value)}" if kind in _BOUNDS else place
    return shown(f"{named}: {said}" if place else said, most=300)
