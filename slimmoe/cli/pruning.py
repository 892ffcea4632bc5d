"""The verbs that cut experts out, recover what is left, and tell what fits: prune, recover, fit."""

import json
from collections.abc import Container
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from runtime.errors import RequestError
from runtime.text.corpus import read_segments
from slimmoe.cli.device import (
    DATA,
    DEFAULT_PAIR,
    AsJson,
    Corpus,
    KnownPair,
    Output,
    PairOption,
    Prompt,
    console,
    known_pair_of,
    say,
)
from slimmoe.cli.models import moe_model, resolve, warn_of_formats
from slimmoe.cli.planning import say_vocabulary

cutting = typer.Typer()


@cutting.command()
def prune(
    model: Annotated[str, typer.Argument(help="folder or Hugging Face id of a checkpoint, or a GGUF file")],
    output: Annotated[str, typer.Option("-o", "--output", help="where to write; for a GGUF file a file or a folder")],
    plan: Annotated[Path | None, typer.Option(help="what plan wrote; not needed for --vocabulary alone")] = None,
    ragged: Annotated[
        bool,
        typer.Option("--ragged", help="write a layerwise plan with each layer's own count, which only ONNX can hold"),
    ] = False,
    text_only: Annotated[
        bool,
        typer.Option(
            "--text-only", help="leave out vision and audio parts: the decoder alone, a causal language model"
        ),
    ] = False,
    vocabulary: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="cut tokens as well: coverage=0.9999 of the corpus, 8192 tokens, or a share, 0.25",
        ),
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="text of the pair whose tokens --vocabulary counts  [default: data/calibration]")
    ] = None,
    pair: KnownPair = None,
) -> None:
    """Cut the other experts out of a checkpoint, or out of a GGUF file as it is: all types are kept, without torch."""
    if vocabulary is None and (plan is None or corpus or pair):
        raise RequestError(
            "There is no --plan, and no --vocabulary to cut tokens alone."
            if plan is None
            else "The plan tells the pair and was made on its text: --corpus and --pair are for --vocabulary.",
            next_command=f"slimmoe prune {model} --plan {plan or 'plan.json'} -o {output}",
        )
    from prune.checkpoint import Checkpoint
    from prune.gguf_model import GgufModel
    from prune.rewrite.text_only import beside
    from runtime.formats.artefact import provenance_of
    from slimmoe import api

    is_gguf = model.endswith(".gguf")
    source = Path(model) if is_gguf else resolve(model)
    if not is_gguf:
        warn_of_formats(str(source))
    path = api.prune(
        source,
        plan,
        output,
        ragged=ragged,
        text_only=text_only,
        vocabulary=vocabulary,
        corpus=corpus or DATA / "calibration",
        pair=pair,
    )
    cut = moe_model(str(path))
    if cut.draft_places():
        say(
            "the layer of multi-token prediction stays for llama.cpp to draft with; no statistics are of its experts: it keeps "
            f"those of the same numbers as layer {max(cut.moe_layers)}, and its drafts may be taken less often"
        )
    tokens = provenance_of(path).vocabulary
    if tokens and tokens != provenance_of(source).vocabulary:
        say_vocabulary(tokens)
    if is_gguf:
        if GgufModel(source).has_unloaded and not cut.draft_places():
            say("layers of multi-token prediction are left out: llama.cpp does not draft with this architecture's")
        say(f"pruned GGUF, {path.stat().st_size / 1e6:.1f} MB: {path}")
        return
    others = beside(Checkpoint(source)) if text_only else []
    _say_what_is_left_out(path, {*others})
    if others:
        tensors = Checkpoint(source).tensors
        gone = sum(tensors[name].stop - tensors[name].start for name in others)
        say(f"vision and audio parts are left out: {len(others)} tensors, {gone / 1e6:.1f} MB")
    size = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    say(f"pruned checkpoint, {size / 1e6:.1f} MB of weights: {path}")


def _say_what_is_left_out(folder: Path, others: Container[str] = ()) -> None:
    from runtime.formats.provenance import read_provenance

    written = read_provenance(folder)
    if left_out := [name for name in (written.left_out if written else ()) if name not in others]:
        say(f"{len(left_out)} tensors of multi-token prediction are left out, which transformers does not load")


@cutting.command()
def recover(
    folder: Annotated[Path, typer.Argument(help="the pruned checkpoint")],
    output: Output,
    pair: KnownPair = None,
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
    prompt: Prompt = None,
) -> None:
    """Recover a pruned checkpoint on the pair's text; the same command goes on where it was stopped."""
    from prune.recovery.settings import Settings

    settings = Settings(steps=steps, rate=rate, method=method, freeze_router=freeze_router)
    settings.check()
    pair = pair or known_pair_of([folder])
    for text in (corpus, dev):
        read_segments(text, pair)
    folder, teaching = resolve(str(folder)), None if teacher is None else resolve(teacher)
    from accelerate import PartialState

    from prune.checkpoint import Checkpoint
    from prune.recovery.recover import recover

    about = recover(folder, pair, corpus, dev, output, settings, teaching, prompt=prompt)
    if not PartialState().is_main_process:
        return
    if (quantisation := Checkpoint(folder).quantisation) is not None:
        say(f"{quantisation.label} weights of {folder} are dequantised: what is written is an unquantised checkpoint")
    _say_what_is_left_out(output)
    before, after = about["dev_loss_before"], about["dev_loss_after"]
    say(
        f"recovered in {about['seconds']:.0f} s: dev loss {before:.3f} -> {after:.3f} "
        f"(step {about['best_step']} of {about['steps']}): {output}"
    )


@cutting.command()
def fit(
    model: Annotated[str, typer.Argument(help="folder or Hugging Face id of the checkpoint, or a GGUF file")],
    memory: Annotated[str, typer.Option(help="of the whole machine, for example 8GiB")],
    vram: Annotated[
        str | None, typer.Option(metavar="SIZE", help="of a GPU that has its own, 6GiB: split GGUF files over both")
    ] = None,
    pair: PairOption = DEFAULT_PAIR,
    context: Annotated[int, typer.Option(min=1, max=2**31 - 1, help="tokens of prompt and translation to hold")] = 1024,
    vocabulary: Annotated[
        str | None, typer.Option(metavar="SIZE", help="with so many tokens, 8192, or this share of them, 0.25")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell which pruning ratio and type fit into a memory, before any work is done."""
    from export.fit import fit, table
    from prune.vocabulary.choose import rows_of
    from prune.vocabulary.selection import Amount
    from runtime.engines.split import MARGIN
    from runtime.errors import WorkError
    from runtime.measure.memory import parse_memory

    size = parse_memory(memory, "slimmoe fit MODEL --memory 8GiB")
    known = moe_model(model)
    tokens = Amount.parse(vocabulary).share_of(rows_of(known)) if vocabulary else 1.0
    card = parse_memory(vram, "slimmoe fit MODEL --memory 8GiB --vram 6GiB") if vram is not None else None
    found = fit(known, size, context, tokens, card)
    best = found.recommended
    if as_json:
        print(json.dumps(asdict(found) | {"model": model, "pair": str(pair), "context": context}))
    else:
        console().print(table(found))
        say(
            f"{found.usable_bytes / 1e6:.0f} MB of {memory} are for the model, the rest for the system and other programs"
        )
        if vram:
            say(f"{MARGIN / 2**30:g} GiB of the card's {vram} are left to the screen and its driver")
        for sentence in dict.fromkeys(choice.refused for choice in found.choices if choice.refused):
            types = dict.fromkeys(choice.type for choice in found.choices if choice.refused == sentence)
            say(f"x {', '.join(types)}: {sentence}")
    if best is None:
        if all(choice.refused for choice in found.choices):
            raise WorkError(f"{model} cannot be made smaller here: {found.reason}.")
        both = f"{memory} and a card of {vram}" if vram else memory
        raise WorkError(f"{model} does not fit into {both}: {found.reason}.")
    if not as_json:
        whole = next(
            (c for c in found.choices if c.fits and c.split and c.split.is_whole and c.type == best.type), None
        )
        if whole and best.split and not best.split.is_whole:
            say(
                f"from ratio {whole.ratio:g} on, the card holds all of it{'' if model.endswith('.gguf') else f' in {whole.type}'}"
            )
        say(f"take ratio {best.ratio:g} and {best.type}: {found.reason}")
        if model.endswith(".gguf"):
            say(
                f"  next: slimmoe calibrate {model} --pair {pair} -o stats.safetensors   (then plan --ratio {best.ratio:g})"
            )
            return
        options = f"PAIR={pair} RATIO={best.ratio:g} MODEL={model}"
        if best.format == "GGUF":
            options += f" QUANT={best.type}"
        options += f" VOCABULARY={vocabulary}" if vocabulary else ""
        say(f"  next: make export {options}")
