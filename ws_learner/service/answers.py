"""What the REST routes answer, as OpenAPI describes it."""

from __future__ import annotations

import dataclasses
from typing import Self

from pydantic import BaseModel

from ws_learner.report import RunRow
from ws_learner.service.live import Live
from ws_learner.service.run_folder import RunFile

__all__ = ["ChoicesAnswer", "DetailAnswer", "RunAnswer", "StartAnswer"]


class RunAnswer(BaseModel):
    """A run; texts are empty and numbers null where nothing is known."""

    id: str
    state: str
    reason: str
    phase: str
    progress: float | None
    name: str
    tags: list[str]
    kind: str
    experiment: str
    method: str
    protocol: str
    target: str
    pattern: str
    metric: str
    unit: str
    measured_on: str
    dense: float | None
    sparse: float | None
    change: float | None
    size_bytes: int | None
    started: float
    changed: float

    @classmethod
    def of(cls, row: RunRow) -> Self:
        """The answer for a row."""
        values = {name: getattr(row, name) for name in cls.model_fields if hasattr(row, name)}
        return cls(**values | {"tags": list(row.tags)})


class PhaseAnswer(BaseModel):
    """A piece of work: `number` of `phases`, `done` of `total`, times in seconds."""

    phase: str
    number: int | None
    phases: int | None
    description: str
    done: float
    total: float
    elapsed_s: float
    left_s: float | None
    note: str
    current: bool


class BestAnswer(BaseModel):
    """The best of `rollouts` rollouts so far, and who proposed it."""

    rollout: int
    kind: str
    reward: float
    accuracy: float | None
    rollouts: int


class ProcessAnswer(BaseModel):
    """A process that works on a run."""

    pid: int
    worker: bool
    seconds: float
    megabytes: float


class FileAnswer(BaseModel):
    """A file of a run, at `/runs/{id}/files/{name}`."""

    name: str
    size: int


class DetailAnswer(BaseModel):
    """A run with what happens in it."""

    run: RunAnswer
    phases: list[PhaseAnswer]
    left_s: float | None
    best: BestAnswer | None
    processes: list[ProcessAnswer]
    log: list[str]
    files: list[FileAnswer]

    @classmethod
    def of(cls, live: Live, files: list[RunFile]) -> Self:
        """The answer for what a page shows."""
        found = live.search
        return cls(
            run=RunAnswer.of(live.row),
            phases=[
                PhaseAnswer(
                    current=one.current,
                    **{
                        name: getattr(one.line, name)
                        for name in PhaseAnswer.model_fields
                        if name != "current"
                    },
                )
                for one in live.phases
            ],
            left_s=live.now.command_left_s if live.now and live.row.state == "running" else None,
            best=None
            if found is None
            else BestAnswer(
                rollout=found.rollout,
                kind=found.kind,
                reward=found.reward,
                accuracy=found.accuracy,
                rollouts=len(found.rewards.points),
            ),
            processes=[ProcessAnswer(**dataclasses.asdict(one)) for one in live.processes],
            log=list(live.log),
            files=[FileAnswer(name=one.name, size=one.size) for one in files],
        )


class StartAnswer(BaseModel):
    """A run that was started, or would be: its id, its command, what would be adjusted."""

    id: str
    command: str
    estimate_s: float | None
    notes: list[str]
    started: bool


class ChoicesAnswer(BaseModel):
    """What `POST /runs` may name."""

    experiments: list[str]
    protocols: list[str]
    patterns: list[str]
