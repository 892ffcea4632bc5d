"""The verb that tells beforehand what will work: doctor."""

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from slimmoe.cli.device import DEFAULT_PAIR, AsJson, PairOption, say

health = typer.Typer()


@health.command()
def doctor(
    model: Annotated[
        str,
        typer.Argument(
            help="a checkpoint's folder, a GGUF file, an ONNX folder, a run's folder, a stored model's name, or an id "
            "in the cache"
        ),
    ],
    pair: PairOption = DEFAULT_PAIR,
    ratio: Annotated[float, typer.Option(min=0, max=1, help="of the cut whose memory is told")] = 0.75,
    as_json: AsJson = False,
) -> None:
    """Tell what will work with a model, from its headers, config, template and tokenizer alone: no weights are read.

    Exit status 1 where something will not.
    """
    from slimmoe.doctor import diagnose

    found = diagnose(model, pair, ratio)
    if as_json:
        print(json.dumps(asdict(found) | {"works": found.works}))
    else:
        for name, text in found.lines():
            say(f"  next: {text}" if name == "next" else f"{name:<10} {text}")
    if not found.works:
        sys.exit(1)
