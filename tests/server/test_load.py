"""Fifty clients at a time, for a while: nothing is lost or mixed up, whoever finds no room is told so, memory is bounded."""

import http.client
import os
import statistics
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from slimmoe.server.asked import Limits
from tests.server.serving import Client, serving

SECONDS = 60
CLIENTS, QUEUE = 50, 40
SENTENCES = ["Save the file.", "Print the page.", "Open it.", "Close the window.", "The disk is full."]


def text_of(number: int) -> str:
    """Texts of one to four sentences, each with numbers of its own."""
    return " ".join(f"{SENTENCES[(number + each) % 5]} It has {number + each} parts." for each in range(number % 4 + 1))


@pytest.mark.slow
def test_fifty_clients_for_a_minute(graph: Path) -> None:
    with serving(graph, limits=Limits(queue=QUEUE)) as client:
        texts = [text_of(number) for number in range(100)]
        expected = {text: ask(client, text)[1] for text in texts}  # one at a time
        statuses, wrong, seconds = Counter[int](), list[str](), list[float]()
        end, lock, over = time.monotonic() + SECONDS, threading.Lock(), threading.Event()

        def go_on(first: int) -> None:
            number = first
            while time.monotonic() < end:
                text, began = texts[number % len(texts)], time.monotonic()
                status, done, wait = ask(client, text)
                with lock:
                    statuses[status] += 1
                    if status == 200:
                        seconds.append(time.monotonic() - began)
                        wrong.extend([text] if done != expected[text] else [])
                over.wait(min(wait, max(0.0, end - time.monotonic())))
                number += CLIENTS + 1

        threads = [threading.Thread(target=go_on, args=(number,)) for number in range(CLIENTS)]
        before = psutil.Process(os.getpid()).memory_info().rss
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        grown = psutil.Process(os.getpid()).memory_info().rss - before
    ordered = sorted(seconds)
    print(
        f"{statuses}, {len(wrong)} wrong, median {statistics.median(ordered):.2f} s, "
        f"p95 {ordered[int(0.95 * len(ordered))]:.2f} s, grown {grown / 1e6:.0f} MB"
    )
    assert set(statuses) == {200, 429} and statuses[200] > CLIENTS
    assert not wrong and grown < 200e6


def ask(client: Client, text: str) -> tuple[int, str, float]:
    """Status, translation, and seconds to wait as the server asks for; a dropped connection fails the test."""
    try:
        reply = client.post("/translate", {"q": text, "source": "en", "target": "de"})
    except (http.client.HTTPException, OSError) as error:
        return -1, repr(error), 0.0
    return reply.status, reply.json.get("translatedText", ""), float(reply.headers.get("retry-after", 0))
