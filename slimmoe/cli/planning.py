"""The verbs that see what experts do and decide which of them stay: calibrate, plan."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runtime.errors import RequestError
from runtime.text.corpus import read_segments
from slimmoe.cli.device import DATA, Output, PairOption, Prompt, console, say
from slimmoe.cli.models import moe_model, resolve, warn_of_formats
from slimmoe.cli.offloading import AllCpuExperts, CpuExperts, DeviceName, GpuLayers

if TYPE_CHECKING:
    from prune.calibrate.stats import Stats
    from prune.plan.explanation import Explanation
    from prune.trials.audit import Audit
    from prune.trials.trial import Trial

planning = typer.Typer()
CRITERIA_HELP = (
    "gate, frequency, activation-norm, reap, saliency, nllb, easy-ep, shape, contrast, reconstruction, inverse-gate or random "
    "(docs/pruning.md)"
)
ALLOCATION_HELP = (
    "how many experts each layer keeps: uniform, layerwise, coverage, jsd, inverse-jsd or search (docs/pruning.md)"
)
CALIBRATION = DATA / "calibration"
OwnCorpus = Annotated[  # None: CALIBRATION, for verbs that refuse a corpus where they make no use of it
    Path | None, typer.Option("--corpus", help="TSV, PO, or the stem of Moses files (STEM.en, STEM.de)")
]
MOST_NEW = 0.001  # of other text in tokens that a corpus lacks: with more, translations show it (docs/vocabulary.md)
BAR = 20  # characters for a layer that keeps all its experts


@planning.command()
def calibrate(
    model: Annotated[str, typer.Argument(help="folder or Hugging Face id of the checkpoint, or a GGUF file")],
    pair: PairOption,
    output: Output,
    corpus: OwnCorpus = None,
    source: Annotated[
        Path | None,
        typer.Option(help="sentences, one a line, for the model to translate itself; kept as OUTPUT.own.tsv, a corpus"),
    ] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="stop after so many tokens")] = None,
    stream: Annotated[
        bool | None,
        typer.Option(help="layer by layer, on disk between layers (default: where the model does not fit into memory)"),
    ] = None,
    imatrix: Annotated[
        Path | None, typer.Option(help="an importance matrix by llama-imatrix: its counts, for frequency alone")
    ] = None,
    prompt: Prompt = None,
    device_name: DeviceName = "auto",
    gpu_layers: GpuLayers = "auto",
    cpu_experts: CpuExperts = "auto",
    all_cpu_experts: AllCpuExperts = False,
) -> None:
    """Sum up what each expert does on a pair's text: one pass over whole conversations.

    An interrupted run goes on where it was when the same command is given again. A GGUF file needs no torch.
    """
    from prune.calibrate.stats import Stats
    from runtime.engines import Offload

    offload = Offload.parse(device_name, gpu_layers, cpu_experts, all_cpu_experts)
    Stats.check_output(output)
    if not model.endswith(".gguf") and offload != Offload():
        raise RequestError(
            "--device, --gpu-layers and --cpu-experts are for GGUF files: a checkpoint runs where PyTorch has a GPU.",
            next_command="the same without them",
        )
    if imatrix is not None:
        if any(option is not None for option in (tokens, stream, corpus, source, prompt)):
            raise RequestError(
                "An importance matrix is read as it is: the other options are for running the model.",
                next_command=f"slimmoe calibrate {model} --pair {pair} --imatrix {imatrix} -o {output}",
            )
        from prune.calibrate.imatrix import read_counts

        stats = read_counts(imatrix, moe_model(model), pair)
        stats.save(output)
        say(f"counts of {stats.calibration['prompt_tokens']} tokens, for the criterion frequency: {output}")
        return
    if source is not None:
        if corpus is not None:
            raise RequestError("--source is text without translations and --corpus has them: give one of the two.")
        from slimmoe.own_translations import own_translations

        corpus = output.with_name(f"{output.stem}.own.tsv")
        own_translations(moe_model(model), pair, source, corpus, say, prompt=prompt)
        say(f"own translations: {corpus}")
    corpus = corpus or CALIBRATION
    if model.endswith(".gguf"):
        from prune.calibrate.from_gguf import calibrate_gguf

        if stream:
            raise RequestError(
                "--stream is for checkpoints: a GGUF file stays on disk anyway.",
                next_command=f"slimmoe calibrate {model} --pair {pair} -o {output}",
            )
        stats, prints = calibrate_gguf(Path(model), pair, corpus, tokens, output, prompt=prompt, offload=offload), True
    else:
        read_segments(corpus, pair)  # a missing one is told before anything is downloaded or loaded
        folder = resolve(model)
        warn_of_formats(str(folder))
        from prune.calibrate.from_checkpoint import calibrate, is_main_process  # torch

        stats, _ = calibrate(folder, pair, corpus, tokens, stream=stream, output=output, prompt=prompt)
        prints = is_main_process()
    used = stats.calibration
    total = used["prompt_tokens"] + used["response_tokens"]
    if prints:
        say(f"calibrated on {used['segments']} segments ({total} tokens) in {used['seconds']:.1f} s: {output}")


@planning.command()
def plan(
    stats: Annotated[Path, typer.Argument(help="what calibrate wrote")],
    ratio: Annotated[float, typer.Option(help="share of the experts to cut, 0 up to 1")],
    output: Output,
    criterion: Annotated[str, typer.Option(help=CRITERIA_HELP)] = "gate",
    allocation: Annotated[str, typer.Option(help=ALLOCATION_HELP)] = "uniform",
    against: Annotated[
        Path | None, typer.Option(help="statistics of other text, for the criterion contrast and the allocation jsd")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the random criterion and of a search")] = 0,
    explain: Annotated[
        bool, typer.Option("--explain", help="print, per layer, what is kept and how routing is concentrated")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(help="of a search, an audit or --vocabulary  [default: the one that the statistics name]"),
    ] = None,
    vocabulary: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="which tokens stay as well: coverage=0.9999 of --corpus, 8192, or a share, 0.25"
        ),
    ] = None,
    corpus: Annotated[Path, typer.Option(help="text of a search, an audit or --vocabulary")] = DATA / "calibration",
    evaluations: Annotated[int, typer.Option(min=1, help="budgets that a search tries")] = 200,
    seconds: Annotated[float | None, typer.Option(min=0, help="stop a search after so long")] = None,
    audit: Annotated[
        Path | None,
        typer.Option(help="remove single experts, one by one, and write to this file what that costs; prints who knew"),
    ] = None,
) -> None:
    """Choose which experts stay, and which tokens. A search runs the model, and goes on where it was stopped."""
    from prune.calibrate.stats import Stats
    from prune.plan.explanation import explain as explain_plan
    from prune.plan.plan import Plan, make_plan

    Plan.check_output(output)
    known = Stats.load(stats)
    warn_of_formats(known.model)
    other = Stats.load(against) if against else None
    trial = _trial(known, model, corpus) if audit or allocation == "search" else None
    if trial and allocation == "search":
        from prune.trials.search import search_by_overlap

        made, overlap = search_by_overlap(
            trial, known, ratio, criterion, output, evaluations=evaluations, seconds=seconds, seed=seed, against=other
        )
        say(f"{overlap:.4f} of the next-token probability stays where it was")
    else:
        made = make_plan(known, ratio, criterion, seed, allocation, other)
    if vocabulary is not None:
        from prune.vocabulary.choose import add_vocabulary

        source = model or known.model
        made = add_vocabulary(made, Path(source) if source.endswith(".gguf") else resolve(source), vocabulary, corpus)
    explanation = explain_plan(made, known) if explain else None
    made.save(output)
    say(f"plan {made.hash}: {made.kept}: {output}")
    if made.vocabulary:
        say_vocabulary(made.vocabulary)
    if explanation is not None:
        _print_explanation(explanation, allocation)
    if made.top_k < known.top_k:
        say(f"top-k is lowered from {known.top_k} to {made.top_k}, since no more experts stay")
    if audit and trial:
        _audit(known, trial, seed, audit)


def say_vocabulary(about: Mapping[str, Any]) -> None:
    """Which tokens stay, by a selection's record, and whether the text was long enough to tell."""
    say(
        f"{about['after']} of {about['before']} tokens stay: {100 * about['covered']:.2f} % of the corpus is in them, and about "
        f"{100 * about['expected']:.2f} % of other text like it will be"
    )
    if about["covered"] - about["expected"] > MOST_NEW:
        say("  the corpus is too short to tell which tokens the pair needs: give a longer one (docs/vocabulary.md)")


def _trial(stats: "Stats", model: str | None, corpus: Path) -> "Trial":
    from prune.trials.trial import Trial
    from runtime.text.pairs import planned_pair

    folder, pair = model or stats.model, planned_pair(stats.pair)
    if folder.endswith(".gguf"):
        raise RequestError("A search and an audit run the checkpoint, not a GGUF file: name its folder with --model.")
    if pair is None:
        raise RequestError(f"The statistics are of {stats.pair}: a search and an audit need those of one pair.")
    return Trial(resolve(folder), pair, corpus)


def _audit(stats: "Stats", trial: "Trial", seed: int, path: Path) -> None:
    from prune.trials.audit import audit as run
    from prune.trials.trial import progress
    from runtime.formats.files import new_file

    with progress(0, "audit", False) as bar:

        def tell(total: int) -> None:
            bar.total = total
            bar.update(1)

        found = run(stats, trial.loss, seed=seed, tell=tell)
    with new_file(path) as temporary:
        temporary.write_text(json.dumps(found.to_dict()) + "\n", encoding="utf-8")
    _print_audit(found)
    say(f"{len(found.removals)} removals, loss of the whole model {found.loss:.4f}: {path}")


def _print_audit(found: "Audit") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    by_criterion = found.correlations()
    layers = list(next(iter(by_criterion.values())))
    table = Table("criterion", *(f"layer {layer}" for layer in layers), "mean", box=SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, values in by_criterion.items():
        told = [value for value in values.values() if not math.isnan(value)]
        mean = f"{sum(told) / len(told):.2f}" if told else "-"
        table.add_row(name, *("-" if math.isnan(value) else f"{value:.2f}" for value in values.values()), mean)
    console().print(table)
    say("rank correlation of an expert's score with the loss that its removal alone adds; 0 is chance")


def _print_explanation(layers: "list[Explanation]", allocation: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table("layer", "kept", "effective", "mass kept", "largest cut", "unused", "apart", box=SIMPLE_HEAD)
    for i, column in enumerate(table.columns):
        column.justify, column.no_wrap = "left" if i == 1 else "right", True
    widest = len(str(max(layer.experts for layer in layers)))
    for layer in layers:
        bar = "█" * max(1, round(BAR * layer.kept / layer.experts))
        table.add_row(
            str(layer.layer), f"{layer.kept:>{widest}} of {layer.experts} {bar}", f"{layer.effective:.1f}",
            f"{layer.mass_kept:.1%}", f"{layer.busiest_dropped:.1%}", str(layer.never_chosen),
            "-" if math.isnan(layer.divergence) else f"{layer.divergence:.3f}",
        )  # fmt: skip
    console().print(table)
    say("effective: as many equally used experts would be as concentrated, exp(entropy of the gate mass)")
    say("mass kept, largest cut: of the layer's gate mass; unused: experts that no token chose")
    say("apart: Jensen-Shannon divergence of source and target language's routing, 0 the same, 1 disjoint")
    say(WHY[allocation])


WHY = {
    "uniform": "kept: the same share of every layer",
    "layerwise": "kept: the experts with the highest share of their layer's score, whatever the layer",
    "coverage": "kept: in each layer the fewest experts that cover the same part of its score",
    "jsd": "kept: top-k in each layer, and the rest in proportion to the divergence",
    "inverse-jsd": "kept: top-k in each layer, and the more of the rest, the less the divergence; a control",
    "search": "kept: the counts under which the model's predictions changed least, of those that were tried",
}
