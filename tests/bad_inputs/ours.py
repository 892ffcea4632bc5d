"""Files of slimmoe's own that are damaged or say nonsense: plans, statistics, rows, and records beside them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from tests.bad_inputs import (
    HUGE,
    NO_FILE,
    NO_JSON,
    Damage,
    Table,
    change,
    cut,
    each,
    overwrite,
    sparse,
    to_pipe,
    update,
    within,
    write,
)


def layer(**fields: Any) -> Damage:
    """Of a plan's first layer."""
    return change(lambda plan: plan["layers"][0].update(fields))


PLANS = Table(
    "x-plan.json",
    {
        "prune": "prune x.gguf --plan x-plan.json -o out/cut.gguf",
        "gguf": "gguf x.gguf --plan x-plan.json -o out/cut.gguf",
        "verify": "verify x.gguf --against y.gguf --plan x-plan.json --pair en-de",
    },
    NO_FILE
    | NO_JSON
    | {
        "nested in a field": (write(b'{"format": ' + b"[" * 100_000), "nested too deeply"),
        "a huge number": write(HUGE),
        "another format": (update(format="x"), "is not a plan"),
        "top-k of 0": (update(top_k=0), "top_k is not 1 or more"),
        "a negative top-k": (update(top_k=-3), "top_k is not"),
        "a top-k by a fraction": (update(top_k=2.0), "top_k is not"),
        "a top-k of more than stay": (update(top_k=5), "fewer than its top_k"),
        "a ratio by text": (update(ratio="x"), "ratio is not a number"),
        "a ratio of 7": (update(ratio=7), "from 0 to 1"),
        "a ratio that is no number": (update(ratio=float("nan")), "ratio is not a number"),
        "an unknown pair": (update(pair="xx-yy"), "not a language pair"),
        "a pair by number": (update(pair=3), "text"),
        "several unknown pairs": (update(pair="en-de + xx-yy"), "not a language pair"),
        "no layers": (update(layers=[]), "no layers"),
        "layers that are no list": (update(layers={}), "no list"),
        "a layer that is a number": (update(layers=[3]), "no JSON object"),
        "a name that a terminal obeys": (update(model="\x1b[31m"), "control characters"),
        "half a character": update(model="\ud800"),
        "no seed": (update(seed=None), "seed is not"),
        "a calibration that is a list": (update(calibration=[]), "calibration"),
        "a prompt that is a list": update(calibration={"prompt": []}),
        "no fingerprint": change(lambda plan: {key: value for key, value in plan.items() if key != "fingerprint"}),
        "another model's": (update(fingerprint="0" * 32), "another model"),
        "fewer layers": change(lambda plan: plan["layers"].pop()),
        "layers that are not there": layer(layer=7),
        "an expert twice": (layer(keep=[0, 1, 1, 2]), "unsorted"),
        "none stays": (layer(keep=[]), "empty"),
        "an expert that is not there": (layer(keep=[0, 1, 2, 8]), "out of range"),
        "an expert below 0": (layer(keep=[-1, 1, 2, 3]), "keep is not 0 or more"),
        "experts by text": (layer(keep="0123"), "keep is no list"),
        "an expert that is true": (layer(keep=[True, 1, 2, 3]), "keep is not"),
        "a layer twice": (layer(layer=1), "layer 1 is there twice"),
        "too many experts": (layer(experts=10**30), "experts"),
        "other experts": layer(experts=16),
        "a key twice": write(b'{"format": "slimmoe-plan/1", "format": "slimmoe-plan/1"}'),
    },
    by_all=("nested", "a pipe", "an expert twice", "another model's"),
)  # fmt: skip


def told(**fields: Any) -> Damage:
    """What statistics say of themselves."""
    return statistics(lambda about: json.dumps(about | fields))


def statistics(about: Any = json.dumps, known: str | None = "slimmoe-stats/2", **sums: np.ndarray) -> Damage:
    def damage(path: Path) -> None:
        with safe_open(path, "numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = {"about": about(json.loads(file.metadata()["about"]))} | ({"format": known} if known else {})
        tensors |= {name if "." in name else f"layer.3.{name}": values for name, values in sums.items()}
        save_file(tensors, path, metadata)

    return damage


STATISTICS = Table(
    "stats",
    {"plan": "plan stats --ratio 0.5 -o out/plan.json", "against": "plan right --ratio 0.5 --against stats -o out/plan.json"},
    NO_FILE
    | NO_JSON
    | {
        "cut short": (cut(0.9), "damaged"),
        "cut in its header": cut(0.01),
        "six sparse gigabytes": sparse((6 << 30).to_bytes(8, "little"), 7 << 30),
        "noise in its header": overwrite(0.02, bytes(range(100))),
        "an older format": (statistics(known="slimmoe-stats/1"), "calibrate again"),
        "a newer format": statistics(known="slimmoe-stats/99"),
        "another's tensors": (statistics(known=None), "not a statistics file"),
        "nested": (statistics(lambda _: "[" * 100_000), "nested too deeply"),
        "a list": (statistics(lambda _: "[]"), "not an object"),
        "little of itself": (statistics(lambda _: '{"model": "m"}'), "damaged"),
        "top-k of 0": (told(top_k=0), "top_k is not"),
        "top-k of more than there are": (told(top_k=9), "4 experts, of which 9"),
        "no groups": (told(routing={"groups": 0}), "routing"),
        "an unknown pair": (told(pair="x"), "pair"),
        "segments by text": (told(calibration={"segments": "many"}), "segments is not"),
        "unknown sums": (told(sums=["count", "x"]), "damaged"),
        "no numbers": (statistics(norm=np.full((2, 4), np.nan)), "norm of layer 3 holds"),
        "infinite": (statistics(gate=np.full((2, 4), np.inf)), "gate"),
        "negative": (statistics(count=-np.ones((2, 4))), "count"),
        "of another shape": (statistics(count=np.ones((2, 5))), "shape"),
        "of two axes instead of three": (statistics(gram=np.ones((2, 4))), "shape"),
        "no axes": (statistics(count=np.ones(())), "damaged"),
        "a tensor of no layer": (statistics(**{"x.y": np.ones(3)}), "no sum of a layer"),
        "of one axis": (statistics(top1=np.ones(4)), "shape"),
    },
    by_all=("cut short", "a pipe", "negative"),
)  # fmt: skip


def row(text: str) -> Damage:
    """The third line of bench.jsonl."""
    return within("bench.jsonl", write(b'{"artefact": "a.gguf"}\n\n' + text.encode() + b"\n"))


BROKEN = [
    '{"artefact": "a.g', "[1]", "NaN", "{}", '{"artefact": 3}', '{"artefact": "a", "chrf": "x"}', "[" * 10**5,
    '{"artefact": "a", "chrf": NaN}', '{"artefact": "a", "speed": [{"threads": 2}]}', '{"artefact": "a", "peak_bytes": true}',
    '{"artefact": "a", "samples": [["a", "b"]]}', '{"artefact": "a", "provenance": {"ratio": null}}',
    '{"artefact": "a", "format": "slimmoe-bench/9"}', '{"artefact": "a", "format": "slimmoe-be\\nch/1"}',
    '{"artefact": "a", "threads": 0}', '{"artefact": "a", "chrf": 101}',
    '{"artefact": "a", "provenance": {"ratio": 7.5}}', '{"artefact": "a", "size_bytes": -1}', '{"artefact": "a", "bleu": -1}',
    '{"artefact": "a", "peak_bytes": 1' + "0" * 400 + "}", '{"artefact": "a", "failures": {"empty": -3}}',
    '{"artefact": "a", "chrf_interval": [1]}', '{"artefact": "\\ud800"}',
]  # fmt: skip
ROWS = Table(
    "run",
    {
        "report": "report run -o out/report.md",
        "bench": "bench onnx --pair en-de -o run/bench.jsonl",
        "sweep": "sweep model --pair en-de --ratio 0.5 --type F16 -o run",
    },
    {f"row: {text[:60]}": (row(text), r"Line 3 of .*bench\.jsonl ") for text in BROKEN}
    | each(
        "rows",
        "bench.jsonl",
        NO_FILE | {kind: NO_JSON[kind] for kind in ("no JSON", "in UTF-16", "not UTF-8", "binary")},
    )
    | each("a plan", "plan.json", NO_JSON | {"of a number": write(b'{"hash": 1}')})
    | each("checks", "verify.json", NO_JSON | {"of numbers": write(b'{"checks": [3]}')}),
    by_all=("row: [1]", 'row: {"artefact": "a.g', "rows: binary", "rows: a pipe"),
    only={"rows: missing": ("report",)}
    | {
        f"{what}: {kind}": ("report",)
        for what, others in (("a plan", "of a number"), ("checks", "of numbers"))
        for kind in (*NO_JSON, others)
    },
)
CHECKS = Table(
    "verify.json",
    {"verify": "verify onnx --against model --pair en-de -o verify.json"},
    {
        kind: damage
        for kind, damage in (NO_FILE | NO_JSON).items()
        if kind not in ("missing", "empty", "a link to itself", "a link to nothing")
    }
    | {
        "of numbers": write(b'{"format": "slimmoe-verify/1", "checks": [3]}'),
        "another format": write(b'{"format": "x/1"}'),
    },
)
STORE = Table(
    "store",
    {"translate": "translate kept Save. --pair en-de --threads 1", "default": "models default kept"},
    {
        "a file": (lambda folder: shutil.rmtree(folder) or folder.write_text("x"), "store: Not a directory"),
        "a link to itself": lambda folder: shutil.rmtree(folder) or folder.symlink_to(folder),
        "a model that is empty": lambda folder: shutil.rmtree(folder / "kept") or (folder / "kept").mkdir(),
        "half a model": within("kept/onnx/model_q4.onnx", Path.unlink),
        "a model whose record is damaged": within("kept/slimmoe.json", write(b"[")),
        "a model whose record is a pipe": within("kept/slimmoe.json", to_pipe),
    },
    by_all=("a file",),
)
TABLES = {"plans": PLANS, "statistics": STATISTICS, "rows": ROWS, "checks": CHECKS, "store": STORE}
