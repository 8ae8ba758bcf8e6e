"""REST: new runs."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Response

from ws_learner.core import UserError
from ws_learner.service.answers import ChoicesAnswer, StartAnswer
from ws_learner.service.new_run import NewRun
from ws_learner.service.state import Service

__all__ = ["new_run_routes"]


def new_run_routes(service: Service) -> APIRouter:
    """`GET /experiments` and `POST /runs`."""
    router = APIRouter(tags=["new runs"])

    @router.get("/experiments")
    def experiments() -> ChoicesAnswer:
        """What a new run may name."""
        starter = service.may_start()
        return ChoicesAnswer(
            experiments=list(starter.experiments),
            protocols=list(starter.protocols),
            patterns=list(starter.patterns),
        )

    @router.post("/runs", status_code=201)
    def start(new: NewRun, response: Response, *, dry_run: bool = False) -> StartAnswer:
        """Check a new run as the command line does, and start it; `dry_run` only checks."""
        starter = service.may_start()
        try:
            plan = starter.plan(new)
        except UserError as error:
            raise HTTPException(422, {"problems": str(error).splitlines()}) from error
        checked = starter.check(plan)
        if checked.problems:
            raise HTTPException(422, {"problems": list(checked.problems), "command": plan.command})
        seconds = service.estimate(new).seconds
        if dry_run:
            response.status_code = 200
        else:
            starter.start(plan)
            service.forget(plan.id)
            response.headers["location"] = f"/runs/{plan.id}"
        return StartAnswer(
            id=plan.id,
            command=plan.command,
            estimate_s=seconds,
            notes=list(checked.notes),
            started=not dry_run,
        )

    return router
