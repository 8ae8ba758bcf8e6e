"""The page of a new run: a form, the command that it stands for, and its checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from ws_learner.core import UserError
from ws_learner.service.field_problems import field_problem
from ws_learner.service.new_run import NewRun
from ws_learner.service.state import Service
from ws_learner.service.templating import Pages, form_of

__all__ = ["new_page_routes"]


def new_page_routes(service: Service, pages: Pages) -> APIRouter:
    """`/new`: the form, and what its two buttons do."""
    router, page = APIRouter(include_in_schema=False), _Page(service, pages)

    @router.get("/new")
    def new() -> Response:
        return page.show({})

    @router.post("/new")
    async def check_or_start(request: Request) -> Response:
        return await run_in_threadpool(page.answer, await form_of(request))

    return router


class _Page:
    def __init__(self, service: Service, pages: Pages) -> None:
        self._service, self._pages = service, pages

    def show(self, form: Mapping[str, str], *, status: int = 200, **values: Any) -> Response:
        """The page, with what was typed."""
        known = {"plan": None, "checked": None, "estimate": None, "problems": ()}
        typed = dict.fromkeys(NewRun.model_fields, "") | dict(form)
        starter = self._service.starter
        return self._pages.page("new", status=status, starter=starter, form=typed, **known | values)

    def answer(self, form: dict[str, str]) -> Response:
        """Check what a form asks for; start it if its second button was pressed."""
        starts = form.pop("action", "") == "start"
        starter = self._service.may_start()
        try:
            new = NewRun.model_validate({name: text for name, text in form.items() if text.strip()})
            plan = starter.plan(new)
        except ValidationError as error:
            said = [field_problem(one) for one in error.errors(include_url=False)]
            return self.show(form, status=422, problems=said)
        except UserError as error:
            return self.show(form, status=422, problems=str(error).splitlines())
        checked = starter.check(plan)
        known: dict[str, Any] = {
            "plan": plan,
            "checked": checked,
            "estimate": self._service.estimate(new),
        }
        if checked.problems:
            return self.show(form, status=422, problems=checked.problems, **known)
        if not starts:
            return self.show(form, **known)
        try:
            starter.start(plan)
        except UserError as error:
            return self.show(form, status=409, problems=[str(error)], **known)
        self._service.forget(plan.id)
        return RedirectResponse(f"/view/{plan.id}", 303)
