"""The pages: list, run, compare."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from ws_learner.report import compare_runs
from ws_learner.service.login import Login
from ws_learner.service.state import Service
from ws_learner.service.templating import Pages

__all__ = ["page_routes"]


def page_routes(service: Service, pages: Pages, login: Login) -> APIRouter:
    """The routes of the pages about runs that there are."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def home(request: Request) -> Response:
        given = request.query_params.get("token")
        if given is not None:
            return login.answer(given, secure=request.url.scheme == "https")
        return pages.page(
            "list", rows=service.rows(), starter=service.starter, folder=service.folder.path.name
        )

    @router.get("/rows")
    def rows() -> Response:
        return pages.page("rows", rows=service.rows())

    @router.get("/view/{run}")
    def view(run: str) -> Response:
        found, files = service.live(run), service.files(run)
        return pages.page("run", live=found, row=found.row, files=files, starter=service.starter)

    @router.get("/view/{run}/live")
    def live(run: str) -> Response:
        found = service.live(run)
        return pages.page("live", live=found, row=found.row)

    @router.post("/view/{run}/stop")
    def stop(run: str) -> Response:
        service.stop(run)
        return RedirectResponse(f"/view/{run}", 303)

    @router.post("/view/{run}/resume")
    def resume(run: str) -> Response:
        service.resume(run)
        return RedirectResponse(f"/view/{run}", 303)

    @router.get("/compare")
    def compare(run: Annotated[list[str] | None, Query(max_length=50)] = None) -> Response:
        paths = [service.folder.run(name) for name in dict.fromkeys(run or [])]
        return pages.page("compare", found=compare_runs(paths), starter=service.starter)

    return router
