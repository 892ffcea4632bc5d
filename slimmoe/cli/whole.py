"""The whole way in one command: export for one variant, sweep for many."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from runtime.text.pairs import Pair, parse_pair
from slimmoe.cli.device import DEFAULT_PAIR, TEST_HELP, AsJson, Output, PairOption, Prompt, Threads, console, say
from slimmoe.cli.planning import ALLOCATION_HELP, CRITERIA_HELP
from slimmoe.variants import CALIBRATION, GGUF_TYPE, ONNX_TYPE, TEST, Request, Texts, Variant, recoveries

whole = typer.Typer()
DEFAULT_MODEL = "models/default"
PAIRS, RATIOS = [DEFAULT_PAIR], [0.25, 0.5, 0.7, 0.75, 0.9]
TYPES, CRITERIA, ALLOCATIONS = ["Q4_K_M", "Q8_0", "int4", "int8"], ["gate"], ["uniform"]
VOCABULARIES = ["all"]

Model = Annotated[str, typer.Argument(help="folder or Hugging Face id of a checkpoint")]
Corpus = Annotated[Path, typer.Option(help="text for statistics and recovery: TSV, PO, or the stem of Moses files")]
Dev = Annotated[
    Path | None,
    typer.Option(help="held-out text: decides which recovered weights are kept, and verifies  [default: data/dev]"),
]
Source = Annotated[
    Path | None,
    typer.Option(help="sentences, one a line, for the model to translate itself: they replace --corpus and --dev"),
]
Test = Annotated[Path, typer.Option(help=f"translate and score: {TEST_HELP}")]
Counted = Annotated[
    Path | None, typer.Option("--vocabulary-corpus", help="text whose tokens are counted  [default: that of --corpus]")
]
Allocation = Annotated[str, typer.Option(help=ALLOCATION_HELP)]
Methods = Annotated[
    list[str] | None,
    typer.Option("--recover", help="recover after the cut: full, lora or least-squares; repeated: one after the other"),
]
Steps = Annotated[int | None, typer.Option(min=1, help="of recovery; default: by the corpus")]
Teach = Annotated[bool, typer.Option("--teach", help="recover by distillation from the unpruned model as well")]


@whole.command()
def export(
    model: Model = DEFAULT_MODEL,
    pair: PairOption = DEFAULT_PAIR,
    ratio: Annotated[float, typer.Option(help="share of the experts to cut, 0 up to 1")] = 0.75,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="the run's folder  [default: runs/MODEL-PAIR]")
    ] = None,
    criterion: Annotated[str, typer.Option(help=CRITERIA_HELP)] = "gate",
    allocation: Allocation = "uniform",
    recover: Methods = None,
    steps: Steps = None,
    teach: Teach = False,
    quant: Annotated[
        str, typer.Option(help="type of the GGUF file (slimmoe gguf --help); no: none is written")
    ] = GGUF_TYPE,
    kind: Annotated[
        str, typer.Option("--type", help="type of the ONNX folder: none, fp16, int8, int4; no: none is written")
    ] = ONNX_TYPE,
    corpus: Corpus = CALIBRATION,
    dev: Dev = None,
    test: Test = TEST,
    source: Source = None,
    vocabulary: Annotated[
        str,
        typer.Option(metavar="SIZE", help="cut tokens as well: coverage=0.9999 of the text, 8192, or a share, 0.25"),
    ] = "",
    counted: Counted = None,
    threads: Threads = None,
    prompt: Prompt = None,
    verify: Annotated[bool, typer.Option(help="compare what was written with what it was written from")] = True,
    again: Annotated[bool, typer.Option("--again", help="measure again what was measured")] = False,
    check: Annotated[bool, typer.Option("--check", help="hold every file against its hash, not only its size")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be done and why, and do nothing")] = False,
    as_json: AsJson = False,
) -> None:
    """Cut a model for a pair, write GGUF and ONNX, verify, measure, report: what is not done yet, or has changed."""
    from slimmoe.runs import export as run_export
    from slimmoe.runs import model_folder

    methods = recoveries(recover or [], steps, teach)
    variant = Variant(model_folder(model), pair, criterion, ratio, allocation, methods, vocabulary)
    texts = Texts(corpus, dev, test, source=source, prompt=prompt, vocabulary=counted)
    request = Request(variant, texts, quant, kind, verify, threads)
    tell = (lambda _: None) if as_json else say
    done = run_export(request, model, output, check=check, dry_run=dry_run, again=again, tell=tell)
    if as_json:
        print(json.dumps(asdict(done), default=str))
        return
    if dry_run:
        for stage, reason in done.done:
            say(f"{stage}   ({reason})")
        say(f"{len(done.done)} stages would be done" if done.done else "nothing would be done: all is up to date")
        return
    _tell(done, pair)


def _tell(done: Any, pair: Pair) -> None:
    """The table, the files, and how to translate with them."""
    from runtime.report import print_table, read_run

    if done.done:
        print_table(read_run(done.folder), console())
    else:
        say(f"up to date: nothing that {done.folder} depends on has changed")
    for kind, path in done.artefacts.items():
        say(f"{kind:<8} {path}")
    say(f"report   {done.report}")
    first = next(iter(done.artefacts.values()))
    say(f'  next: slimmoe translate {first} --pair {pair} "The file could not be opened."')


@whole.command()
def sweep(
    models: Annotated[list[str], typer.Argument(help="folders or Hugging Face ids of checkpoints")],
    output: Output,
    pairs: Annotated[
        list[Pair], typer.Option("--pair", parser=parse_pair, metavar="PAIR", help="repeat it for several")
    ] = PAIRS,
    ratios: Annotated[
        list[float], typer.Option("--ratio", help="share of the experts to cut; 0 is always there")
    ] = RATIOS,
    criteria: Annotated[list[str], typer.Option("--criterion", help=CRITERIA_HELP)] = CRITERIA,
    allocations: Annotated[list[str], typer.Option("--allocation", help=ALLOCATION_HELP)] = ALLOCATIONS,
    types: Annotated[list[str], typer.Option("--type", help="of GGUF, or none, fp16, int8, int4 of ONNX")] = TYPES,
    recover: Methods = None,
    both: Annotated[bool, typer.Option("--both", help="with --recover: each cut without recovery as well")] = False,
    steps: Steps = None,
    teach: Teach = False,
    corpus: Corpus = CALIBRATION,
    dev: Dev = None,
    test: Test = TEST,
    source: Source = None,
    vocabularies: Annotated[
        list[str], typer.Option("--vocabulary", metavar="SIZE", help="as for export; all: all tokens stay")
    ] = VOCABULARIES,
    counted: Counted = None,
    threads: Threads = None,
    prompt: Prompt = None,
    runs: Annotated[
        Path | None, typer.Option(help="where the runs' folders are, to share them with export  [default: OUTPUT]")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="run on this Ray cluster; local starts one")
    ] = None,
) -> None:
    """Export and measure every combination, into OUTPUT/bench.jsonl. The same command goes on with a stopped sweep."""
    from slimmoe.sweep import Sweep, one_by_one, run
    from slimmoe.sweep_on_ray import on_cluster

    recovered = recoveries(recover or [], steps, teach)
    chosen = ((), recovered) if both and recovered else (recovered,)
    rows = run(
        Sweep(
            output, tuple(models), tuple(pairs), tuple(ratios), tuple(types), tuple(criteria), tuple(allocations), chosen,
            Texts(corpus, dev, test, source=source, prompt=prompt, vocabulary=counted), threads,
            tuple("" if size == "all" else size for size in vocabularies), runs,
        ),
        say, partial(on_cluster, ray) if ray else one_by_one,
    )  # fmt: skip
    say(f"{len(rows)} runs: {output}/bench.jsonl")
    say(f"  next: slimmoe report {output} -o {output}/report.html")
