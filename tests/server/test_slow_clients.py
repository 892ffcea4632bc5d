"""Clients that do not read, send a byte now and then, or leave: the others do not notice, and their connections are closed."""

import json
import socket
import struct
import threading
import time
from urllib.parse import urlsplit

import psutil
import pytest

from slimmoe.server import desk, protocol
from slimmoe.server.app import Server
from slimmoe.server.asked import Limits
from slimmoe.server.guard import Rules
from slimmoe.server.models import Models
from tests.server.serving import Client, serving
from tests.server.test_server import translated, under_way, until

HEAD = "%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


@pytest.fixture
def hurried(graph, monkeypatch):
    """A server that waits for seconds where it would for half a minute."""
    monkeypatch.setattr(protocol, "PATIENCE", 1.5)
    monkeypatch.setattr(protocol, "READING", 1.5)
    with serving(graph, limits=Limits(body_seconds=3)) as client:
        yield client


def connect(client: Client) -> socket.socket:
    """A connection whose buffer is small."""
    address = urlsplit(client.address)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(30)
    connection.connect((address.hostname, address.port))
    return connection


def connections(client: Client) -> int:
    port = urlsplit(client.address).port
    found = psutil.Process().net_connections("tcp")
    return sum(each.laddr.port == port and each.status == psutil.CONN_ESTABLISHED for each in found)


def test_one_who_does_not_read_a_document_is_cut_off_and_takes_no_memory(hurried) -> None:
    size = 24 << 20  # more than the system's buffers hold
    url = urlsplit(
        hurried.upload("/translate_file", "a.txt", b"\n" * size, source="en", target="de").json["translatedFileUrl"]
    ).path
    assert len(hurried.get(url).body) == size
    memory = psutil.Process().memory_info().rss
    hanging = [connect(hurried) for _ in range(8)]
    for each in hanging:
        each.sendall((HEAD % (f"GET {url}", 0)).encode())
    until(lambda: connections(hurried) >= 8)
    assert translated(hurried, "Save the file.")
    assert psutil.Process().memory_info().rss - memory < 4 * size  # not 8 times
    until(lambda: connections(hurried) == 0)
    for each in hanging:
        each.close()


def test_one_who_reads_slowly_but_reads_gets_it_all(hurried) -> None:
    size = 6 << 20
    url = urlsplit(
        hurried.upload("/translate_file", "a.txt", b"\n" * size, source="en", target="de").json["translatedFileUrl"]
    ).path
    connection = connect(hurried)
    connection.sendall((HEAD % (f"GET {url}", 0)).encode())
    found, started = 0, time.monotonic()
    while found < size and (piece := connection.recv(256 << 10)):
        found += len(piece)
        while time.monotonic() - started < 1.5 * found / size:  # three times READING in all
            time.sleep(0.01)
    connection.close()
    assert found >= size


def test_bytes_now_and_then_are_no_request(hurried) -> None:
    """Neither a head nor a body may come so; the others are answered meanwhile."""
    body = json.dumps({"q": "Save the file.", "source": "en", "target": "de"})
    ended: list[bytes] = []

    def drip(sent: bytes, at_once: int) -> None:
        connection = connect(hurried)
        connection.sendall(sent[:at_once])
        for byte in sent[at_once:]:
            try:
                connection.sendall(bytes([byte]))
            except OSError:
                break
            time.sleep(0.2)
        try:
            ended.append(connection.recv(1 << 16))
        except OSError:
            ended.append(b"")
        connection.close()

    head = (HEAD % ("POST /translate", len(body))).encode()
    threads = [threading.Thread(target=drip, args=(head + body.encode(), begun)) for begun in (1, len(head))]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert translated(hurried, "Save the file.")
    assert all(b"200 OK" not in each for each in ended)
    until(lambda: connections(hurried) == 0)


def test_one_who_aborts_leaves_nothing_under_way(hurried) -> None:
    """A reset in the middle of a stream: its sentences are decoded no more."""
    body = json.dumps({"text": "Save the file. " * 3000, "source": "en", "target": "de"})
    connection = connect(hurried)
    connection.sendall((HEAD % ("POST /page/translate", len(body)) + body).encode())
    assert connection.recv(10)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    assert translated(hurried, "Save the file.")
    until(lambda: under_way(hurried) == 0)


def test_one_who_waits_as_told_has_the_connection_still(tmp_path) -> None:
    """A connection is kept for longer than ``Retry-After`` says: a request on it would be lost in the moment it closes."""
    server = Server(Models([]), Rules(), Limits(), 0, tmp_path)
    server.stop()
    server.run()
    assert server._server.config.timeout_keep_alive >= 2 * desk.RETRY
