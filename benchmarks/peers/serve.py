"""One runtime in a process of its own, which answers requests on standard input, one JSON object a line.

``python serve.py RUNTIME PATH THREADS``: first it prints ``{"runtime": name and version}``; then for each
``{"ids": [...], "limit": n}`` what greedy decoding wrote, never stopping at an end of sequence:
``{"tokens": [...], "prefill_seconds": s, "decode_seconds": s}``. Prefill ends with the first token; decode is the rest.

It runs in two environments, so it imports nothing of slimmoe's except where our own engines are asked for.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

Generate = Callable[[list[int], int], tuple[list[int], float, float]]  # tokens, when the first came, when the last came


def ours(path: Path, threads: int) -> tuple[str, Generate]:
    """Our engines: a GGUF file in llama.cpp, a graph in onnxruntime."""
    from runtime.engines import open_engine

    engine = open_engine(path, threads)

    def generate(ids: list[int], limit: int) -> tuple[list[int], float, float]:
        started = time.perf_counter()
        run = engine.generate(ids, limit, stop=False)
        # Ours take one step more than the others, to see what follows the last token.
        decode = run.decode_seconds * (limit - 1) / limit
        return list(run.token_ids), started + run.prefill_seconds, started + run.prefill_seconds + decode

    return engine.name, generate


def genai(path: Path, threads: int) -> tuple[str, Generate]:
    """onnxruntime-genai: the graph ``path`` of an ONNX folder."""
    import numpy as np
    import onnxruntime_genai as og

    config = og.Config(str(path.parent.parent))
    options = {"intra_op_num_threads": threads}
    settings = json.loads((path.parent.parent / "genai_config.json").read_text(encoding="utf-8"))
    last = settings["model"]["vocab_size"] - 1  # genai wants an end of sequence: one hardly ever written
    changes = {"eos_token_id": last, "decoder": {"filename": f"onnx/{path.name}", "session_options": options}}
    config.overlay(json.dumps({"model": changes}))
    model = og.Model(config)

    def generate(ids: list[int], limit: int) -> tuple[list[int], float, float]:
        params = og.GeneratorParams(model)
        params.set_search_options(max_length=len(ids) + limit)
        generator = og.Generator(model, params)
        generator.append_tokens(np.array(ids, np.int32))
        generator.generate_next_token()
        first = time.perf_counter()
        while not generator.is_done():
            generator.generate_next_token()
        return [int(token) for token in generator.get_sequence(0)[len(ids) :]], first, time.perf_counter()

    return f"onnxruntime-genai {version('onnxruntime-genai')}, onnxruntime {version('onnxruntime')}", generate


def _by_generate(model: Any) -> Generate:
    """With ``generate`` of transformers, which both peers below have."""
    import torch

    model.generation_config.eos_token_id = None
    times: list[float] = []

    def note(ids: torch.Tensor, scores: object) -> torch.Tensor:
        times.append(time.perf_counter())
        return torch.zeros(len(ids), dtype=torch.bool)

    def generate(ids: list[int], limit: int) -> tuple[list[int], float, float]:
        times.clear()
        prompt = torch.tensor([ids])
        written = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=limit,
            do_sample=False,
            stopping_criteria=[note],
        )
        return written[0, len(ids) :].tolist(), times[0], times[-1]

    return generate


def optimum(path: Path, threads: int) -> tuple[str, Generate]:
    """optimum's ORTModelForCausalLM: the graph ``path`` of an ONNX folder, or of what optimum itself exported."""
    import onnxruntime
    import torch
    from optimum.onnxruntime import ORTModelForCausalLM

    torch.set_num_threads(threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    folder, subfolder = (path.parent.parent, "onnx") if path.parent.name == "onnx" else (path.parent, "")
    model = ORTModelForCausalLM.from_pretrained(
        folder, subfolder=subfolder, file_name=path.name, session_options=options, local_files_only=True
    )
    return f"optimum-onnx {version('optimum-onnx')}, onnxruntime {onnxruntime.__version__}", _by_generate(model)


def transformers(path: Path, threads: int) -> tuple[str, Generate]:
    """The checkpoint ``path`` itself, in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, local_files_only=True)
    return f"transformers {version('transformers')}, torch {torch.__version__}", _by_generate(model)


def serve(runtime: str, path: Path, threads: int) -> None:
    answers = os.fdopen(os.dup(1), "w")  # what libraries print goes elsewhere
    os.dup2(2, 1)
    name, generate = {"ours": ours, "genai": genai, "optimum": optimum, "transformers": transformers}[runtime](
        path, threads
    )
    print(json.dumps({"runtime": name}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        started = time.perf_counter()
        tokens, first, last = generate(request["ids"], request["limit"])
        answer = {"tokens": tokens, "prefill_seconds": first - started, "decode_seconds": last - first}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
