"""Who may ask: token, Host, Origin and the size of what is sent, before any route sees it.

A page on another site can make this machine's browser send requests here (CSRF), and can give its
own name this address (DNS rebinding). The first is met by the Origin, a cookie that other sites'
requests do not carry, and the lack of any permission for other origins; the second by the Host.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

from ws_learner.service.tokens import same_token

__all__ = ["CONTENT_POLICY", "FILE_POLICY", "REPORT_POLICY", "Guard"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""Our pages: nothing from elsewhere, no inline script or style."""

FILE_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Files of a run: shown without script and without this site's rights."""

REPORT_POLICY = (
    "sandbox allow-scripts allow-popups allow-modals; default-src 'none'; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""A run's report: its own script sorts tables, but has no origin, no cookie and no network."""

_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"same-origin",  # with no-referrer, forms would send the Origin null
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"content-security-policy": CONTENT_POLICY.encode(),
    b"cache-control": b"no-store",
}
_SECONDS_TO_SEND = 15.0
_OPEN = ("/static/", "/login")


class Guard:
    """Lets through what carries the token and comes from this site or from a program.

    Args:
        app: What answers.
        token: Of the service.
        hosts: Values of the Host header that are this service, with port, in lower case.
        cookie: Name of the pages' cookie.
        most: Bytes of a request's body.
        refused: Makes the answer to a browser without a token.
    """

    def __init__(
        self,
        app: App,
        *,
        token: str,
        hosts: Iterable[str],
        cookie: str,
        refused: App,
        most: int = 64 << 10,
    ) -> None:
        self._app, self._token, self._cookie, self._most = app, token, cookie, most
        self._hosts = frozenset(hosts)
        self._refused = refused

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no web sockets here
        send = _with_headers(send, keep=scope["path"].startswith("/static/"))
        headers = _headers(scope)
        problem = self._problem(scope, headers)
        if problem is not None:
            await _answer(send, *problem)
            return
        if not self._let_in(scope, headers):
            if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
                await self._refused(scope, receive, send)
            else:
                await _answer(send, 401, "give the token: Authorization: Bearer TOKEN")
            return
        body = await self._body(headers, receive)
        if isinstance(body, bytes):
            await self._app(scope, _replay(body, receive), send)
        else:
            await _answer(send, *body)

    def _problem(self, scope: Any, headers: dict[str, str]) -> tuple[int, str] | None:
        """Why a request is refused whoever sends it."""
        host, origin = headers.get("host", "").lower(), headers.get("origin")
        if host not in self._hosts:
            return 421, "this service is not reached under this Host name; see `allow_host`"
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "only GET, HEAD and POST are answered"
        ours = {f"{scheme}://{one}" for one in self._hosts for scheme in ("http", "https")}
        if origin is not None and origin.lower() not in ours:
            return 403, "requests of other sites' pages are refused (Origin)"
        if scope["method"] == "POST" and origin is None and not headers.get("authorization"):
            return 403, "a page's request names its Origin; programs send Authorization: Bearer"
        return None

    def _let_in(self, scope: Any, headers: dict[str, str]) -> bool:
        if scope["path"].startswith(_OPEN) or _asks_to_log_in(scope):
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return same_token(given.strip(), self._token)
        return same_token(_cookie(headers.get("cookie", ""), self._cookie), self._token)

    async def _body(self, headers: dict[str, str], receive: Receive) -> bytes | tuple[int, str]:
        """The body, or why it is refused."""
        too_much = 413, f"at most {self._most} bytes are read"
        length = headers.get("content-length", "0")
        if not length.isdigit() or len(length) > 12 or int(length) > self._most:
            return too_much
        body = b""
        try:
            async with asyncio.timeout(_SECONDS_TO_SEND):
                while True:
                    message = await receive()
                    body += bytes(message.get("body", b""))
                    if len(body) > self._most:
                        return too_much
                    if message["type"] != "http.request" or not message.get("more_body"):
                        return body
        except TimeoutError:
            return 408, f"the request did not arrive within {_SECONDS_TO_SEND:.0f} seconds"


def _asks_to_log_in(scope: Any) -> bool:
    return bool(scope["path"] == "/" and scope["query_string"].startswith(b"token="))


def _headers(scope: Any) -> dict[str, str]:
    """Headers by lower-case name; one that is there twice counts as empty."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        twice = key in found and key in ("host", "origin", "authorization", "content-length")
        found[key] = "twice" if twice else value.decode("latin-1")
    return found


def _cookie(text: str, name: str) -> str:
    try:
        morsel = SimpleCookie(text).get(name)
    except CookieError:
        return ""
    return morsel.value if morsel is not None else ""


def _replay(body: bytes, receive: Receive) -> Receive:
    """Hand out a body that was read already; then wait for the end of the connection."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _with_headers(send: Send, *, keep: bool) -> Send:
    """Add the headers of safety to an answer that does not set them itself."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", []))
            there = {name.lower() for name, _ in headers}
            there |= {b"cache-control"} if keep else set()
            headers += [(name, value) for name, value in _HEADERS.items() if name not in there]
            message["headers"] = headers
        await send(message)

    return sent


async def _answer(send: Send, status: int, text: str) -> None:
    import json

    body = json.dumps({"detail": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
