"""``python -m benchmarks.peers CHECKPOINT -o FOLDER``: speed and tokens of every runtime; ``make peers`` calls it.

Every runtime is a process of its own that stays loaded. They take turns of three generations from the same prompt
(128 tokens in, 64 out, as runtime/measure/speed.py) until each has had its seconds, so the fast ones have the most
turns. The fastest of all its generations counts, since what else runs on the machine can only slow one down, and some
runtimes more than others. Tokens are compared on translations of the dev text, up to the end of sequence, with those
of our engine on the same file.

What has been exported into FOLDER already is used again; the rows are FOLDER/peers.jsonl.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers.environment import HERE, NODE, PYTHON
from export.gguf import export_gguf
from export.onnx import export_onnx
from runtime.engines.onnx import OnnxEngine
from runtime.errors import SlimmoeError, WorkError
from runtime.formats.files import new_file, new_folder
from runtime.formats.onnx_folder import FILES
from runtime.machine import processor, usable_cores
from runtime.measure.speed import PROMPT, WRITE
from runtime.text.corpus import read_segments
from runtime.text.pairs import Pair, parse_pair
from runtime.text.prompts import instruction

LLAMA, OPTIMUM = "llama.cpp Q4_K_M", "optimum's export fp32"
_TURN = 3  # generations
_DTYPES = {"none": "fp32", "int8": "int8", "int4": "q4"}  # what transformers.js calls the variants
_SEGMENTS, _LIMIT = 8, 32  # translations whose tokens are compared, and how many tokens of each
# Our engine sets it itself. Without it, 4-bit experts compute with float32 activations, at half the speed.
_ENVIRONMENT = os.environ | {"ORT_QMOE_CPU_QNBIT_GEMM": "int8"}


@dataclass
class Peer:
    """A runtime with a model loaded. ``like`` is the peer whose tokens it should write."""

    name: str
    command: list[str]
    like: str
    folder: Path | None = None  # to run in
    runtime: str = ""
    prefill: list[float] = field(default_factory=list)  # tokens/s by generation
    decode: list[float] = field(default_factory=list)
    spent: float = 0.0  # seconds of its turns
    same: int | None = None  # translations with the same tokens
    process: Any = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command, cwd=self.folder, env=_ENVIRONMENT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.runtime = self._read()["runtime"]

    def _read(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            last = (self.process.stderr.read().strip().splitlines() or ["no message"])[-1]
            raise WorkError(f"{self.name} failed: {last[:300]}", next_command=" ".join(self.command))
        return json.loads(line)

    def ask(self, **request: Any) -> dict[str, Any]:
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return self._read()

    def race(self, ids: list[int]) -> None:
        """One turn: tokens/s of prefill, and of the tokens after the first."""
        started = time.monotonic()
        for _ in range(_TURN):
            answer = self.ask(ids=ids, limit=WRITE)
            self.prefill.append(len(ids) / answer["prefill_seconds"])
            self.decode.append((len(answer["tokens"]) - 1) / answer["decode_seconds"])
        self.spent += time.monotonic() - started

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()


def _wide_blocks(folder: Path) -> Path:
    return folder / "onnx-128" / "onnx" / FILES["int4"]


def export_all(checkpoint: Path, folder: Path, pair: Pair, corpus: Path) -> None:
    """Write what is compared into ``folder``, unless it is there: onnx/, onnx-128/, Q4_K_M.gguf, optimum/."""
    for quant, file in FILES.items():
        if not (folder / "onnx" / "onnx" / file).exists():
            export_onnx(checkpoint, folder / "onnx", quant)
    if not _wide_blocks(folder).exists():
        export_onnx(checkpoint, folder / "onnx-128", "int4", 128)
    if not (folder / "Q4_K_M.gguf").exists():
        export_gguf(checkpoint, folder / "Q4_K_M.gguf", "Q4_K_M", pair=pair, corpus=corpus)
    if not (folder / "optimum").exists():
        print("exporting with optimum", flush=True)
        with new_folder(folder / "optimum") as temporary:
            command = [str(PYTHON), str(HERE / "export.py"), str(checkpoint), str(temporary)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise WorkError(f"optimum cannot export {checkpoint}: {last[:300]}", next_command=" ".join(command))


def all_peers(checkpoint: Path, folder: Path, threads: int) -> list[Peer]:
    """Every runtime with every file that it reads; our own first."""

    def python(executable: str, runtime: str, path: Path) -> list[str]:
        module = ["-m", "benchmarks.peers.serve"] if runtime == "ours" else [str(HERE / "serve.py")]
        return [executable, *module, runtime, str(path), str(threads)]

    mine, types = sys.executable, {"int4": "int4", "int8": "int8", "none": "fp32"}
    graphs = {quant: folder / "onnx" / "onnx" / FILES[quant] for quant in types}
    files = {LLAMA: folder / "Q4_K_M.gguf", "slimmoe int4, blocks of 128": _wide_blocks(folder)}
    peers = [Peer(name, python(mine, "ours", path), name) for name, path in files.items()]
    for quant, kind in types.items():
        like, graph = f"slimmoe {kind}", graphs[quant]
        peers.append(Peer(like, python(mine, "ours", graph), like))
        peers.append(Peer(f"onnxruntime-genai {kind}", python(mine, "genai", graph), like))
        peers.append(Peer(f"ORTModelForCausalLM {kind}", python(str(PYTHON), "optimum", graph), like))
        node = ["node", str(HERE / "serve.mjs"), str(folder / "onnx"), _DTYPES[quant], str(threads)]
        peers.append(Peer(f"transformers.js {kind}", node, like, NODE))
    peers.append(Peer(OPTIMUM, python(str(PYTHON), "optimum", folder / "optimum" / "model.onnx"), "slimmoe fp32"))
    peers.append(Peer("transformers fp32", python(mine, "transformers", checkpoint), "slimmoe fp32"))
    return peers


def ratio(peer: Peer, other: Peer, stage: str) -> float:
    """How many times faster ``peer`` is in a stage, each at its fastest."""
    return max(getattr(peer, stage)) / max(getattr(other, stage))


def _until(tokens: list[int], ends: frozenset[int]) -> list[int]:
    return tokens[: next((i + 1 for i, token in enumerate(tokens) if token in ends), len(tokens))]


def compare_tokens(peers: list[Peer], prompts: list[list[int]], ends: frozenset[int]) -> None:
    """Count the prompts for which each peer writes what the one that it should be like writes."""
    written = {}
    for peer in peers:
        print(f"translating with {peer.name}", flush=True)
        written[peer.name] = [_until(peer.ask(ids=ids, limit=_LIMIT)["tokens"], ends) for ids in prompts]
    for peer in peers:
        if peer.like != peer.name:
            peer.same = sum(a == b for a, b in zip(written[peer.name], written[peer.like], strict=True))


def row(peer: Peer, peers: dict[str, Peer], threads: int) -> dict[str, Any]:
    """What is written of a peer."""
    found = {
        "peer": peer.name, "runtime": peer.runtime, "threads": threads, "machine": processor(),
        "python": platform.python_version(), "generations": len(peer.decode), "prompt": PROMPT, "write": WRITE,
    }  # fmt: skip
    for stage in ("prefill", "decode"):
        found[f"{stage}_tokens_per_second"] = round(max(getattr(peer, stage)), 1)
        found[f"{stage}_to_llama"] = round(ratio(peer, peers[LLAMA], stage), 3)
        found[f"{stage}_to_optimum"] = round(ratio(peer, peers[OPTIMUM], stage), 2)
    return found | ({} if peer.same is None else {"same_tokens": peer.same, "translations": _SEGMENTS})


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    head = ["peer", "prefill tok/s", "to llama.cpp", "decode tok/s", "to llama.cpp", "to optimum's export", "tokens"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for each in rows:
        same = f"{each['same_tokens']} of {each['translations']} equal ours" if "same_tokens" in each else ""
        lines.append([
            each["peer"], f"{each['prefill_tokens_per_second']:.0f}", f"{each['prefill_to_llama']:.2f}",
            f"{each['decode_tokens_per_second']:.0f}", f"{each['decode_to_llama']:.2f}",
            f"{each['decode_to_optimum']:.1f}", same,
        ])  # fmt: skip
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def run(checkpoint: Path, folder: Path, pair: Pair, corpus: Path, dev: Path, seconds: float, threads: int) -> str:
    """Export, race and compare; writes ``folder``/peers.jsonl and returns the table."""
    export_all(checkpoint, folder, pair, corpus)
    engine = OnnxEngine(folder / "onnx", threads)
    segments = [source for source, _ in read_segments(dev, pair)[:_SEGMENTS]]
    prompts = [engine.encode(engine.template.prompt(pair, source)) for source in segments]
    ends = engine.ends
    engine.close()
    text = [token for prompt in prompts for token in prompt]
    prompt = (text * (PROMPT // len(text) + 1))[:PROMPT]
    peers = all_peers(checkpoint, folder, threads)
    try:
        for peer in peers:
            print(f"loading {peer.name}", flush=True)
            peer.start()
        for peer in peers:
            if peer.command[0] == "node":  # its own template and tokenizer
                messages = [{"role": "user", "content": instruction(pair, segments[0])}]
                if peer.ask(messages=messages)["ids"] != prompts[0]:
                    raise WorkError(f"{peer.name} makes another prompt of the chat template.")
        compare_tokens(peers, prompts, ends)  # and warm up
        order = random.Random(0)
        print(f"taking turns for {seconds * len(peers) / 60:.0f} minutes", flush=True)
        while waiting := [peer for peer in peers if peer.spent < seconds]:
            for peer in order.sample(waiting, len(waiting)):  # threads of the one before may still spin
                peer.race(prompt)
    finally:
        for peer in peers:
            peer.stop()
    by_name = {peer.name: peer for peer in peers}
    rows = [row(peer, by_name, threads) for peer in peers]
    with new_file(folder / "peers.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return table(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--pair", type=parse_pair, default="en-de")
    parser.add_argument(
        "--corpus", type=Path, default=Path("data/calibration"), help="of llama.cpp's importance matrix"
    )
    parser.add_argument("--dev", type=Path, default=Path("data/dev"), help="translated to compare tokens")
    parser.add_argument("--seconds", type=float, default=15.0, help="that each runtime generates for")
    parser.add_argument("--threads", type=int, default=usable_cores())
    chosen = parser.parse_args()
    try:
        print(run(
            chosen.checkpoint.absolute(), chosen.output.absolute(), chosen.pair, chosen.corpus, chosen.dev,
            chosen.seconds, chosen.threads,
        ), end="")  # fmt: skip
    except SlimmoeError as failure:
        sys.exit(f"{failure}")
