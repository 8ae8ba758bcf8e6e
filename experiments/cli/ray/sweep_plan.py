"""Sweep plan: read from YAML, trials drawn from a seed. Free of torch and ray."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from experiments.cli.flag_aliases import canonical_settings
from ws_learner.core import UserError, read_yaml_file

__all__ = ["SCHEDULE", "Plan", "read_plan"]

SCHEDULE = {
    *("ws_prune_ratio_exp", "ws_iter_ratio_beg", "ws_iter_ratio_end", "ws_mask_update_step"),
    *("ws_init", "enbl_dst", "loss_w_dst", "tempr_dst", "dst_layers", "loss_w_layers"),
}
"""Settings that affect only the training: trials that differ in nothing else share one search."""


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"{value}: must be a number, not yes or no")
    return value


Whole = Annotated[int, BeforeValidator(_no_boolean)]
Real = Annotated[float, BeforeValidator(_no_boolean)]


@dataclass(frozen=True)
class Range:
    """Numbers from `min` to `max`; with `log`, evenly in their logarithm."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    min: Real
    max: Real
    log: bool = False

    def draw(self, rng: random.Random) -> float:
        """One of them, rounded to four digits."""
        if self.log:
            value = math.exp(rng.uniform(math.log(self.min), math.log(self.max)))
        else:
            value = rng.uniform(self.min, self.max)
        return float(f"{value:.4g}")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A sweep.

    Attributes:
        space: Setting -> the values to try, or a range to draw from.
        samples: Number of trials; None tries every combination of listed values.
        rungs: Trainings a trial may get, each `factor` times as long as the one before; the last
            one is as long as the recipe or --nb_epochs says.
        factor: Also the share of trials that continue: one in `factor`.
        seed: Fixes the trials.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    space: dict[str, list[Any] | Range]
    samples: Whole | None = None
    rungs: Whole = 3
    factor: Whole = 2
    seed: Whole = 0

    def budgets(self) -> list[int]:
        """Length of each rung's training, in units of the first's."""
        return [self.factor**rung for rung in range(self.rungs)]

    def trials(self) -> list[dict[str, Any]]:
        """Settings of every trial, in an order that is a function of the plan."""
        if self.samples is None:
            lists = [values for values in self.space.values() if isinstance(values, list)]
            return [dict(zip(self.space, row, strict=True)) for row in itertools.product(*lists)]
        rng = random.Random(self.seed)
        return [
            {
                name: rng.choice(values) if isinstance(values, list) else values.draw(rng)
                for name, values in self.space.items()
            }
            for _ in range(self.samples)
        ]

    def plain(self) -> dict[str, Any]:
        """As YAML values."""
        return dataclasses.asdict(self)


def read_plan(path: Path) -> Plan:
    """Read a sweep file.

    Raises:
        UserError: It cannot be read or makes no sense.
    """
    remedy = "give a sweep such as space: {lrn_rate: [0.1, 0.01]}"
    loaded = read_yaml_file(path, where=f"--sweep {path}", remedy=remedy)
    try:
        plan = TypeAdapter(Plan).validate_python(loaded)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"--sweep {path}: {where}: {first['msg']}") from error
    _check(path, plan)  # in the file's spelling
    return dataclasses.replace(plan, space=canonical_settings(plan.space, of=f"--sweep {path}: "))


def _check(path: Path, plan: Plan) -> None:
    for name, values in plan.space.items():
        if isinstance(values, list) and not values:
            raise UserError(f"--sweep {path}: {name}: no value to try")
        if isinstance(values, Range) and not values.min < values.max:
            raise UserError(f"--sweep {path}: {name}: min must lie below max")
        if isinstance(values, Range) and values.log and values.min <= 0:
            raise UserError(f"--sweep {path}: {name}: log needs a min above 0")
        if isinstance(values, Range) and plan.samples is None:
            raise UserError(f"--sweep {path}: {name} is a range: say how many samples to draw")
    for name, least in (("samples", 1), ("rungs", 1), ("factor", 2)):
        value = getattr(plan, name)
        if value is not None and value < least:
            raise UserError(f"--sweep {path}: {name} {value}: must be at least {least}")
    if not plan.space:
        raise UserError(f"--sweep {path}: space: names no setting")
