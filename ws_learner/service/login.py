"""A browser brings the token once, in an address or a form, and keeps it as a cookie."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from ws_learner.service.templating import Pages, form_of
from ws_learner.service.tokens import same_token

__all__ = ["Login"]

_YEAR = 365 * 24 * 3600


class Login:
    """Compares tokens and sets the cookie.

    Args:
        pages: Fills the page that asks.
        token: Of the service.
        cookie: Name of the cookie.
    """

    def __init__(self, pages: Pages, *, token: str, cookie: str) -> None:
        self._pages, self._token, self._cookie = pages, token, cookie

    def answer(self, given: str, *, secure: bool) -> Response:
        """The list of runs and a cookie for the right token; else the page that asks again."""
        if not same_token(given, self._token):
            return self._pages.page("login", status=401, wrong=True)
        response = RedirectResponse("/", 303)
        response.set_cookie(
            self._cookie,
            self._token,
            max_age=_YEAR,
            httponly=True,
            samesite="strict",
            secure=secure,
        )
        return response

    def ask(self) -> Response:
        """The page for a browser without the token."""
        return self._pages.page("login", status=401, wrong=False)

    def routes(self) -> APIRouter:
        """The page that asks, and its form."""
        router = APIRouter(include_in_schema=False)

        @router.get("/login")
        def ask() -> Response:
            return self._pages.page("login", wrong=False)

        @router.post("/login")
        async def log_in(request: Request) -> Response:
            given = (await form_of(request)).get("token", "").strip()
            return self.answer(given, secure=request.url.scheme == "https")

        return router
