"""REST: the runs that there are, what happens in them, stop and resume."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header
from sse_starlette import EventSourceResponse, ServerSentEvent

from ws_learner.service.answers import DetailAnswer, RunAnswer
from ws_learner.service.feed import Event, Feeds
from ws_learner.service.state import Service

__all__ = ["run_routes"]


def run_routes(service: Service) -> APIRouter:
    """`GET /runs` and what belongs to one run."""
    router, feeds = APIRouter(tags=["runs"]), Feeds()

    @router.get("/runs")
    def runs() -> list[RunAnswer]:
        """All runs, newest first."""
        return [RunAnswer.of(row) for row in service.rows()]

    @router.get("/runs/{run}")
    def run(run: str) -> DetailAnswer:
        """A run, its phases, its files and its last lines."""
        return DetailAnswer.of(service.live(run), service.files(run))

    @router.post("/runs/{run}/stop")
    def stop(run: str) -> RunAnswer:
        """Interrupt a run as Ctrl-C does: it ends its workers and can be resumed."""
        service.stop(run)
        return RunAnswer.of(service.row(run))

    @router.post("/runs/{run}/resume")
    def resume(run: str) -> RunAnswer:
        """Go on with an interrupted run from its last checkpoint."""
        service.resume(run)
        return RunAnswer.of(service.row(run))

    @router.get("/runs/{run}/events", response_class=EventSourceResponse)
    def events(
        run: str, last_event_id: Annotated[str, Header()] = "", after: int = 0
    ) -> EventSourceResponse:
        """Server-sent events: `phase`, `progress` and `state` as the run writes them, then `end`.

        Ids count from 1. After a lost connection the stream goes on behind Last-Event-ID.
        """
        row = service.row(run)
        known = last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 16
        first = int(last_event_id) if known else max(after, 0)

        async def stream() -> AsyncIterator[ServerSentEvent]:
            async with feeds.of(row.path, lambda: service.state(run)) as feed:
                async for one in feed.events(first):
                    if isinstance(one, str):
                        service.forget(run)
                    yield _sent(one)

        return EventSourceResponse(stream(), ping=15)

    return router


def _sent(one: Event | str) -> ServerSentEvent:
    if isinstance(one, str):
        return ServerSentEvent(event="end", data=json.dumps({"state": one}))
    data = json.dumps(dataclasses.asdict(one.line))
    return ServerSentEvent(event=one.line.event, id=str(one.number), data=data)
