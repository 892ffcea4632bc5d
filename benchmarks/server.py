"""``slimmoe serve`` under load: a process of its own on loopback, asked by many clients at a time for texts of mixed lengths.

    python -m benchmarks.server FILE.gguf --seconds 60      prints lines to read, then a row of JSON

Each answer is compared with the same text translated alone (``--exact``) by the engine in this process. A batch adds up in
another order, so a quantised model words some texts otherwise (docs/threads.md): an answer that differs still belongs to its
text where, of what all texts became alone, its own is the nearest by character trigrams; else it counts as mixed up. There
are more clients than places, so that some are told 429, and come again when ``Retry-After`` says. The batch whose speed is
compared is of the same mix, in this process, in turns with the load, as a machine's own speed drifts. SIGTERM comes at the
end, with requests under way.
"""

import argparse
import contextlib
import http.client
import json
import os
import platform
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from benchmarks.threads import DATA
from runtime.engines import Engine, open_engine
from runtime.machine import OtherLoad, processor, usable_cores
from runtime.measure.memory import PeakMemory, read_memory
from runtime.text.markup import plain
from runtime.text.pairs import Pair
from runtime.translate.checked import translate_checked
from runtime.translate.paragraphs import ParagraphTranslator, room
from runtime.translate.segments import known_pair

KINDS = {"sentence": (1, 1, 80), "paragraph": (4, 1, 15), "page": (4, 4, 5)}  # segments a line, lines, share in percent
ENDING = 10  # requests under way when SIGTERM comes
TURNS = 6  # of batch and load
PART = 300  # texts of a batch


@dataclass
class Answer:
    """What a client got; ``status`` 0 where the connection was lost."""

    text: str
    status: int
    translation: str
    retry_after: str | None
    seconds: float


@dataclass
class Client:
    """One that keeps its connection, as browsers and programs do."""

    address: str
    pair: Pair
    _connection: http.client.HTTPConnection | None = field(default=None, repr=False)

    def ask(self, text: str) -> Answer:
        """Translate a text."""
        began = time.perf_counter()
        body = json.dumps({"q": text, "source": self.pair.source, "target": self.pair.target})
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=600)
            self._connection.request("POST", "/translate", body, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            told = json.loads(response.read())
        except (http.client.HTTPException, OSError, ValueError) as error:
            self._connection = None
            return Answer(text, 0, repr(error), None, time.perf_counter() - began)
        retry = response.getheader("Retry-After")
        return Answer(text, response.status, told.get("translatedText", ""), retry, time.perf_counter() - began)

    def under_way(self) -> int:
        """Requests that the server says it translates."""
        connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            found = re.search(r"^slimmoe_requests_under_way (\d+)", connection.getresponse().read().decode(), re.M)
        return int(found[1]) if found else 0


def make_texts(language: str) -> dict[str, list[str]]:
    """Texts of each kind from data/test: single segments, paragraphs of several, pages of paragraphs."""
    segments = list(dict.fromkeys((DATA / f"test.{language}").read_text(encoding="utf-8").splitlines()))
    found = {}
    for kind, (size, lines, _) in KINDS.items():
        paragraphs = [" ".join(segments[at : at + size]) for at in range(0, len(segments) - size + 1, size)]
        found[kind] = ["\n".join(paragraphs[at : at + lines]) for at in range(0, len(paragraphs) - lines + 1, lines)]
    return found


def draw(drawn: random.Random, texts: dict[str, list[str]]) -> str:
    """A text of any kind, by the kinds' shares."""
    (kind,) = drawn.choices(list(KINDS), [share for *_, share in KINDS.values()])
    return drawn.choice(texts[kind])


def translate_texts(engine: Engine, pair: Pair, texts: Sequence[str], exact: bool) -> tuple[list[str], list[int]]:
    """Translations of texts in one stream, and how many sentences each has."""
    translator = ParagraphTranslator(
        partial(translate_checked, engine, pair, exact=exact), pair.source, room(engine, pair)
    )
    done = translator.translate((line,) for text in texts for line in text.split("\n"))
    translations, sentences = [], []
    for text in texts:
        lines = [next(done) for _ in text.split("\n")]
        translations.append("\n".join(plain(line.marked) for line in lines))
        sentences.append(sum(line.sentences for line in lines))
    return translations, sentences


@contextlib.contextmanager
def serving(artefact: Path, queue: int, threads: int | None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process and its address."""
    with tempfile.TemporaryDirectory() as state:
        command = [sys.executable, "-m", "slimmoe", "serve", str(artefact), "--port", "0", "--queue", str(queue)]
        command += ["--state", state, *(["--threads", str(threads)] if threads else [])]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def load(
    address: str, pair: Pair, texts: dict[str, list[str]], clients: int, seconds: float, turn: int
) -> list[Answer]:
    """What clients are answered who ask, one text after the other, for so long; in each turn for others."""
    answers: list[Answer] = []
    end = time.monotonic() + seconds

    def ask(number: int) -> None:
        client, drawn = Client(address, pair), random.Random(1000 * turn + number)
        while (left := end - time.monotonic()) > 0:
            answer = client.ask(draw(drawn, texts))
            answers.append(answer)  # of a list, appending is atomic
            if answer.status == 429 and answer.retry_after:
                time.sleep(min(float(answer.retry_after), max(0.0, left)))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def end_under_load(process: subprocess.Popen[str], address: str, pair: Pair, texts: Sequence[str]) -> dict[str, Any]:
    """SIGTERM with requests under way: how many of them were answered, and how the server ended."""
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda t=text: answers.append(Client(address, pair).ask(t))) for text in texts]
    for thread in threads:
        thread.start()
    client, under_way = Client(address, pair), 0
    while not answers and (under_way := client.under_way()) < len(texts):
        time.sleep(0.01)
    before, began = len(answers), time.perf_counter()
    process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    code = process.wait(60)
    return {
        "begun": under_way,
        "answered_before": before,
        "finished": sum(each.status == 200 for each in answers),
        "seconds": round(time.perf_counter() - began, 2),
        "exit_code": code,
    }


def trigrams(text: str) -> Counter[str]:
    """Of characters, with how often each comes; a shorter text is one of its own."""
    return Counter(text[at : at + 3] for at in range(max(1, len(text) - 2)))


def similarity(one: Counter[str], other: Counter[str]) -> float:
    """The share of trigrams that both have, 0 to 1 (Dice)."""
    return 2 * (one & other).total() / (one.total() + other.total())


def compare(answers: Sequence[Answer], alone: dict[str, str]) -> dict[str, Any]:
    """How many answers are worded otherwise than alone, and of those which belong to another text."""
    found = Counter((each.text, each.translation) for each in answers if each.translation != alone[each.text])
    known = {wording: trigrams(wording) for wording in alone.values()}

    def belongs(answer: str, own: str) -> bool:
        got = trigrams(answer)
        return similarity(got, known[own]) >= max(similarity(got, each) for each in known.values())

    mixed = [key for key in found if not belongs(key[1], alone[key[0]])]
    return {
        "differ": sum(found.values()),
        "differing_wordings": len(found),
        "mixed_up": sum(found[key] for key in mixed),
        "mixed_up_texts": [[text, translation, alone[text]] for text, translation in mixed[:5]],
    }


def quantile(values: Sequence[float], share: float) -> float | None:
    """The value below which a share of all lies; None of none."""
    return round(sorted(values)[min(len(values) - 1, int(share * len(values)))], 3) if values else None


def measure(artefact: Path, clients: int, queue: int, seconds: float, threads: int | None) -> dict[str, Any]:
    """The row."""
    engine = open_engine(artefact, threads)
    pair, name = known_pair(engine), engine.name
    texts = make_texts(pair.source)
    every = [text for kind in texts.values() for text in kind]
    translations, counts = translate_texts(engine, pair, every, exact=True)
    alone, sentences = dict(zip(every, translations)), dict(zip(every, counts))
    drawn, batch_sentences, batch_seconds, batch_cpu = random.Random(0), 0, 0.0, 0.0

    def batch(limit: float) -> None:
        """So many seconds of the same mix in this process, in parts."""
        nonlocal batch_sentences, batch_seconds, batch_cpu
        end = time.monotonic() + limit
        while time.monotonic() < end:
            part = [draw(drawn, texts) for _ in range(PART)]
            began, used = time.perf_counter(), time.process_time()
            _, done = translate_texts(engine, pair, part, exact=False)
            batch_seconds += time.perf_counter() - began
            batch_cpu += time.process_time() - used
            batch_sentences += sum(done)

    answers, took, cpu, clients_cpu = list[Answer](), 0.0, 0.0, 0.0
    with contextlib.closing(engine), OtherLoad() as others, serving(artefact, queue, threads) as (process, address):
        Client(address, pair).ask(every[0])  # opens the model
        before = read_memory(process.pid).total
        with PeakMemory(process.pid, 0.5) as memory:  # a look costs milliseconds
            for turn in range(TURNS):
                batch(seconds / TURNS / 2)
                used, own, began = psutil.Process(process.pid).cpu_times(), os.times(), time.perf_counter()
                answers += load(address, pair, texts, clients, seconds / TURNS, turn)
                took += time.perf_counter() - began
                cpu += sum(psutil.Process(process.pid).cpu_times()[:2]) - sum(used[:2])
                clients_cpu += sum(os.times()[:2]) - sum(own[:2])
            half = memory.series.rows()[-1][0] / 2
        time.sleep(2)
        after = read_memory(process.pid).total
        ended = end_under_load(process, address, pair, texts["page"][:1] * ENDING)

    good = [each for each in answers if each.status == 200]
    answered = sum(sentences[each.text] for each in good)
    first_half = [anonymous + file for at, anonymous, file in memory.series.rows() if at < half]
    single = [each.seconds for each in good if each.text in set(texts["sentence"])]
    statuses = Counter(each.status for each in answers)
    return {
        "artefact": artefact.name,
        "bytes": artefact.stat().st_size,
        "pair": str(pair),
        "clients": clients,
        "queue": queue,
        "seconds": round(took, 1),
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "lost": statuses[0],
        "lost_reasons": dict(Counter(each.translation for each in answers if not each.status)),
        "refused_without_retry_after": sum(each.status == 429 and not each.retry_after for each in answers),
        **compare(good, alone),
        "p50_seconds": quantile([each.seconds for each in good], 0.5),
        "p95_seconds": quantile([each.seconds for each in good], 0.95),
        "sentence_p50_seconds": quantile(single, 0.5),
        "sentence_p95_seconds": quantile(single, 0.95),
        "memory_before_bytes": before,
        "memory_peak_first_half_bytes": max(first_half, default=0),
        "memory_peak_bytes": memory.peak.total,
        "memory_after_bytes": after,
        "sentences": answered,
        "sentences_per_second": round(answered / took, 1),
        "batch_sentences_per_second": round(batch_sentences / batch_seconds, 1),
        "share_of_batch": round(answered / took / (batch_sentences / batch_seconds), 3),
        "cpu_ms_per_sentence": round(1000 * cpu / max(answered, 1), 2),
        "batch_cpu_ms_per_sentence": round(1000 * batch_cpu / batch_sentences, 2),
        "cpu_share_of_batch": round(batch_cpu / batch_sentences / (cpu / max(answered, 1)), 3),
        "clients_cpu_ms_per_sentence": round(1000 * clients_cpu / max(answered, 1), 2),
        "sigterm": ended,
        "threads": threads or "default",
        "batch_threads": f"{engine.thread_choice} ({engine.thread_choice.reason})",
        "machine": f"{processor()}, {usable_cores()} cores",
        "other_load": round(others.share, 2),
        "runtime": f"{name}, Python {platform.python_version()}, uvicorn {version('uvicorn')}, "
        f"starlette {version('starlette')}",
    }


def describe(row: dict[str, Any]) -> str:
    """The row as lines to read."""
    ended, megabytes = row["sigterm"], {key: row[key] / 1e6 for key in row if key.startswith("memory")}
    return f"""\
{row["clients"]} clients, {row["queue"]} places, {row["seconds"]} s in {TURNS} turns: answers by status {row["statuses"]}, \
{row["lost"]} lost, {row["refused_without_retry_after"]} of 429 without Retry-After
{row["differ"]} worded otherwise than alone ({row["differing_wordings"]} wordings), {row["mixed_up"]} mixed up
seconds: p50 {row["p50_seconds"]}, p95 {row["p95_seconds"]}; a sentence {row["sentence_p50_seconds"]}, \
{row["sentence_p95_seconds"]}
memory, MB: before {megabytes["memory_before_bytes"]:.0f}, peak {megabytes["memory_peak_bytes"]:.0f} \
(of the first half {megabytes["memory_peak_first_half_bytes"]:.0f}), after {megabytes["memory_after_bytes"]:.0f}
sentences/s: {row["sentences_per_second"]}, {row["share_of_batch"]:.0%} of a batch's {row["batch_sentences_per_second"]}
CPU ms a sentence: server {row["cpu_ms_per_sentence"]}, batch {row["batch_cpu_ms_per_sentence"]} \
({row["cpu_share_of_batch"]:.0%} of a batch's sentences for the same CPU time), clients {row["clients_cpu_ms_per_sentence"]}
SIGTERM with {ended["begun"]} under way: {ended["finished"]} answered, exit code {ended["exit_code"]} after {ended["seconds"]} s
{row["machine"]}, {row["runtime"]}; threads: {row["threads"]}, the batch's {row["batch_threads"]}; \
other programs used {row["other_load"]:.0%} of the cores"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artefact", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--queue", type=int, default=40, help="fewer than clients: the others are told 429")
    parser.add_argument("--threads", type=int, help="of server and batch; default: each by what is free")
    chosen = parser.parse_args()
    row = measure(chosen.artefact, chosen.clients, chosen.queue, chosen.seconds, chosen.threads)
    print(describe(row))
    print(json.dumps(row, ensure_ascii=False))


if __name__ == "__main__":
    main()
