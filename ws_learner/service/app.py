"""The service as an ASGI application."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from ws_learner.core import UserError
from ws_learner.service.elsewhere import Elsewhere
from ws_learner.service.field_problems import field_problem
from ws_learner.service.guard import App, Guard, Receive, Send
from ws_learner.service.login import Login
from ws_learner.service.new_page import new_page_routes
from ws_learner.service.new_run import Starter
from ws_learner.service.pages import page_routes
from ws_learner.service.rest_files import file_routes
from ws_learner.service.rest_new import new_run_routes
from ws_learner.service.rest_runs import run_routes
from ws_learner.service.run_folder import NotThereError
from ws_learner.service.state import Service
from ws_learner.service.templating import Pages

__all__ = ["create_app"]


def create_app(
    folder: Path,
    *,
    token: str,
    hosts: Iterable[str],
    starter: Starter | None = None,
    elsewhere: Elsewhere | None = None,
    cookie: str = "ws_learner",
) -> App:
    """Build the service for the runs in a folder.

    Args:
        folder: Of the run directories; need not exist yet.
        token: Every request carries it, in the cookie or as Authorization: Bearer.
        hosts: Values of the Host header that are this service, such as `127.0.0.1:8400`.
        starter: Starts new runs; None for a service that only shows and stops.
        elsewhere: Knows the runs of a cluster, if there is one.
        cookie: Name of the cookie; two services on one host need two.

    Example:
        >>> app = create_app(Path("runs"), token="t" * 40, hosts=["127.0.0.1:8400"])
    """
    service = Service(folder, starter=starter, elsewhere=elsewhere)
    pages = Pages()
    login = Login(pages, token=token, cookie=cookie)
    app = FastAPI(
        title="Weight-sparse learner",
        description="Runs of a folder: list, watch, compare, start, stop, resume, download.",
        version=_version(),
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
    )
    for routes in (run_routes(service), new_run_routes(service), file_routes(service)):
        app.include_router(routes)
    for routes in (login.routes(), page_routes(service, pages, login)):
        app.include_router(routes)
    app.include_router(new_page_routes(service, pages))
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))

    def answer(request: Request, status: int, text: str) -> Response:
        page = "text/html" in request.headers.get("accept", "")
        if page and not request.url.path.startswith("/runs"):
            return pages.page("problem", status=status, text=text)
        return JSONResponse({"detail": text}, status)

    @app.exception_handler(NotThereError)
    def not_there(request: Request, error: NotThereError) -> Response:
        return answer(request, 404, str(error))

    @app.exception_handler(UserError)
    def refused(request: Request, error: UserError) -> Response:
        return answer(request, 409 if request.method == "POST" else 422, str(error))

    @app.exception_handler(RequestValidationError)
    def unread(request: Request, error: RequestValidationError) -> Response:
        problems = [field_problem(one) for one in error.errors()]
        return JSONResponse({"detail": {"problems": problems}}, 422)

    async def ask(scope: Any, receive: Receive, send: Send) -> None:
        await login.ask()(scope, receive, send)

    return Guard(app, token=token, hosts=hosts, cookie=cookie, refused=ask)


def _version() -> str:
    try:
        return version("weight-sparse-learner")
    except PackageNotFoundError:  # imported from a checkout
        return "0"
