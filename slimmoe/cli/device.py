"""The verbs that measure on a device: evaluate, bench, report. And what all verbs share: options and printing."""

import contextlib
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runtime.errors import as_typed, printable
from runtime.text.pairs import Pair, parse_pair
from runtime.text.prompt_templates import PromptTemplate, parse_prompt
from slimmoe.cli.offloading import AllCpuExperts, CpuExperts, DeviceName, GpuLayers, tell_where

if TYPE_CHECKING:  # loaded where something is printed: a translation has no need of it
    from rich.console import Console

device = typer.Typer()
DATA = Path("data")  # names of our own small sets, see runtime/text/data

TEST_HELP = "TSV, PO, Moses stem, FLORES+ or WMT24++ folder, or a name of sacreBLEU's (wmt20)"
DEFAULT_PAIR: Any = "en-de"  # a default goes through the parser, as what is typed does
PairOption = Annotated[Pair, typer.Option("--pair", parser=parse_pair, metavar="PAIR", help="for example en-de")]
KnownPair = Annotated[
    Pair | None,
    typer.Option("--pair", parser=parse_pair, metavar="PAIR", help="default: what the model was cut for"),
]
ARTEFACT_HELP = "a GGUF file, an ONNX folder, the folder of a run, or a stored model's name"
Output = Annotated[Path, typer.Option("-o", "--output", help="where to write")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for a program to read")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="for one batch at a time; default: by what is free and by the model's size"),
]
Beam = Annotated[
    int,
    typer.Option(
        "--beam", min=1, max=32, metavar="N", help="follow N partial translations of each sentence; 1: greedy"
    ),
]
Prompt = Annotated[
    PromptTemplate | None,
    typer.Option(
        "--prompt",
        parser=parse_prompt,
        metavar="TEXT|FILE",
        help="how the model is asked, with {text}, {source_name}, {target_name}, {source_code}, {target_code}; default: "
        "as the model says, or as is known of it (slimmoe prompt MODEL shows it)",
    ),
]
Corpus = Annotated[
    Path, typer.Option("--corpus", help="TSV, PO, or the stem of Moses files (STEM.en, STEM.de)", show_default=False)
]


def known_pair_of(artefacts: list[Path]) -> Pair:
    """The pair that the first of some artefacts with one was cut for; the usual one where none was."""
    from runtime.formats.artefact import pair_of
    from runtime.text.pairs import planned_pair

    found = (planned_pair(pair_of(each)) for each in artefacts)
    return next((pair for pair in found if pair), parse_pair(DEFAULT_PAIR))


@cache
def console() -> "Console":
    """The terminal."""
    from rich.console import Console

    return Console()


def say(text: str) -> None:
    """Print a line to the terminal as it is, a next command as it is to be typed."""
    console().print(as_typed(text), highlight=False, markup=False, soft_wrap=True)


@device.command()
def evaluate(
    artefact: Annotated[Path, typer.Argument(help=ARTEFACT_HELP)],
    pair: KnownPair = None,
    test: Annotated[Path, typer.Option(help=TEST_HELP, show_default=False)] = DATA / "test",
    threads: Threads = None,
    prompt: Prompt = None,
    device_name: DeviceName = "auto",
    gpu_layers: GpuLayers = "auto",
    cpu_experts: CpuExperts = "auto",
    all_cpu_experts: AllCpuExperts = False,
    beam: Beam = 1,
    as_json: AsJson = False,
) -> None:
    """Score an artefact's translations: BLEU, chrF++ and failures."""
    from runtime.engines import Offload, open_engine
    from runtime.formats.artefact import find_artefact
    from runtime.measure.evaluate import evaluate
    from runtime.text.corpus import read_segments
    from runtime.translate.segments import known_pair

    offload = Offload.parse(device_name, gpu_layers, cpu_experts, all_cpu_experts)
    with contextlib.closing(open_engine(find_artefact(artefact), threads, prompt=prompt, offload=offload)) as engine:
        tell_where(engine)
        pair = pair or known_pair(engine)
        segments = read_segments(test, pair)
        result = evaluate(engine, pair, segments, beam=beam)
        name, choice, on_device = engine.name, engine.thread_choice, engine.on_device
    if as_json:
        about = {"engine": name, "threads": choice.count, "workers": choice.workers, **on_device}
        print(json.dumps(asdict(result) | about | {"artefact": str(artefact), "test": str(test)}))
        return
    say(f"chrF++ {result.chrf:.2f}  {result.chrf_signature}")
    say(f"BLEU   {result.bleu:.2f}  {result.bleu_signature}")
    failed = ", ".join(f"{count} {kind}" for kind, count in result.failures.items() if count) or "none"
    for scorer, value, signature in (
        ("meaning", result.meaning, result.meaning_signature),
        ("COMET  ", result.comet, result.comet_signature),
    ):
        if value is not None:
            say(f"{scorer} {value:.4f}  {signature}")
    speed = f"{result.tokens_per_second:.0f} tokens/s" + " each" * (choice.workers > 1)
    say(f"{result.segments} segments with {name}, {choice} ({choice.reason}), {speed}; failed outputs: {failed}")


@device.command()
def bench(
    artefacts: Annotated[
        list[Path], typer.Argument(help="GGUF files, ONNX folders, folders of runs, names of stored models")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="bench.jsonl; rows join those in it and replace older ones of the same run"
        ),
    ],
    pair: KnownPair = None,
    test: Annotated[Path | None, typer.Option(help=f"also translate and score: {TEST_HELP}")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="and fewer; default: all cores it may use")] = None,
    prompt: Prompt = None,
    memory_limit: Annotated[
        list[str] | None, typer.Option(help="also time it within so much memory, as 2GiB; may be repeated (Linux)")
    ] = None,
    device_name: DeviceName = "auto",
    gpu_layers: GpuLayers = "auto",
    cpu_experts: CpuExperts = "auto",
    all_cpu_experts: AllCpuExperts = False,
) -> None:
    """Measure speed, memory and size, one process for each artefact."""
    from rich.markup import escape
    from rich.progress import Progress

    from runtime.engines import Offload
    from runtime.formats.artefact import find_artefact
    from runtime.measure.bench import bench, busy_note
    from runtime.measure.bench_limited import bench_limited, parse_limits
    from runtime.measure.compare import compare, keep_hypotheses
    from runtime.measure.rows import finished_rows, join_rows, write_rows
    from runtime.text.corpus import read_segments

    limits = parse_limits(memory_limit or [])
    finished_rows(output)  # refuses another kind of file before any work
    artefacts = [find_artefact(each) for each in artefacts]
    pair = pair or known_pair_of(artefacts)
    if test is not None:
        read_segments(test, pair)  # a missing one is told before a model is loaded
    offload = Offload.parse(device_name, gpu_layers, cpu_experts, all_cpu_experts)
    measured = []

    with Progress(console=console(), transient=True, disable=not console().is_terminal) as progress:
        task = progress.add_task("bench", total=len(artefacts))
        for artefact in artefacts:
            progress.update(task, description=escape(printable(f"bench {artefact}")))
            row = keep_hypotheses(bench(artefact, pair, test, threads, prompt=prompt, offload=offload), output.parent)
            rows = [row, *bench_limited(row, limits)]
            join_rows(output, rows)
            measured += rows
            progress.advance(task)
    write_rows(output, compare(finished_rows(output), output.parent))
    if note := busy_note(measured):
        say(note)
    say(f"{len(artefacts)} artefacts measured, {len(measured)} rows: {output}")


@device.command()
def report(
    run: Annotated[Path, typer.Argument(help="a folder with bench.jsonl")],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="where to write; of files that exist only an older report is replaced"),
    ],
) -> None:
    """Print the table of a run and write its report: a page (.html) or Markdown (.md)."""
    from runtime.report import print_table, write_report

    print_table(write_report(run, output, f"slimmoe: {run}"), console())
    say(f"report: {output}")
