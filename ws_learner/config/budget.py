"""Budgets: what a network may cost, such as `macs=0.3` or `latency=8ms@onnxruntime,bytes=2MB`.

Free of torch.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

from ws_learner.core import UserError, check_settings, share_hint, suggest

__all__ = ["ENGINES", "Budget", "EngineName", "parse_budgets", "parse_goals"]

EngineName = Literal["wsr", "onnxruntime", "openvino", "torch"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
"""What a latency can be measured in; `wsr` is our own runtime, `compile_sparse`."""

_UNITS = ("params", "macs", "bytes", "latency")
_COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}
_TIMES = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_SUFFIXES = {"params": _COUNTS, "macs": _COUNTS, "bytes": _BYTES, "latency": _TIMES}
_EXAMPLES = {
    "params": "0.25 or 50k",
    "macs": "0.3 or 12M",
    "bytes": "0.2 or 2MB",
    "latency": "0.4 or 8ms",
}


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A limit on what the finished network costs.

    Attributes:
        kind: `params` and `macs` of the layer table that are not zero, `bytes` on disk, or
            `latency`.
        amount: Milliseconds, bytes or a number; of a share, what is kept of the dense network's.
        share: Whether `amount` is a share, in (0, 1].
        engine: Of a latency; None for a share means our runtime, against the fastest dense engine
            of those installed.
    """

    kind: Literal["params", "macs", "bytes", "latency"]
    amount: float
    share: bool
    engine: EngineName | None = None

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def unit(self) -> str:
        """Its name in cost tables: the kind, and of a latency the engine."""
        return f"latency@{self.engine or 'wsr'}" if self.kind == "latency" else self.kind

    def __str__(self) -> str:
        """The canonical spelling."""
        suffix = {"latency": "ms", "bytes": "B"}.get(self.kind, "") if not self.share else ""
        engine = f"@{self.engine}" if self.engine else ""
        return f"{self.kind}={self.amount:.10g}{suffix}{engine}"


def parse_budgets(text: str, *, setting: str = "ws_budget") -> tuple[Budget, ...]:
    """Read budgets that are separated by commas; each unit once.

    A bare number up to 1 is the share kept of the dense network's, `30%` likewise.

    Example:
        >>> [str(one) for one in parse_budgets("latency=8ms@onnxruntime, bytes=2MB")]
        ['latency=8ms@onnxruntime', 'bytes=2000000B']

    Raises:
        UserError: One cannot be understood.
    """
    found = tuple(_budget(part, setting) for part in re.sub(r"\s", "", text).split(",") if part)
    if not found:
        raise UserError(f"`{setting}` {text!r}: give UNIT=AMOUNT, such as macs=0.3")
    units = [one.unit for one in found]
    if twice := next((unit for unit in units if units.count(unit) > 1), None):
        raise UserError(f"`{setting}` {text}: names {twice} twice; leave one out")
    return found


def parse_goals(text: str, *, setting: str = "ws_goals") -> tuple[str, float, float]:
    """Read the range of a search for many targets, `macs=0.1:0.6`.

    Returns:
        The unit, and the least and greatest share kept.

    Raises:
        UserError: It is none.
    """
    name, _, span = re.sub(r"\s", "", text).partition("=")
    low, _, high = span.partition(":")
    if not (low and high):
        raise UserError(
            f"`{setting}` {text}: give a range of shares kept, UNIT=LEAST:GREATEST, such as "
            "macs=0.1:0.6, or a range of prune ratios such as 0.5:0.985"
        )
    ends = [_budget(f"{name}={end}", setting) for end in (low, high)]
    for one in ends:
        if not one.share or one.kind == "latency":
            raise UserError(
                f"`{setting}` {text}: a range takes shares of params, macs or bytes, such as "
                "macs=0.1:0.6"
            )
    if not ends[0].amount < ends[1].amount < 1:
        raise UserError(f"`{setting}` {text}: the smaller share comes first, both below 1")
    return ends[0].unit, ends[0].amount, ends[1].amount


def _budget(part: str, setting: str) -> Budget:
    name, _, rest = part.lower().partition("=")
    if re.fullmatch(r"\d+%?", part):
        raise UserError(
            f"`{setting}` {part}: no unit; write decimals with a point, such as macs=0.3"
        )
    name = {"latency_ms": "latency", "flops": "macs", "size": "bytes"}.get(name, name)
    name, _, early = name.partition("@")
    if name not in _UNITS:
        raise UserError(f"`{setting}` {part}: unknown unit {name!r}; {suggest(name, list(_UNITS))}")
    amount, _, late = rest.partition("@")
    engine = _engine(early or late, part, name, setting)
    number = re.fullmatch(r"(\d+\.?\d*(?:e[-+]?\d+)?|\.\d+)([a-z]*|%)", amount)
    suffixes = _SUFFIXES[name]
    if not number or (number[2] not in ("", "%") and number[2] not in suffixes):
        known = ", ".join(word for word in suffixes if word)
        raise UserError(
            f"`{setting}` {part}: give {name}={_EXAMPLES[name]}; a number alone is a share, "
            f"units are {known}"
        )
    value = float(number[1]) / (100 if number[2] == "%" else 1)
    share = number[2] == "%" or (not number[2] and value <= 1)
    if not share and not number[2] and "" not in suffixes:
        unit = "ms" if name == "latency" else "kB"
        if name == "latency":
            at = f"@{engine}" if engine else ""
            hint = f"; did you mean {name}={number[1]}{unit}{at}?"
        else:
            hint = f", such as {name}={number[1]}{unit}{share_hint(number[1])}"
        raise UserError(f"`{setting}` {part}: a share is at most 1; for an amount add a unit{hint}")
    if not share and not number[2] and (hint := share_hint(number[1])):
        raise UserError(
            f"`{setting}` {part}: a share is at most 1 (a count as small as this is written "
            f"{name}={value / 1000:g}k){hint}"
        )
    if not (math.isfinite(value) and value > 0) or (share and value > 1):
        raise UserError(f"`{setting}` {part}: must be above 0, a share at most 1")
    if not share:
        value *= suffixes[number[2]]
    if name == "latency" and not share and engine is None:
        raise UserError(
            f"`{setting}` {part}: name the engine, such as {part}@wsr; known are "
            f"{', '.join(ENGINES)}"
        )
    return Budget(kind=name, amount=value, share=share, engine=engine)  # type: ignore[arg-type]


def _engine(text: str, part: str, name: str, setting: str) -> EngineName | None:
    if not text:
        return None
    if name != "latency":
        raise UserError(f"`{setting}` {part}: only a latency has an engine; leave out @{text}")
    if text not in ENGINES:
        raise UserError(f"`{setting}` {part}: unknown engine {text}; {suggest(text, ENGINES)}")
    return text
