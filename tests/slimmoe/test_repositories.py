"""Models of the Hugging Face hub: which files of a repository are one, and their way here, from a hub on this machine."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from runtime.errors import RequestError, WorkError
from runtime.text.pairs import Pair
from slimmoe.repositories import Repository, choose, find_repository
from slimmoe.storing import add_model
from tests.gguf_files import write_moe

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789012345678901234567890123456789"
SIDE = ["config.json", "tokenizer.json"]
GRAPHS = [f"onnx/model{kind}.onnx{part}" for kind in ("", "_q4") for part in ("", "_data", "_test.json")]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("org/name", Repository("org/name")),
        ("org/name-GGUF:Q4_K_M", Repository("org/name-GGUF", type="Q4_K_M")),
        ("org/name/sub/x.gguf", Repository("org/name", file="sub/x.gguf")),
        ("https://huggingface.co/org/name", Repository("org/name")),
        ("https://huggingface.co/org/name/", Repository("org/name")),
        ("hf.co/org/name:Q8_0", Repository("org/name", type="Q8_0")),
        ("https://huggingface.co/org/name/tree/main", Repository("org/name", "main")),
        (
            "https://huggingface.co/org/name/resolve/v1/a%20b.gguf?download=true",
            Repository("org/name", "v1", "a b.gguf"),
        ),
        ("https://huggingface.co/org/name/blob/main/x.gguf#L1", Repository("org/name", "main", "x.gguf")),
    ],
)
def test_a_repository_is_named_in_many_ways(text: str, found: Repository) -> None:
    assert find_repository(text) == found


@pytest.mark.parametrize(
    "text", ["x.gguf", "./org/name", "/org/name", "~/x/y", "tests/x.gguf", "org\\name", "org/-x", "name"]
)
def test_a_path_is_no_repository(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert find_repository(text) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("org/Model-GGUF", "Model"),
        ("org/m:Q4_K_M", "m-Q4_K_M"),
        ("org/m/a/x-00001-of-00002.gguf", "x"),
        ("org/m/a b.gguf", "a-b"),
    ],
)
def test_a_repository_s_model_has_a_name(text: str, name: str) -> None:
    found = find_repository(text)
    assert found is not None and found.default_name == name


SPLIT = ["big-Q8_0-00001-of-00002.gguf", "big-Q8_0-00002-of-00002.gguf"]
FILES: dict[str, tuple[str, list[str], list[str] | str]] = {
    "one": ("o/n", ["README.md", "a.gguf"], ["a.gguf"]),
    "with a projector": ("o/n", ["a.gguf", "mmproj-a.gguf", "a.imatrix.gguf", "imatrix.gguf"], ["a.gguf"]),
    "by type": ("o/n:q4_k_m", ["a-Q4_K_M.gguf", "a-Q8_0.gguf", "a-IQ4_K_M.gguf"], ["a-Q4_K_M.gguf"]),
    "by type in a folder": ("o/n:Q8_0", ["Q4/a-Q4.gguf", "Q8/Q8_0.gguf"], ["Q8/Q8_0.gguf"]),
    "by file": ("o/n/a-Q8_0.gguf", ["a-Q4_K_M.gguf", "a-Q8_0.gguf"], ["a-Q8_0.gguf"]),
    "split": ("o/n", SPLIT, SPLIT),
    "split by type": ("o/n:Q8_0", [*SPLIT, "big-Q4_0.gguf"], SPLIT),
    "split by its second part": (f"o/n/{SPLIT[1]}", [*SPLIT, "a.gguf"], SPLIT),
    "graphs": ("o/n", [*SIDE, *GRAPHS, "model.safetensors"], ["onnx/model_q4.onnx", *GRAPHS[4:], *SIDE]),
    "a graph by type": ("o/n:none", [*SIDE, *GRAPHS], ["onnx/model.onnx", *GRAPHS[1:3], *SIDE]),
    "a graph by file": ("o/n/onnx/model.onnx", [*SIDE, *GRAPHS], ["onnx/model.onnx", *GRAPHS[1:3], *SIDE]),
    "several": ("o/n", ["a.gguf", "b.gguf"], r"several models: a.gguf, b.gguf\.\n  next: slimmoe models add o/n/a.gguf"),
    "many": ("o/n", [f"{i}.gguf" for i in range(9)], "5.gguf and 3 more"),
    "a checkpoint": ("o/n", [*SIDE, "model.safetensors"], "holds a checkpoint.*\n  next: slimmoe export o/n"),
    "nothing": ("o/n", ["README.md"], "holds no GGUF file and no ONNX folder"),
    "no such type": ("o/n:Q2_K", ["a-Q4_K_M.gguf"], "of type Q2_K"),
    "no such file": ("o/n/b.gguf", ["a.gguf"], "b.gguf"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_the_files_of_one_model(case: str) -> None:
    text, files, expected = FILES[case]
    repository = find_repository(text)
    assert repository is not None
    if isinstance(expected, str):
        with pytest.raises(RequestError, match=expected):
            choose(repository, files)
    else:
        found = choose(repository, files)
        assert found[0] == expected[0] and sorted(found) == sorted(expected)


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as its client asks for."""

    files: dict[str, bytes]

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        path, status, body, more = self.path.partition("?")[0], 200, b"", {}
        if path.startswith("/api/models/org/name"):
            about = {"id": "org/name", "sha": COMMIT, "siblings": [{"rfilename": name} for name in self.files]}
            body = json.dumps(about).encode()
        elif path.startswith("/org/name/resolve/main/"):
            body = self.files[path.rpartition("/")[2]]
            more = {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": COMMIT}
        else:
            status, more = 404, {"X-Error-Code": "RepoNotFound"}
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), "Content-Type": "application/json", **more}.items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    """The address of a hub with one repository."""
    data = write_moe(tmp_path / "x.gguf").read_bytes()
    handler = type(
        "Handler", (Hub,), {"files": {"x-Q8_0.gguf": data, "y-F16.gguf": data[: len(data) // 2], "README.md": b"x"}}
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_model_comes_from_the_hub_and_without_it_from_the_cache(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    monkeypatch.setenv("SLIMMOE_MODELS", str(store))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", hub)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub + "/{repo_id}/resolve/{revision}/{filename}")
    with pytest.raises(RequestError, match=r"several models: x-Q8_0.gguf, y-F16.gguf\."):
        add_model("org/name")
    assert add_model("org/name:Q8_0", pair=Pair("en", "de")).name == "name-Q8_0"
    assert (store / "name-Q8_0" / "x-Q8_0.gguf").read_bytes() == (tmp_path / "x.gguf").read_bytes()
    with pytest.raises(WorkError, match="is damaged: it is cut short"):
        add_model("org/name:F16")
    with pytest.raises(RequestError, match="neither a file or folder here nor a model"):
        add_model("org/other")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # where nobody answers
    assert add_model("org/name/x-Q8_0.gguf", "cached").name == "cached"
    with pytest.raises(WorkError, match=r"hub cannot be reached \(ConnectError\)\.\n  next: hf download org/third"):
        add_model("org/third")
    assert sorted(path.name for path in store.iterdir() if path.name[0] != ".") == ["cached", "name-Q8_0"]
