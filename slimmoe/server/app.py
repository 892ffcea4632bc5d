"""The server as a whole: its parts put together, and run until a signal comes."""

import asyncio
import contextlib
import logging
import math
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from runtime.errors import RequestError
from slimmoe.server import apertium, deepl, libretranslate, openai, page, protocol
from slimmoe.server.api import Api, error_handlers
from slimmoe.server.asked import Limits
from slimmoe.server.desk import Desk
from slimmoe.server.guard import Guard, Rules, is_loopback
from slimmoe.server.jobs import Jobs
from slimmoe.server.kept import Kept, forget_elsewhere, state_folder
from slimmoe.server.metrics import Metrics
from slimmoe.server.models import Models
from slimmoe.server.protocol import ImpatientProtocol
from slimmoe.server.service import Service

GRACE = 30  # seconds that requests under way have to end in when the server is stopped
SHORTEST_KEY = 16
CONNECTIONS = 400  # beside those of requests under way
FORGET_EVERY = 60.0  # seconds


def check_rules(rules: Rules) -> None:
    """Refuse to serve other machines without a key.

    Raises:
        RequestError: the address is not this machine's alone and there is no key, or one that is easily guessed.
    """
    generated = "SLIMMOE_API_KEY=$(openssl rand -hex 16) slimmoe serve ... (the same options)"
    if not rules.key and not is_loopback(rules.host):
        raise RequestError(f"{rules.host} can be reached by others, who need a key.", next_command=generated)
    if rules.key and (len(rules.key) < SHORTEST_KEY or not rules.key.isascii()):
        sentence = f"A key has at least {SHORTEST_KEY} characters, of ASCII."
        raise RequestError(sentence, next_command=generated)


def all_routes(api: Api) -> list[Route]:
    """The routes of the page and of every API."""
    return [route for each in (page, libretranslate, openai, deepl, apertium) for route in each.routes(api)]


def listen(host: str, port: int) -> socket.socket:
    """A socket that waits for clients.

    Raises:
        RequestError: the port is taken, or the address is not this machine's.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=256)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RequestError(
            f"{host} port {port} cannot be served: {reason}.",
            next_command=f"the same with --port {min(port + 1, 65535)}",
        ) from None


async def _forget(kept: Kept) -> None:
    while True:
        await asyncio.sleep(FORGET_EVERY)
        kept.forget()


class Server:
    """A server that listens: clients can connect, and are answered once it runs.

    Args:
        port: 0: any that is free.
        state: where documents and glossaries are kept; default: a folder of the address.

    Raises:
        RequestError: the rules are not safe, the port is taken, or another server has the folder.
    """

    def __init__(self, models: Models, rules: Rules, limits: Limits, port: int, state: Path | None = None) -> None:
        check_rules(rules)
        self._socket = listen(rules.host, port)
        host = f"[{rules.host}]" if ":" in rules.host else rules.host
        self.address = f"http://{host}:{self._socket.getsockname()[1]}"
        metrics = Metrics()
        folder = state or state_folder(self.address.removeprefix("http://"))
        try:
            kept = Kept(folder, limits)
        except RequestError:
            self._socket.close()
            raise
        if state is None:
            forget_elsewhere(folder, limits)
        desk, service = Desk(limits, metrics), Service(models)
        api = Api(service, desk, rules, limits, metrics, kept, Jobs(kept, desk, service))
        self.routes = all_routes(api)

        @contextlib.asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            loop = asyncio.get_running_loop()
            loop.run_in_executor(None, api.service.detect, ["first"])  # its data takes a second to be read
            background = [asyncio.create_task(each) for each in (api.jobs.go_on(), _forget(kept))]
            try:
                yield
            finally:
                for each in background:
                    each.cancel()
                api.desk.end()
                models.close()
                api.kept.close()

        forms = {each.PREFIX: each.error_form for each in (openai, deepl)}
        app = Starlette(routes=self.routes, exception_handlers=error_handlers(forms), lifespan=lifespan)
        config = uvicorn.Config(
            Guard(app, rules, limits, metrics),
            log_config=None,
            access_log=False,
            proxy_headers=True,  # of a proxy on this machine, or at FORWARDED_ALLOW_IPS; who may ask does not depend on them
            server_header=False,
            ws="none",
            http=ImpatientProtocol,
            timeout_keep_alive=math.ceil(protocol.PATIENCE),  # who comes again after RETRY finds the connection open
            limit_concurrency=limits.queue + CONNECTIONS,
            timeout_graceful_shutdown=GRACE,
        )
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        self._server = uvicorn.Server(config)

    def run(self) -> None:
        """Serve until ``stop``, SIGTERM or Ctrl-C: what is under way then is finished, for half a minute."""
        with contextlib.closing(self._socket), contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it once more
            self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Let ``run`` come to its end, from another thread."""
        self._server.should_exit = True
