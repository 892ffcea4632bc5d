"""The verbs on the models that stay: models list, add, remove, default, wheel."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from runtime.errors import RequestError
from runtime.text.pairs import Pair, parse_pair
from slimmoe.cli.device import AsJson, say

storing = typer.Typer(
    name="models", no_args_is_help=True, help="The models that stay on this machine: list, add, remove, default, wheel."
)
Name = Annotated[str, typer.Argument(help="as slimmoe models list has it", show_default=False)]
OfPair = Annotated[
    Pair | None, typer.Option("--pair", parser=parse_pair, metavar="PAIR", help="default: what the model tells")
]


@storing.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the stored models: pair, engine and type, size, and of which pairs each is the default."""
    from runtime.formats.store import store_folder
    from runtime.translate.stored import ADD, Stored, stored_models

    def row(model: Stored) -> dict[str, Any]:
        return {
            "name": model.name, "pairs": [*map(str, model.pairs)], "engine": model.engine, "type": model.type,
            "bytes": model.bytes, "default_for": [*model.defaults], "path": str(model.artefact),
            "package": model.package or None, "problem": model.problem or None,
        }  # fmt: skip

    models = stored_models()
    if as_json:
        print(json.dumps([row(model) for model in models], ensure_ascii=False))
        return
    if not models:
        say(f"There are no models in {store_folder()} yet.\n  next: {ADD}")
        return
    cells = [["name", "pair", "engine", "type", "MB", "default for", "from"]]
    for model in models:
        pairs = " + ".join(map(str, model.pairs)) or "any"
        known = [model.name, pairs, model.engine, model.type, f"{model.bytes / 1e6:.1f}", ", ".join(model.defaults)]
        cells.append([*(known if not model.problem else [model.name, *["-"] * 4, ""]), model.package])
    widths = [max(map(len, column)) for column in zip(*cells)]
    for line in cells:
        aligned = (
            cell.rjust(width) if width and i == 4 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths))
        )
        say("  ".join(aligned).rstrip())
    for model in models:
        if model.problem:
            say(f"{model.name} cannot be used: {model.problem}")


@storing.command()
def add(
    what: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="a GGUF file, an ONNX folder, a run's folder, or a repository of the Hugging Face hub: "
            "organisation/name, with /FILE or :TYPE where it holds several, or a link",
            show_default=False,
        ),
    ],
    name: Annotated[str | None, typer.Option(help="default: by what it is called")] = None,
    pair: Annotated[
        Pair | None,
        typer.Option(
            parser=parse_pair, metavar="PAIR", help="of a model that does not tell it; default: any may be asked for"
        ),
    ] = None,
) -> None:
    """Keep a copy of a model, checked, for this user; slimmoe translate then finds it by its pair or name."""
    from slimmoe.storing import add_model

    added = add_model(what, name, pair)
    pairs = " + ".join(map(str, added.pairs)) or "any pair"
    say(f"{added.name}: {pairs}, {added.engine} {added.type}, {added.bytes / 1e6:.1f} MB")


@storing.command()
def remove(name: Name) -> None:
    """Remove a model from the store."""
    from runtime.formats.store import remove_model
    from runtime.translate.stored import find_stored

    removed = find_stored(name)
    remove_model(name)
    pairs = f"; it was the default for {', '.join(removed.defaults)}" if removed.defaults else ""
    size = f", {removed.bytes / 1e6:.1f} MB" if removed.bytes else ""
    say(f"removed {name}{size}{pairs}")


@storing.command()
def default(name: Name, pair: OfPair = None) -> None:
    """Take this model where several translate a pair. One that tells no pair is then taken for all without a default."""
    from runtime.formats.store import ANY, set_default
    from runtime.translate.stored import find_stored

    chosen = find_stored(name)
    if chosen.problem:
        raise RequestError(f"{name} cannot be used: {chosen.problem}", next_command=f"slimmoe models remove {name}")
    if pair is not None and chosen.pairs and pair.base not in (each.base for each in chosen.pairs):
        told = " + ".join(map(str, chosen.pairs))
        raise RequestError(f"{name} was cut for {told}, not for {pair}.", next_command=f"slimmoe models default {name}")
    keys = [str(pair)] if pair is not None else [*map(str, chosen.pairs)] or [ANY]
    for key in keys:
        set_default(name, key)
    say(f"{name} is the default for {', '.join(keys if keys != [ANY] else ['any pair'])}")


@storing.command()
def wheel(
    what: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="a run's folder, an ONNX folder, a GGUF file or a stored model's name"),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="folder for the wheel")] = Path("dist"),
    version: Annotated[str, typer.Option(help="of the package")] = "1.0",
    name: Annotated[
        str | None, typer.Option(help="of the model, and slimmoe-model-NAME of the package; default: its pair")
    ] = None,
    licence: Annotated[Path | None, typer.Option(help="its text; default: LICENSE beside the model")] = None,
    card: Annotated[
        Path | None, typer.Option(help="Markdown; default: README.md beside the model, else what it tells")
    ] = None,
) -> None:
    """Write a model as a Python package, which pip installs and slimmoe translate then finds by its pair."""
    from slimmoe.wheels import write_wheel

    written = write_wheel(what, output, version, name, licence, card)
    say(f"wheel, {written.stat().st_size / 1e6:.1f} MB: {written}")
