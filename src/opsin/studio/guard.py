"""Who may use the studio: a browser of this machine, on the studio's own pages; elsewhere, who knows the token.

Beyond the server's guard (`server/guard.py`) a browser is at work here: a request must come from the very origin that
it goes to, so that no page of another address, nor of another port of this machine, can ask or post.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opsin.server.guard import LOOPBACK_NAMES, Guard, host_of, is_loopback
from opsin.server.refusal import RequestError

COOKIE = "opsin-studio"
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""The content security policy of each page: scripts and styles are files of the studio, none stands in a page."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer browsers send forms with the origin "null"
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
"""Of each answer that does not say otherwise."""


class StudioGuard:
    """Checks each request.

    Args:
        host: address that the studio listens on.
        token: that a browser must show once; None makes one where other machines reach `host`.

    Raises:
        ConfigError: a token that is too short, or not ASCII.
    """

    def __init__(self, host: str, token: str | None = None) -> None:
        self.token = token if token is not None or is_loopback(host) else secrets.token_urlsafe(18)
        Guard(host=host, token=self.token)  # refuses a token that is too short
        self._host = host

    @property
    def cookie(self) -> str | None:
        """What a browser that has shown the token carries from then on; None where no token is asked for."""
        return None if self.token is None else hashlib.sha256(self.token.encode()).hexdigest()

    def check(self, request: Request) -> None:
        """Refuse a request that may not be made.

        Raises:
            RequestError: 401 without the token; 403 for another host, or from another origin.
        """
        self._check_host(request)
        self.check_origin(request)
        if self.cookie is not None and not _equal(request.cookies.get(COOKIE, ""), self.cookie):
            raise RequestError(401, "a token is needed", do="open the address that `opsin studio` has printed")

    def entrance(self, request: Request) -> Response | None:
        """Where a request shows the right token in its address: a way on without it, with the cookie."""
        shown = request.query_params.get("token")
        if self.token is None or self.cookie is None or shown is None or not _equal(shown, self.token):
            return None
        answer = RedirectResponse(request.url.path, 303)
        answer.set_cookie(COOKIE, self.cookie, httponly=True, samesite="strict", path="/")
        return answer

    def _check_host(self, request: Request) -> None:
        host = host_of(request.headers.get("host", ""))
        if self.token is None and host not in LOOPBACK_NAMES | {self._host}:
            raise RequestError(403, "another host is asked for", got=host, expected=self._host)

    def check_origin(self, request: Request) -> None:
        """Refuse a request that a page of another origin makes; to follow a link from there is allowed.

        Raises:
            RequestError: 403.
        """
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
            raise RequestError(403, "pages of other addresses may not ask", got=origin)
        followed = request.method == "GET" and request.headers.get("sec-fetch-mode") == "navigate"
        if site not in (None, "same-origin", "none") and not followed:
            raise RequestError(403, "pages of other addresses may not ask", got=site)


class Guarded:
    """The middleware that asks the guard before all else, and puts `HEADERS` on each answer.

    Args:
        app: what is guarded.
        guard: who decides.
    """

    def __init__(self, app: ASGIApp, guard: StudioGuard) -> None:
        self._app, self._guard = app, guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._answer(Request(scope))
        await (answer or self._app)(scope, receive, with_headers)

    def _answer(self, request: Request) -> Response | None:
        """A refusal, or the way in; None lets the request pass."""
        try:
            if (entrance := self._guard.entrance(request)) is not None:
                self._guard.check_origin(request)
                return entrance
            self._guard.check(request)
        except RequestError as error:
            return PlainTextResponse(f"{error}\n", error.status)
        return None


def _equal(a: str, b: str) -> bool:
    return hmac.compare_digest(a.encode(), b.encode())
