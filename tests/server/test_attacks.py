"""What a server must withstand, each a line of a table: what is sent, and what comes of it."""

import io
import json
import logging
import re
import socket
import stat
import tempfile
import zipfile
from urllib.parse import urlsplit

import pytest

from slimmoe.server.asked import Limits
from slimmoe.server.guard import Rules
from tests.server.serving import Client, serving
from tests.server.test_server import under_way, until

KEY = "0123456789abcdef0123456789abcdef"
EN_DE = {"q": "Save.", "source": "en", "target": "de"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def locked(graph):
    """A server with a key, small limits and another name."""
    limits = Limits(body=20_000, file=50_000, body_seconds=0.5)
    rules = Rules(key=KEY, names=("translate.example.org",), origins=("moz-extension://abc",))
    with serving(graph, rules=rules, limits=limits) as client:
        yield client


# Headers that a browser sends for a page of another site, or that a name bound to this machine's address comes with.
@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/translate", {"Host": "evil.example"}, 403),
        ("GET", "/", {"Host": "evil.example:5000"}, 403),
        ("GET", "/languages", {"Host": "localhost.evil.example"}, 403),
        ("GET", "/languages", {"Host": "127.0.0.1.evil.example"}, 403),
        ("GET", "/languages", {"Host": "192.168.1.7"}, 403),
        ("GET", "/languages", {"Host": "2130706433"}, 403),
        ("GET", "/languages", {"Host": ""}, 403),
        ("GET", "/languages", {"Host": "localhost@evil.example"}, 403),
        ("GET", "/languages", {"Host": "localhost:x"}, 403),
        ("GET", "/languages", {"Host": "[::1"}, 403),
        ("GET", "/languages", {"Host": "localhost:5000"}, 200),
        ("GET", "/languages", {"Host": "[::1]:5000"}, 200),
        ("POST", "/translate", {"Origin": "https://evil.example"}, 403),
        ("POST", "/translate", {"Origin": "null"}, 403),
        ("POST", "/translate", {"Origin": "http://localhost:9999"}, 403),
        ("GET", "/languages", {"Origin": "https://evil.example"}, 403),
        ("OPTIONS", "/translate", {"Origin": "https://evil.example"}, 403),
        ("GET", "/translate?langpair=en%7Cde&q=1", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ("GET", "/translate?langpair=en%7Cde&q=1", {"Sec-Fetch-Site": "same-site"}, 403),
        ("GET", "/metrics", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
        ("GET", "/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ("GET", "/languages", {"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_other_sites_may_not_ask(client, method: str, path: str, headers: dict, status: int) -> None:
    body = json.dumps(EN_DE) if method == "POST" else None
    reply = client.ask(method, path, body, {**JSON, **headers})
    assert reply.status == status and "access-control-allow-origin" not in reply.headers


def test_an_allowed_origin_and_name_may_ask_with_the_key(locked) -> None:
    origin, key = {"Origin": "moz-extension://abc"}, {"Authorization": f"Bearer {KEY}"}
    asked = locked.ask("OPTIONS", "/translate", headers=origin)
    assert asked.status == 200 and asked.headers["access-control-allow-origin"] == origin["Origin"]
    reply = locked.ask("POST", "/translate", json.dumps(EN_DE), {**JSON, **origin, **key})
    assert reply.status == 200 and reply.headers["access-control-allow-origin"] == origin["Origin"]
    assert locked.ask("GET", "/languages", headers={"Host": "Translate.Example.org", **key}).status == 200
    assert locked.ask("GET", "/languages", headers={"Origin": "moz-extension://abcd", **key}).status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {KEY[:-1]}"},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": f"Bearer {KEY.upper()}"},
        {"Authorization": "Bearer \xff\xfe"},
        {"X-Forwarded-For": "127.0.0.1"},
    ],
)
def test_without_the_key_nothing_but_what_is_public_is_answered(locked, headers: dict) -> None:
    """All routes are asked, so that a new one cannot be forgotten."""
    open_ones, asked = set(), 0
    for route in locked.routes:
        path = re.sub(r"\{\w+\}", "x", route.path)
        for method in sorted(route.methods - {"HEAD"}):
            asked += 1
            if locked.ask(method, path, b"{}", {**JSON, **headers}).status not in (401, 403):
                open_ones.add(path)
    assert asked > 30
    assert open_ones == {
        *("/", "/page/app.js", "/page/style.css", "/page/icon.svg"),
        *("/health", "/spec", "/frontend/settings", "/download_file/x"),
    }


@pytest.mark.parametrize(
    ("path", "values", "headers"),
    [
        ("/translate", {**EN_DE, "api_key": KEY}, {}),
        ("/translate", EN_DE, {"Authorization": f"Bearer {KEY}"}),
        ("/v2/translate", {"text": ["1"], "target_lang": "DE"}, {"Authorization": f"DeepL-Auth-Key {KEY}"}),
    ],
)
def test_with_the_key_each_api_answers_in_its_way(locked, path: str, values: dict, headers: dict) -> None:
    assert locked.post(path, values, **headers).status == 200


DEEP = b'{"q":' + b"[" * 5000 + b"]" * 5000 + b"}"


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b"{", 400),
        ("application/json", b"[1]", 400),
        ("application/json", b"null", 400),
        ("application/json", b'"q"', 400),
        ("application/json", b"\xff\xfe{", 400),
        ("application/json", DEEP, 400),
        ("application/json", b'{"q": "x", "source": "en", "target": "de", "alternatives": ' + b"9" * 9000 + b"}", 400),
        ("application/json", b'{"q": {"a": 1}, "source": "en", "target": "de"}', 400),
        ("application/json", b'{"q": "x", "source": ["en"], "target": {"a": 1}}', 400),
        ("application/json", b'{"q": "\\ud800", "source": "en", "target": "de"}', 400),
        ("application/json", b'{"q": "1", "source": "en\\u0000", "target": "de"}', 400),
        ("text/xml", b"<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>", 415),
        ("text/plain", b"q=x&source=en&target=de", 415),
        ("multipart/form-data", b"x", 400),
        ("multipart/form-data; boundary=xx", b"--xx\r\nx\r\n", 400),
        ("application/x-www-form-urlencoded", b"&".join(b"a%d=1" % number for number in range(1900)), 400),
        ("application/x-www-form-urlencoded", b"q=%ff%fe&source=en", 400),
        ("application/json", b" " * 20_001, 413),
    ],
)
def test_bodies_that_are_no_request(locked, kind: str, body: bytes, status: int) -> None:
    reply = locked.ask("POST", "/translate", body, {"Content-Type": kind, "Authorization": f"Bearer {KEY}"})
    assert reply.status == status and "error" in reply.json and "Traceback" not in reply.body.decode()
    assert locked.get("/health").status == 200


def zipped(**files: bytes) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/"), data)
    return written.getvalue()


LAUGHS = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
BOMB = (
    f'<!DOCTYPE x [<!ENTITY a0 "ha">{LAUGHS}]><xliff version="1.2"><file source-language="en"><body><trans-unit id="1">'
)
BOMB += "<source>&a9;</source></trans-unit></body></file></xliff>"
XXE = BOMB.replace(LAUGHS, '<!ENTITY a9 SYSTEM "file:///etc/passwd">')


@pytest.mark.parametrize(
    ("name", "data", "status"),
    [
        ("a.docx", zipped(**{"word/document.xml": b"<w:document " + b" " * 20_000_000}), 400),
        ("a.docx", zipped(**{"../../../tmp/x.xml": b"x", "word/document.xml": b"x"}), 400),
        ("a.xliff", BOMB.encode(), 400),
        ("a.xliff", XXE.encode(), None),
        ("a.json", b"[" * 40_000, 400),
        ("a.yaml", b"a: &a [1,1]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]\n", None),
        ("a.html", b"<div>" * 9_000, 200),
        ("../../../etc/passwd", b"x", 400),
        ("a.txt\x00.exe", b"x", 400),
        ("a.sh", b"rm", 400),
        ("", b"x", 400),
        ("a.txt", b"x" * 50_001, 413),
    ],
)
def test_documents_that_are_attacks(locked, name: str, data: bytes, status: int | None) -> None:
    reply = locked.upload("/translate_file", name, data, source="en", target="de", api_key=KEY)
    assert reply.status == status or (status is None and reply.status in (200, 400))
    if reply.status == 200:
        done = locked.get(urlsplit(reply.json["translatedFileUrl"]).path)
        assert b"root:" not in done.body and done.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(
    "path",
    [
        "/download_file/..%2f..%2fetc%2fpasswd",
        "/download_file/../../etc/passwd",
        "/download_file/%00",
        "/download_file/.",
        "/page/..%2fapp.py",
        "/page/../app.py",
        "/page//etc/passwd",
        "/page/app.py",
        "/v1/models/..%2f..%2fetc",
        "//etc/passwd",
    ],
)
def test_no_path_reaches_the_file_system(client, path: str) -> None:
    reply = client.get(path)
    assert reply.status == 404 and b"root:" not in reply.body and b"import " not in reply.body


def test_what_is_answered_is_no_page_of_anybody_s(client) -> None:
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert page.headers["x-content-type-options"] == "nosniff" and "server" not in page.headers
    markup = "<script>alert(1)</script>"
    reply = client.post("/translate", {**EN_DE, "target": markup})
    assert reply.headers["content-type"] == "application/json" and reply.headers["x-content-type-options"] == "nosniff"
    uploaded = client.upload("/translate_file", 'a"\r\nSet-Cookie: x=1.html', markup.encode(), source="en", target="de")
    if uploaded.status == 200:
        done = client.get(urlsplit(uploaded.json["translatedFileUrl"]).path)
        assert "set-cookie" not in done.headers and done.headers["content-disposition"].startswith("attachment")
    for name in ("index.html", "app.js", "style.css"):
        text = client.get("/" if name == "index.html" else f"/page/{name}").body.decode()
        assert not re.search(
            r"https?://|innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|\bon\w+=|style=", text
        )


def raw(client: Client, *parts: bytes, end: bool = True) -> bytes:
    """What comes back for bytes as they are."""
    address = urlsplit(client.address)
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
        if not end:
            return b""
        found = b""
        while chunk := connection.recv(65536):
            found += chunk
        return found


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", (400, 403)),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\nConnection: close\r\n\r\n", (400, 403)),
        (b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", (400, 404)),
        (b"POST /translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", (400, 413)),
        (b"POST /translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n", (400, 413)),
        (
            b"POST /translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            (400,),
        ),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000 + b"\r\n\r\n", (400, 431)),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", (400,)),
        (b"POST /translate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
         b"Transfer-Encoding: chunked\r\n\r\n" + b"6000\r\n" + b"x" * 0x6000 + b"\r\n0\r\n\r\n", (413,)),
        (b"POST /translate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
         b"Content-Length: 50\r\n\r\n{",
         (408,)),
    ],
)  # fmt: skip
def test_bytes_that_are_no_http(locked, sent: bytes, status: tuple[int, ...]) -> None:
    """The last two: a body in chunks that says no length, and one that never comes."""
    try:
        found = raw(locked, sent)
    except ConnectionError:  # closed while it was still being sent
        found = b""
    if found:
        assert int(found.split()[1]) in status
    assert found.count(b"HTTP/1.1 ") <= 1 and locked.get("/health").status == 200


def test_clients_that_hang_are_nobody_else_s_trouble(client) -> None:
    """One sends a byte and no more, one never reads its stream, one leaves in the middle of its body."""
    address = urlsplit(client.address)
    hanging = [socket.create_connection((address.hostname, address.port)) for _ in range(20)]
    for each in hanging[:10]:
        each.sendall(b"P")
    long = json.dumps({"text": "Save the file. " * 2000, "source": "en", "target": "de"}).encode()
    head = b"POST /page/translate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    hanging[10].sendall(head % len(long) + long)
    hanging[11].sendall(head % len(long) + long[:100])
    assert client.post("/translate", EN_DE).status == 200
    for each in hanging:
        each.close()
    until(lambda: under_way(client) == 0)


def test_what_is_kept_is_private_and_goes(graph, tmp_path, monkeypatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    state = tmp_path / "state"
    with serving(graph, state=state) as client:
        client.upload("/translate_file", "secret.txt", b"Save.\n", source="en", target="de")
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        assert all("secret" not in kept.name for kept in state.iterdir())
    assert not list((tmp_path / "temporary").iterdir())
    with serving(graph, state=state, limits=Limits(kept_seconds=0)) as client:
        address = client.upload("/translate_file", "a.txt", b"1\n", source="en", target="de").json["translatedFileUrl"]
        assert client.get(urlsplit(address).path).status == 404
    with serving(graph, limits=Limits(kept=3)) as client:
        reply = client.upload("/translate_file", "a.txt", b"12345\n", source="en", target="de")
        assert reply.status == 429


def test_logs_have_no_texts(graph, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(graph) as client:
        client.get("/translate?langpair=en%7Cde&q=Secret%20words")
        client.post("/translate", {"q": "Secret words.", "source": "en", "target": "secret"})
        client.upload("/translate_file", "secret.docx", b"Secret", source="en", target="de")
        client.get("/secret")
    told = "\n".join(record.getMessage() for record in caplog.records)
    assert "GET /translate 200" in told and "secret" not in told.lower()
