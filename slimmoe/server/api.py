"""What the adapters of all APIs share: a request's values, its key, its texts; and an answer's form where it is refused."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Match, Route

from runtime.errors import RequestError, SlimmoeError
from slimmoe.server.asked import Answer, Ask, Limits, Refused
from slimmoe.server.desk import Desk
from slimmoe.server.fields import Fields, read_fields
from slimmoe.server.guard import ROUTE, Rules
from slimmoe.server.jobs import Jobs
from slimmoe.server.kept import Kept
from slimmoe.server.metrics import Metrics
from slimmoe.server.service import Service

_LOG = logging.getLogger("slimmoe.server")
Handler = Callable[[Request, Fields], Awaitable[Response]]
ErrorForm = Callable[[int, str], Any]  # of a status and a sentence, the JSON of an answer


@dataclass
class Api:
    """What a handler needs."""

    service: Service
    desk: Desk
    rules: Rules
    limits: Limits
    metrics: Metrics
    kept: Kept
    jobs: Jobs

    def route(self, path: str, handler: Handler, *methods: str, public: bool = False) -> Route:
        """A route whose requests are read, and have to bring the key unless they are ``public``."""

        async def respond(request: Request) -> Response:
            request.scope[ROUTE] = path
            if not public and request.headers.get("authorization"):
                self._check(_bearer(request))  # before a body is read
            fields = await read_fields(request)
            if not public:
                self._check(_bearer(request) or fields.text("api_key") or fields.text("auth_key"))
            return await handler(request, fields)

        return Route(path, respond, methods=list(methods or ("GET",)))

    def _check(self, key: str) -> None:
        if not self.rules.key_fits(key):
            raise Refused(403, "Invalid API key" if key else "Please contact the server operator to get an API key")

    def check_texts(self, texts: list[str]) -> tuple[str, ...]:
        """The texts of a request.

        Raises:
            Refused: there are too many, or they are too long.
        """
        said = "Invalid request: request ({}) exceeds text limit ({})"
        if len(texts) > self.limits.texts:
            raise Refused(400, said.format(len(texts), self.limits.texts))
        if (size := sum(map(len, texts))) > self.limits.characters:
            raise Refused(400, said.format(size, self.limits.characters))
        return tuple(texts)

    async def translate(self, request: Request, ask: Ask) -> Answer:
        """Translate texts, unless their client goes away."""
        self.check_texts(list(ask.texts))
        return await self.desk.run(request, lambda work: self.service.translate(ask, work))


def _bearer(request: Request) -> str:
    """The key in ``Authorization``, by whichever API's word."""
    return request.headers.get("authorization", "").partition(" ")[2].strip()


def download(name: str, size: int, pieces: Iterator[bytes]) -> Response:
    """A file to be saved, which no browser shows as a page of this server; it is read as fast as its client reads."""
    plain = "".join(each if each.isascii() and (each.isalnum() or each in "._-") else "_" for each in name)
    disposition = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
    headers = {"Content-Disposition": disposition, "Content-Length": str(size)}
    return StreamingResponse(pieces, media_type="application/octet-stream", headers=headers)


def events(told: AsyncIterator[str]) -> Response:
    """Server-sent events, each of which is JSON; a proxy is asked not to hold them back."""

    async def lines() -> AsyncIterator[str]:
        async for each in told:
            yield f"data: {each}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


def _usual(status: int, sentence: str) -> Any:
    return {"error": sentence}


def error_handlers(forms: dict[str, ErrorForm]) -> dict[Any, Callable[[Request, Any], Awaitable[Response]]]:
    """What is answered to each kind of failure.

    Args:
        forms: by the beginning of paths; others have LibreTranslate's.
    """

    def answer(request: Request, status: int, sentence: str, retry: int | None = None) -> Response:
        form = next((form for begin, form in forms.items() if request.url.path.startswith(begin)), _usual)
        headers = {"Retry-After": str(retry)} if retry is not None else {}
        found = form(status, sentence)
        if isinstance(found, tuple):  # a status of its own
            status, found = found
        return JSONResponse(found, status, headers)

    async def refused(request: Request, error: Refused) -> Response:
        return answer(request, error.status, error.sentence, error.retry_after)

    async def failed(request: Request, error: SlimmoeError) -> Response:
        if not isinstance(error, RequestError):
            _LOG.error("failed: %s", error.sentence)
        return answer(request, 400 if isinstance(error, RequestError) else 500, error.sentence)

    async def http(request: Request, error: HTTPException) -> Response:
        response = answer(request, error.status_code, str(error.detail))
        response.headers.update(error.headers or {})
        if error.status_code == 405:  # several routes may have the path
            fitting = [each for each in request.app.routes if each.matches(request.scope)[0] is not Match.NONE]
            response.headers["Allow"] = ", ".join(sorted({method for each in fitting for method in each.methods}))
        return response

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=499)  # nobody reads it; the log has it

    async def mistake(request: Request, error: Exception) -> Response:
        _LOG.error("a mistake in slimmoe: %s", type(error).__name__, exc_info=error)
        return answer(request, 500, "The server has failed; its log says how.")

    return {
        Refused: refused,
        SlimmoeError: failed,
        HTTPException: http,
        ClientDisconnect: gone,
        Exception: mistake,
    }
