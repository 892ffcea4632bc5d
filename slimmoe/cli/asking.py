"""The verb that shows what a model is sent: prompt."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from runtime.errors import printable
from slimmoe.cli.device import DEFAULT_PAIR, AsJson, PairOption, Prompt

asking = typer.Typer()
_SENTENCE = "The file could not be opened."


def _find(model: str) -> Path:
    """A GGUF file, an ONNX folder, a stored model or a checkpoint's folder; of an id only the small files are downloaded."""
    from runtime.formats.artefact import find_artefact
    from runtime.formats.store import stored_folder

    if Path(model).exists() or model.endswith((".gguf", ".onnx")) or stored_folder(model):
        return find_artefact(Path(model), checkpoint=True)
    from prune.hub import resolve_model

    return resolve_model(model, weights=False)


@asking.command()
def prompt(
    model: Annotated[
        str,
        typer.Argument(
            help="a GGUF file, an ONNX folder, a stored model's name, a checkpoint's folder or Hugging Face id"
        ),
    ],
    text: Annotated[str, typer.Argument(help="the segment to be translated")] = _SENTENCE,
    pair: PairOption = DEFAULT_PAIR,
    prompt: Prompt = None,
    as_json: AsJson = False,
) -> None:
    """Show exactly what a model is sent for a segment, special tokens included, and where it is stopped."""
    from runtime.text.asked import read_asked

    found = read_asked(_find(model), pair, text, prompt)
    if as_json:
        print(json.dumps(found.to_dict(), ensure_ascii=sys.stdout.isatty()))  # which would obey what is in a template
        return
    print(printable(found.prompt) if sys.stdout.isatty() else found.prompt)
    sys.stdout.flush()
    for line in found.sentences():
        print(printable(line), file=sys.stderr)
