"""A server on this machine in a thread of the test, and a client that says what came back."""

import contextlib
import http.client
import json
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from starlette.routing import Route

from runtime.text.pairs import parse_pair
from slimmoe.server.app import Server
from slimmoe.server.asked import Limits
from slimmoe.server.guard import Rules
from slimmoe.server.models import Models, find_models

PAIRS = ("en-de", "de-en", "en-es", "en-pt-BR", "zh-Hans-en")


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Client:
    """Asks a server; each request has a connection of its own."""

    address: str
    routes: Sequence[Route] = ()

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=60)

    def ask(
        self, method: str, path: str, body: bytes | str | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        connection = self.connection()
        try:
            connection.request(method, path, body.encode() if isinstance(body, str) else body, dict(headers or {}))
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, values: Any, **headers: str) -> Reply:
        return self.ask("POST", path, json.dumps(values), {"Content-Type": "application/json", **headers})

    def form(self, path: str, **values: Any) -> Reply:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.ask("POST", path, urlencode(values, doseq=True), kind)

    def upload(self, path: str, name: str, data: bytes, **values: str) -> Reply:
        parts = [f'--xx\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{text}' for key, text in values.items()]
        head = f'--xx\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        body = b"\r\n".join([*(part.encode() for part in parts), head.encode() + data, b"--xx--\r\n"])
        return self.ask("POST", path, body, {"Content-Type": "multipart/form-data; boundary=xx"})


@contextlib.contextmanager
def serving(
    *artefacts: Path,
    rules: Rules | None = None,
    limits: Limits | None = None,
    memory: int | None = None,
    state: Path | None = None,
) -> Iterator[Client]:
    """A server of artefacts, with one thread for each batch."""
    models = Models(find_models([str(each) for each in artefacts], [parse_pair(each) for each in PAIRS]), 1, memory)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(models, rules or Rules(), limits or Limits(), 0, state or Path(folder))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield Client(server.address, server.routes)
        finally:
            server.stop()
            thread.join()
