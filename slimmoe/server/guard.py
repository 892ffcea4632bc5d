"""What stands between the network and the server: who may ask, how much may come in, and what is noted of it.

A page of another site in the user's browser can send requests to this machine. It cannot change their ``Host``, which
unmasks a name that was bound to a local address (DNS rebinding), nor ``Origin`` and ``Sec-Fetch-Site``, which browsers set.
"""

import asyncio
import hmac
import ipaddress
import logging
import secrets
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slimmoe.server.asked import Limits, Refused
from slimmoe.server.metrics import Metrics

_LOG = logging.getLogger("slimmoe.server")
ROUTE = "slimmoe.route"  # of a scope, set by the route that answers
UPLOADS = ("/translate_file", "/v2/document", "/page/document")
PUBLIC = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Rules:
    """Who may ask.

    Attributes:
        host: the address that the server is bound to.
        key: what every request has to bring; empty: nothing.
        names: other names that the server may be called by, as behind a proxy.
        origins: pages and extensions of other origins that may ask.
    """

    host: str = "127.0.0.1"
    key: str = ""
    names: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()

    def key_fits(self, key: str) -> bool:
        """Whether a request with this key may go on; how long it takes tells nothing."""
        return not self.key or hmac.compare_digest(key.encode("utf-8", "surrogateescape"), self.key.encode())

    def host_fits(self, header: str) -> bool:
        """Whether a ``Host`` is an address or a known name: other names may be anybody's.

        Of a server for this machine alone, the address has to be this machine's.
        """
        try:
            name = urlsplit(f"//{header}").hostname or ""
            urlsplit(f"//{header}").port  # noqa: B018  raises where it is none
        except ValueError:
            return False
        if name in ("localhost", self.host.lower(), *(each.lower() for each in self.names)):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not is_loopback(self.host)

    def origin_fits(self, headers: Headers, scope: Scope) -> bool:
        """Whether the page that sends a request, if one does, is this server's own or an allowed one."""
        if (origin := headers.get("origin")) is not None:
            return origin in self.origins or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
        site = headers.get("sec-fetch-site", "none")
        visit = scope["method"] == "GET" and scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
        return site in ("none", "same-origin") or visit


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """An ASGI application around the server's own."""

    def __init__(self, app: ASGIApp, rules: Rules, limits: Limits, metrics: Metrics) -> None:
        self._app, self._rules, self._limits, self._metrics = app, rules, limits, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        number, started, status = secrets.token_hex(4), time.perf_counter(), 0
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answer = MutableHeaders(scope=message)
                answer["X-Request-Id"] = number
                for name, value in PUBLIC.items():
                    answer.setdefault(name, value)
                if origin in self._rules.origins:
                    answer["Access-Control-Allow-Origin"] = origin
                    answer["Vary"] = "Origin"
            await send(message)

        try:
            if (refused := self._refused(scope, headers)) is not None:
                closed = {"Connection": "close"}  # what follows may be the rest of its body
                await JSONResponse({"error": refused.sentence}, refused.status, closed)(scope, receive, noted)
            elif scope["method"] == "OPTIONS" and origin in self._rules.origins:
                allowed = {"Access-Control-Allow-Methods": "GET, POST, DELETE", "Access-Control-Max-Age": "600"}
                allowed["Access-Control-Allow-Headers"] = "Authorization, Content-Type"
                await JSONResponse(None, headers=allowed)(scope, receive, noted)
            else:
                await self._app(scope, self._limited(scope, receive), noted)
        finally:
            seconds = time.perf_counter() - started
            route = scope.get(ROUTE, "-")  # as it was written, never what a client puts into it
            self._metrics.request(route, status, seconds)
            _LOG.info("%s %s %s %d %.0f ms", number, scope["method"][:8], route, status, 1000 * seconds)

    def _refused(self, scope: Scope, headers: Headers) -> Refused | None:
        if len(headers.getlist("host")) != 1 or not self._rules.host_fits(headers["host"]):
            return Refused(403, "This name is not one of the server's: see slimmoe serve --allow-host.")
        if not self._rules.origin_fits(headers, scope):
            return Refused(403, "Pages of other sites may not ask: see slimmoe serve --allow-origin.")
        if "content-length" in headers and "transfer-encoding" in headers:
            return Refused(400, "A body has one length.")  # a proxy might believe the other one
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length[:20]) > self._largest(scope):
            return Refused(413, f"The body has more than {self._largest(scope)} bytes.")
        return None

    def _largest(self, scope: Scope) -> int:
        return self._limits.file if scope["path"] in UPLOADS else self._limits.body

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """``receive`` that gives up on a body that is too large or comes too slowly."""
        left, until, whole = self._largest(scope), time.monotonic() + self._limits.body_seconds, False

        async def limited() -> Message:
            nonlocal left, whole
            if whole:  # what comes now is the client's leaving
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, until - time.monotonic()))
            except TimeoutError:
                raise Refused(408, f"The body took longer than {self._limits.body_seconds:.0f} seconds.") from None
            left -= len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if left < 0:
                raise Refused(413, f"The body has more than {self._largest(scope)} bytes.")
            return message

        return limited
