"""The ``slimmoe`` command: one verb for each stage. A verb parses, calls its room and prints; it does nothing else."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from runtime.command import (
    DATA,
    DEFAULT_PAIR,
    TEST_HELP,
    AsJson,
    Corpus,
    Output,
    PairOption,
    Threads,
    console,
    device,
    say,
)
from runtime.errors import RequestError, SlimmoeError
from runtime.pairs import Pair, parse_pair

if TYPE_CHECKING:
    from prune.checkpoint import Checkpoint
    from prune.gguf_model import GgufModel
    from prune.plan import Explanation

app = typer.Typer(
    help="Cut a translation mixture-of-experts down to what one language pair needs, and run it on a laptop.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(device)
INTERRUPTED = 130
CRITERIA_HELP = (
    "gate, frequency, activation-norm, reap, saliency, nllb, contrast, reconstruction or random (docs/pruning.md)"
)
DEFAULT_QUANT = "Q4_K_M"
SWEEP_PAIRS, SWEEP_CRITERIA = [DEFAULT_PAIR], ["gate"]
SWEEP_RATIOS, SWEEP_TYPES = [0.25, 0.5, 0.7, 0.75, 0.9], ["Q4_K_M", "Q8_0", "int4", "int8"]
CALIBRATION = DATA / "calibration"
OwnCorpus = Annotated[  # None: CALIBRATION, for verbs that refuse a corpus where they make no use of it
    Path | None, typer.Option("--corpus", help="TSV, PO, or the stem of Moses files (STEM.en, STEM.de)")
]


def _resolve(model: str) -> Path:
    from prune.hub import resolve_model

    return resolve_model(model)


def _moe_model(model: str) -> "Checkpoint | GgufModel":
    if model.endswith(".gguf"):
        from prune.gguf_model import GgufModel

        return GgufModel(Path(model))
    from prune.checkpoint import Checkpoint

    return Checkpoint(_resolve(model))


def _print_explanation(layers: "list[Explanation]") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        "layer", "kept", "effective experts", "gate mass kept", "largest dropped", "never chosen", box=SIMPLE_HEAD
    )
    for column in table.columns:
        column.justify = "right"
    for layer in layers:
        table.add_row(
            str(layer.layer), f"{layer.kept} of {layer.experts}", f"{layer.effective:.1f}", f"{layer.mass_kept:.1%}",
            f"{layer.busiest_dropped:.1%}", str(layer.never_chosen),
        )  # fmt: skip
    console.print(table)
    say("effective experts: as many equally used ones would be as concentrated, exp(entropy of the gate mass)")


@app.command()
def calibrate(
    model: Annotated[str, typer.Argument(help="folder or Hugging Face id of the checkpoint, or a GGUF file")],
    pair: PairOption,
    output: Output,
    corpus: OwnCorpus = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="stop after so many tokens")] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="layer by layer, for a checkpoint larger than memory; needs disk space")
    ] = False,
    imatrix: Annotated[
        Path | None, typer.Option(help="an importance matrix by llama-imatrix: its counts, for frequency alone")
    ] = None,
) -> None:
    """Sum up what each expert does on a pair's text: one pass over whole conversations.

    An interrupted run goes on where it was when the same command is given again. A GGUF file needs no torch.
    """
    from prune.stats import Stats

    Stats.check_output(output)
    if imatrix is not None:
        if tokens is not None or stream or corpus is not None:
            raise RequestError(
                "An importance matrix is read as it is: --corpus, --tokens and --stream are for running the model.",
                next_command=f"slimmoe calibrate {model} --pair {pair} --imatrix {imatrix} -o {output}",
            )
        from prune.imatrix import read_counts

        stats = read_counts(imatrix, _moe_model(model), pair)
        stats.save(output)
        say(f"counts of {stats.calibration['prompt_tokens']} tokens, for the criterion frequency: {output}")
        return
    corpus = corpus or CALIBRATION
    if model.endswith(".gguf"):
        from prune.calibrate_gguf import calibrate_gguf

        if stream:
            raise RequestError(
                "--stream is for checkpoints: a GGUF file stays on disk anyway.",
                next_command=f"slimmoe calibrate {model} --pair {pair} -o {output}",
            )
        stats, prints = calibrate_gguf(Path(model), pair, corpus, tokens, output), True
    else:
        from prune.calibrate import calibrate, is_main_process

        stats, _ = calibrate(_resolve(model), pair, corpus, tokens, stream=stream, output=output)
        prints = is_main_process()
    used = stats.calibration
    total = used["prompt_tokens"] + used["response_tokens"]
    if prints:
        say(f"calibrated on {used['segments']} segments ({total} tokens) in {used['seconds']:.1f} s: {output}")


@app.command()
def plan(
    stats: Annotated[Path, typer.Argument(help="what calibrate wrote")],
    ratio: Annotated[float, typer.Option(help="share of the experts to cut, 0 up to 1")],
    output: Output,
    criterion: Annotated[str, typer.Option(help=CRITERIA_HELP)] = "gate",
    allocation: Annotated[
        str, typer.Option(help="uniform, or layerwise: more experts where they share the work")
    ] = "uniform",
    against: Annotated[Path | None, typer.Option(help="statistics of other text, for the criterion contrast")] = None,
    seed: Annotated[int, typer.Option(help="of the random criterion")] = 0,
    explain: Annotated[
        bool, typer.Option("--explain", help="print, per layer, what is kept and how routing is concentrated")
    ] = False,
) -> None:
    """Choose which experts stay."""
    from prune.plan import Plan, make_plan
    from prune.plan import explain as explain_plan
    from prune.stats import Stats

    Plan.check_output(output)
    known = Stats.load(stats)
    made = make_plan(known, ratio, criterion, seed, allocation, Stats.load(against) if against else None)
    explanation = explain_plan(made, known) if explain else None
    made.save(output)
    counts, experts = sorted({len(layer.keep) for layer in made.layers}), made.layers[0].experts
    kept = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    say(f"plan {made.hash}: {kept} of {experts} experts stay in each of {len(made.layers)} layers: {output}")
    if explanation is not None:
        _print_explanation(explanation)
    if made.top_k < known.top_k:
        say(f"top-k is lowered from {known.top_k} to {made.top_k}, since no more experts stay")


@app.command()
def prune(
    model: Annotated[str, typer.Argument(help="folder or Hugging Face id of the checkpoint")],
    plan: Annotated[Path, typer.Option(help="what plan wrote")],
    output: Output,
    ragged: Annotated[
        bool,
        typer.Option("--ragged", help="write a layerwise plan with each layer's own count, which only ONNX can hold"),
    ] = False,
) -> None:
    """Cut the other experts out of the checkpoint."""
    from prune.cut import prune
    from prune.plan import Plan

    prune(_resolve(model), Plan.load(plan), output, ragged)
    if left_out := json.loads((output / "slimmoe.json").read_text(encoding="utf-8"))["left_out"]:
        say(f"{len(left_out)} tensors of multi-token prediction are left out, which transformers does not load")
    size = sum(path.stat().st_size for path in output.glob("*.safetensors"))
    say(f"pruned checkpoint, {size / 1e6:.1f} MB of weights: {output}")


@app.command()
def recover(
    folder: Annotated[Path, typer.Argument(help="the pruned checkpoint")],
    pair: PairOption,
    output: Output,
    corpus: Corpus = DATA / "calibration",
    dev: Annotated[Path, typer.Option(help="held-out text that decides which weights are kept")] = DATA / "dev",
    teacher: Annotated[
        str | None, typer.Option(help="the unpruned model, to distil from it as well; least-squares needs it")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="of about 2000 tokens; default: by the corpus")] = None,
    method: Annotated[
        str,
        typer.Option(help="full: all weights; lora: adapters, merged back; least-squares: in closed form, no training"),
    ] = "full",
    freeze_router: Annotated[bool, typer.Option("--freeze-router", help="leave the routers as they are")] = False,
    rate: Annotated[float | None, typer.Option(help="learning rate; default: by the model's width")] = None,
) -> None:
    """Mend a pruned checkpoint on the pair's text; the same command goes on where it was stopped."""
    from prune.recovery.settings import Settings

    settings = Settings(steps=steps, rate=rate, method=method, freeze_router=freeze_router)
    settings.check()
    from accelerate import PartialState

    from prune.recovery.recover import recover

    about = recover(folder, pair, corpus, dev, output, settings, None if teacher is None else _resolve(teacher))
    if not PartialState().is_main_process:
        return
    before, after = about["dev_loss_before"], about["dev_loss_after"]
    say(
        f"recovered in {about['seconds']:.0f} s: dev loss {before:.3f} -> {after:.3f} "
        f"(step {about['best_step']} of {about['steps']}): {output}"
    )


class _ListsTypes(TyperCommand):
    """A command whose help ends with the table of types, read only when help is asked for."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        from export.gguf.types import list_types

        formatter.write(
            f"\nTypes, from the largest (bits per weight; what an importance matrix is to them):\n{list_types()}\n"
        )


@app.command(cls=_ListsTypes)
def gguf(
    model: Annotated[str, typer.Argument(help="folder or Hugging Face id of a checkpoint; a GGUF file with --plan")],
    output: Annotated[
        str, typer.Option("-o", "--output", help="the file, or a folder for one named by model, pair, share and type")
    ] = "./",
    quant: Annotated[
        str | None, typer.Option(help="llama.cpp's name of the type, see below  [default: Q4_K_M]")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(help="what plan wrote: cut a GGUF file by it, all types as they are, without torch")
    ] = None,
    pair: Annotated[
        Pair | None,
        typer.Option("--pair", parser=parse_pair, metavar="PAIR", help="default: what the model was pruned for"),
    ] = None,
    corpus: OwnCorpus = None,
    imatrix: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|none",
            help="importance matrix by llama-imatrix, of this model or of the unpruned one. Default: computed on the "
            "pair's text of --corpus, for types that need one, and with --pair for all below 5 bits that it helps",
        ),
    ] = None,
    pre: Annotated[
        str | None,
        typer.Option(help="llama.cpp's name of the pre-tokenisation, for a tokenizer that nothing recognises"),
    ] = None,
) -> None:
    """Write a GGUF file for llama.cpp, LM Studio and Ollama (with a Modelfile beside it where the pair is known).

    slimmoe gguf big.gguf --plan plan.json -o small.gguf cuts a GGUF file as it is, without torch: all types are kept, and
    --quant, --imatrix and --pre are for checkpoints alone.
    """
    if model.endswith(".gguf") or plan is not None:
        _cut_gguf(Path(model), plan, output, [quant, imatrix, pre, pair, corpus])
        return
    from export.gguf import export_gguf

    quant = quant or DEFAULT_QUANT
    matrix = Path(imatrix) if imatrix and imatrix != "none" else None
    path = export_gguf(
        _resolve(model), output, quant, "none" if imatrix == "none" else matrix,
        pair=pair, corpus=corpus or CALIBRATION, pre=pre, tell=say,
    )  # fmt: skip
    say(f"GGUF {quant}, {path.stat().st_size / 1e6:.1f} MB: {path}")


def _cut_gguf(model: Path, plan: Path | None, output: str, of_checkpoints: list[object]) -> None:
    if plan is None:
        raise RequestError(
            f"{model} is a GGUF file already; --plan says which of its experts stay.",
            next_command=f"slimmoe gguf {model} --plan plan.json -o {output}",
        )
    if model.suffix != ".gguf":
        raise RequestError(
            f"--plan cuts GGUF files here, and {model} is none; a checkpoint is cut first.",
            next_command=f"slimmoe prune {model} --plan {plan} -o DIR",
        )
    if any(option is not None for option in of_checkpoints):
        raise RequestError(
            f"The types and the tokenizer of {model} stay as they are, and the plan tells the pair: --quant, --imatrix, "
            "--pre, --pair and --corpus are for checkpoints.",
            next_command=f"slimmoe gguf {model} --plan {plan} -o {output}",
        )
    from export.gguf.cut import cut_gguf
    from prune.plan import Plan

    path = cut_gguf(model, Plan.load(plan), output)
    say(f"pruned GGUF, {path.stat().st_size / 1e6:.1f} MB: {path}")


@app.command()
def onnx(
    model: Annotated[str, typer.Argument(help="folder or Hugging Face id of a checkpoint")],
    output: Output,
    quant: Annotated[str, typer.Option(help="none, fp16, int8, or int4 with attention at 8 bits")] = "int4",
    block: Annotated[int, typer.Option(help="weights that share a scale: 32, or 128 for a smaller file")] = 32,
    zero_points: Annotated[
        bool, typer.Option("--zero-points", help="of int4: closer to the original, but larger and slower")
    ] = False,
) -> None:
    """Write an ONNX folder for ONNX Runtime."""
    from export.onnx import export_onnx
    from runtime.bench import file_size

    path = export_onnx(_resolve(model), output, quant, block, zero_points)
    say(f"ONNX {quant}, {file_size(path) / 1e6:.1f} MB: {path}")


@app.command()
def sweep(
    models: Annotated[list[str], typer.Argument(help="folders or Hugging Face ids of checkpoints")],
    output: Output,
    pairs: Annotated[
        list[Pair], typer.Option("--pair", parser=parse_pair, metavar="PAIR", help="repeat it for several")
    ] = SWEEP_PAIRS,
    ratios: Annotated[
        list[float], typer.Option("--ratio", help="share of the experts to cut; 0 is always there")
    ] = SWEEP_RATIOS,
    criteria: Annotated[list[str], typer.Option("--criterion", help=CRITERIA_HELP)] = SWEEP_CRITERIA,
    types: Annotated[
        list[str], typer.Option("--type", help="of GGUF, or none, fp16, int8, int4 of ONNX")
    ] = SWEEP_TYPES,
    recover: Annotated[str, typer.Option(help="mend what is cut: no, yes, or both to compare")] = "no",
    teach: Annotated[bool, typer.Option("--teach", help="distil from the unpruned model while mending")] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="of mending; default: by the corpus")] = None,
    corpus: Corpus = CALIBRATION,
    dev: Annotated[
        Path, typer.Option(help="held-out text that decides which mended weights are kept", show_default=False)
    ] = DATA / "dev",
    test: Annotated[Path, typer.Option(help=f"translate and score: {TEST_HELP}", show_default=False)] = DATA / "test",
    threads: Threads = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="run on this Ray cluster; local starts one")
    ] = None,
) -> None:
    """Export and measure every combination, into OUTPUT/bench.jsonl. The same command goes on with a stopped sweep."""
    from export.sweep import Sweep, run

    chosen = {"no": (False,), "yes": (True,), "both": (False, True)}.get(recover)
    if chosen is None:
        raise RequestError(f"--recover is no, yes or both, not {recover!r}.")
    rows = run(
        Sweep(
            output, tuple(_resolve(model) for model in models), tuple(pairs), tuple(criteria), tuple(ratios), chosen,
            tuple(types), corpus, dev, test, threads, steps, teach,
        ),
        say, ray,
    )  # fmt: skip
    say(f"{len(rows)} runs: {output}/bench.jsonl")
    say(f"  next: slimmoe report {output} -o {output}/report.html")


@app.command()
def verify(
    artefact: Annotated[Path, typer.Argument(help="a pruned checkpoint, a GGUF file or an ONNX folder")],
    against: Annotated[str, typer.Option(help="the checkpoint it was made from, or a GGUF file")],
    pair: PairOption = DEFAULT_PAIR,
    corpus: Corpus = DATA / "dev",
    plan: Annotated[
        Path | None, typer.Option(help="by which a GGUF file was cut from the one it is held against")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="verify.json, to add the check to")] = None,
    as_json: AsJson = False,
) -> None:
    """Check that an artefact computes what its source computes."""
    from export.verify import add_to_record, verify
    from runtime.errors import WorkError

    result = verify(artefact, Path(against) if against.endswith(".gguf") else _resolve(against), corpus, pair, plan)
    if output is not None:
        add_to_record(output, result)
    if as_json:
        print(json.dumps(result.to_dict()))
    if not result.passed:
        raise WorkError(result.sentence())
    if not as_json:
        say(result.sentence())


@app.command()
def fit(
    model: Annotated[str, typer.Argument(help="folder or Hugging Face id of the checkpoint")],
    memory: Annotated[str, typer.Option(help="of the whole machine, for example 8GiB")],
    pair: PairOption = DEFAULT_PAIR,
    context: Annotated[int, typer.Option(min=1, help="tokens of prompt and translation to hold")] = 1024,
    as_json: AsJson = False,
) -> None:
    """Tell which pruning ratio and type fit into a memory, before any work is done."""
    from prune.checkpoint import Checkpoint
    from prune.fit import fit, table
    from runtime.errors import WorkError
    from runtime.memory import parse_memory

    size = parse_memory(memory, "slimmoe fit MODEL --memory 8GiB")
    found = fit(Checkpoint(_resolve(model)), size, context)
    best = found.recommended
    if as_json:
        print(json.dumps(asdict(found) | {"model": model, "pair": str(pair), "context": context}))
    else:
        console.print(table(found))
        say(
            f"{found.usable_bytes / 1e6:.0f} MB of {memory} are for the model, the rest for the system and other programs"
        )
    if best is None:
        raise WorkError(f"{model} does not fit into {memory}: {found.reason}.")
    if not as_json:
        say(f"take ratio {best.ratio:g} and {best.type}: {found.reason}")
        options = f"PAIR={pair} RATIO={best.ratio:g} MODEL={model}"
        if best.format == "GGUF":
            options += f" QUANT={best.type}"
        say(f"  next: make export {options}")


def main() -> None:
    """Run the command; failures that a user can understand are one sentence and an exit status."""
    try:
        app(standalone_mode=True)
    except SlimmoeError as error:
        print(f"slimmoe: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except PermissionError as error:
        print(f"slimmoe: {error.filename} may not be read or written by this user.", file=sys.stderr)
        sys.exit(1)
    except OSError as error:  # a read-only disk, a file where a folder should be
        print(f"slimmoe: {error.filename or 'a file'}: {error.strerror or error}.", file=sys.stderr)
        sys.exit(1)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer turns Ctrl-C into this status without a word
            print("slimmoe: stopped; nothing was half-written. The same command does what is left.", file=sys.stderr)
        raise


if __name__ == "__main__":
    main()
