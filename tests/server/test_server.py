"""What the server does for many clients at a time, and when they go away."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime.errors import RequestError
from runtime.text.pairs import Pair
from slimmoe.server.app import Server
from slimmoe.server.asked import Limits
from slimmoe.server.guard import Rules
from slimmoe.server.models import Models, find_models
from tests.server.serving import Client, serving

ROOT = Path(__file__).parents[2]
LONG = "\n".join(f"Save the file number {number} and print it." for number in range(3000))


def translated(client: Client, text: str) -> str:
    return client.post("/translate", {"q": text, "source": "en", "target": "de"}).json["translatedText"]


def under_way(client: Client) -> int:
    lines = client.get("/metrics").body.decode().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("slimmoe_requests_under_way ")))


def until(condition, seconds: float = 30) -> None:
    """Ask again until it holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end


def test_each_of_many_clients_gets_its_own_answer(client) -> None:
    texts = [f"{'Save the file. ' * (number % 3)}Number {number}." for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda text: translated(client, text), texts))
    assert together == [translated(client, text) for text in texts]


def test_one_who_goes_away_is_no_more_work(client) -> None:
    connection = client.connection()
    body = json.dumps({"q": LONG, "source": "en", "target": "de"})
    connection.request("POST", "/translate", body, {"Content-Type": "application/json"})
    until(lambda: under_way(client) == 1)
    connection.close()
    until(lambda: under_way(client) == 0)


def test_more_than_there_is_room_for_come_again(graph) -> None:
    with serving(graph, limits=Limits(queue=1)) as client:
        connection = client.connection()
        body = json.dumps({"q": LONG, "source": "en", "target": "de"})
        connection.request("POST", "/translate", body, {"Content-Type": "application/json"})
        until(lambda: under_way(client) == 1)
        reply = client.post("/translate", {"q": "x", "source": "en", "target": "de"})
        assert reply.status == 429 and int(reply.headers["retry-after"]) > 0
        connection.close()
        until(lambda: client.post("/translate", {"q": "x", "source": "en", "target": "de"}).status == 200)


def test_what_takes_too_long_is_ended(graph) -> None:
    with serving(graph, limits=Limits(seconds=0.2)) as client:
        reply = client.post("/translate", {"q": LONG, "source": "en", "target": "de"})
        assert reply.status == 504 and "send less" in reply.json["error"]
        until(lambda: under_way(client) == 0)


def test_models_beyond_memory_make_room_for_each_other(tiny_onnx) -> None:
    """With less memory than the process has, one is open at a time; with no limit, both."""
    graphs = [tiny_onnx / "onnx" / name for name in ("model.onnx", "model_int8.onnx")]
    size = graphs[0].stat().st_size + (tiny_onnx / "onnx" / "model.onnx_data").stat().st_size
    for memory, most in ((2 * size, 1), (None, 2)):
        with serving(*graphs, memory=memory) as client:
            for name in ("model.onnx", "model_int8.onnx", "model.onnx"):
                asked = {"text": "Save the file.", "source": "en", "target": "de", "model": name}
                assert client.post("/page/translate", asked).status == 200
                names = client.get("/page/state").json["open"]
                assert name in names and len(names) <= most
            assert len(names) == most


def test_the_command_serves_until_it_is_told_to_end(tiny_onnx, tmp_path) -> None:
    """What is under way then is finished."""
    command = [sys.executable, "-m", "slimmoe", "serve", str(tiny_onnx), "--pair", "en-de", "--port", "0", "--verbose"]
    command += ["--state", str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    client = Client(child.stdout.readline().strip())
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(translated(client, "\n".join(["Secret words."] * 12))))
    thread.start()
    until(lambda: answers or under_way(client) == 1)
    child.send_signal(signal.SIGTERM)
    thread.join()
    _, log = child.communicate(timeout=30)
    assert child.returncode == 0 and answers and answers[0].count("\n") == 11
    assert "POST /translate 200" in log and "Secret" not in log and "Traceback" not in log


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (Rules("0.0.0.0"), "can be reached by others, who need a key"),
        (Rules("0.0.0.0", "short"), "at least 16 characters"),
        (Rules("nowhere.invalid", "k" * 16), "cannot be served"),
    ],
)
def test_what_cannot_be_served_is_said(rules: Rules, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        Server(Models([]), rules, Limits(), 0)


def test_a_model_has_a_pair_and_fits_into_memory(tiny_onnx) -> None:
    with pytest.raises(RequestError, match="names no language pair"):
        find_models([str(tiny_onnx)], [])
    with pytest.raises(RequestError, match="more than --memory"):
        Models(find_models([str(tiny_onnx)], [Pair("en", "de")]), memory=10)


def events(client: Client, path: str, values: object) -> list[dict]:
    lines = client.post(path, values).body.decode().split("\n\n")
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]


def test_the_page_gets_a_sentence_as_it_is_decoded_and_then_what_it_became(client) -> None:
    """Drafts of a sentence come before it and after those before it."""
    text = "Save the file. Print it again.\n\nOpen the window."
    told = events(client, "/page/translate", {"text": text, "source": "en", "target": "de"})[1:]
    assert "".join(each.get("text", "") for each in told) == translated(client, text)
    rows = "".join("d" if "draft" in each else "t" if each["text"].strip() else "" for each in told)
    assert re.fullmatch("dd+td+td+t", rows)


def test_a_draft_is_replaced_by_what_a_remedy_wrote(speaker) -> None:
    """A number that the first try has lost is in the sentence, and was in no draft of it."""
    told = events(speaker, "/page/translate", {"text": "Save 12 files.", "source": "en", "target": "de"})[1:]
    drafts = "".join(each.get("draft", "") for each in told)
    assert drafts == "die." and "12" in "".join(each.get("text", "") for each in told)
