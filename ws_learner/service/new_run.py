"""What a new run may be asked for, and who starts it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ws_learner.core import read_share

__all__ = ["Checked", "NewRun", "Plan", "Starter"]


class NewRun(BaseModel):
    """A run to start: an experiment that the service was started with, and a few settings."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    experiment: str = Field(max_length=300, description="one of GET /experiments")
    prune_ratio: float | None = Field(None, gt=0, lt=1, description="share of zero weights")
    budget: str | None = Field(None, max_length=100, description="such as macs=0.3")
    protocol: str | None = Field(None, max_length=40, description="who chooses the layers' ratios")
    pattern: str | None = Field(None, max_length=60, description="what is pruned together")
    rollouts: int | None = Field(None, ge=1, le=1_000_000, description="of a search")
    minutes: float | None = Field(None, gt=0, le=1e6, description="of a search, not rollouts")
    epochs: float | None = Field(None, gt=0, le=1e6, description="of the sparse training")
    workers: int | None = Field(None, ge=0, le=1024, description="processes; 0 for none")
    seed: int | None = Field(None, ge=0, lt=2**63, description="fixes everything random")
    name: str | None = Field(None, max_length=60, description="shown in lists")

    @field_validator("budget", "protocol", "pattern", "name", mode="before")
    @classmethod
    def _plain(cls, value: object) -> object:
        if isinstance(value, str):
            value = value.strip() or None
        if isinstance(value, str) and not (value.isprintable() and not value.startswith("-")):
            raise ValueError("must be printable and not begin with -")
        return value

    @field_validator("prune_ratio", mode="before")
    @classmethod
    def _share(cls, value: object) -> object:
        if isinstance(value, str) and value.strip().endswith("%"):
            try:
                return read_share(value)
            except ValueError:
                return value  # refused as no number
        return value

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if self.prune_ratio is not None and self.budget is not None:
            raise ValueError("give a prune ratio or a budget, not both")
        if self.rollouts is not None and self.minutes is not None:
            raise ValueError("give rollouts or minutes, not both")
        return self


@dataclass(frozen=True)
class Plan:
    """What a request stands for.

    Attributes:
        id: Of the run; the same request has the same.
        command: The command line, as one would type it.
        words: Its words after the command, with the run's directory.
    """

    id: str
    command: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Checked:
    """What the checks of the command line say.

    Attributes:
        problems: Why it would be refused; empty if it would not.
        notes: What would be adjusted, or has no effect.
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Starter(Protocol):
    """Starts runs; the command line implements it. Methods may take seconds."""

    @property
    def experiments(self) -> tuple[str, ...]:
        """The experiments that may be started."""

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols that may be asked for."""

    @property
    def patterns(self) -> tuple[str, ...]:
        """Spellings of patterns, as suggestions."""

    def plan(self, new: NewRun) -> Plan:
        """The command that a request stands for.

        Raises:
            UserError: The experiment is none of those.
        """

    def check(self, plan: Plan) -> Checked:
        """Check as the command line does, in a process that ends before the work."""

    def start(self, plan: Plan) -> None:
        """Start, or go on with, a run; return once its process is there.

        Raises:
            UserError: It runs already, has finished, or too many run.
        """

    def resume(self, run: str) -> None:
        """Go on with an interrupted run.

        Raises:
            UserError: It runs, has finished, or is of an experiment that may not be started.
        """
