"""The ``slimmoe`` command: one verb for each stage. Verbs parse, call and print."""

import os
import sys
from importlib import import_module
from typing import Annotated

import typer
from typer.core import TyperCommand

from runtime.errors import SlimmoeError, as_typed, printable
from slimmoe.cli.once import Once
from slimmoe.cli.terminal import ended_by_signals, leave, prepare

# In the order of the stages: a module of this package, the commands in it, and their verbs.
ROOMS = (
    ("whole", "whole", ("export", "sweep")),
    ("doctor", "health", ("doctor",)),
    ("planning", "planning", ("calibrate", "plan")),
    ("pruning", "cutting", ("prune", "recover", "fit")),
    ("exporting", "exporting", ("gguf", "onnx", "verify", "build-llama")),
    ("translating", "translating", ("translate",)),
    ("serving", "serving", ("serve",)),
    ("device", "device", ("evaluate", "bench", "report")),
    ("offloading", "offloading", ("devices",)),
    ("asking", "asking", ("prompt",)),
    ("storing", "storing", ("models",)),
)
INTERRUPTED, BROKEN_PIPE = 130, 141  # 128 and the signal's number
EXTRAS = {  # which extra of pyproject.toml brings a package
    "torch": "prune", "transformers": "prune", "accelerate": "prune", "packaging": "prune", "peft": "recover",
    "onnx": "export", "onnx_ir": "export", "matplotlib": "plots", "starlette": "serve", "uvicorn": "serve",
    "python_multipart": "serve",
}  # fmt: skip


def _show_version(wanted: bool) -> None:
    if wanted:
        import slimmoe

        print(f"slimmoe {slimmoe.__version__}")
        raise typer.Exit


def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="print the version and end")
    ] = False,
) -> None:
    """Cut a translation mixture-of-experts down to what one language pair needs, and run it on a laptop."""


def app_of(verb: str | None = None) -> typer.Typer:
    """The command with all verbs; where the first word typed is a verb, with what is beside it alone, which is faster loaded."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(common)
    rooms = [room for room in ROOMS if verb in room[2]] or ROOMS
    for module, name, _ in rooms:
        commands: typer.Typer = getattr(import_module(f"slimmoe.cli.{module}"), name)
        app.add_typer(commands)
        for command in commands.registered_commands:
            command.cls = Once if command.cls is TyperCommand else command.cls
    return app


def main() -> None:
    """What is installed as ``slimmoe``: ``run``, and the end of the process."""
    try:
        run()
    except SystemExit as end:
        leave(end)


def run() -> None:
    """Run the command; failures that a user can understand are one sentence and an exit status.

    Raises:
        SystemExit: at its end, whatever it was.
    """
    prepare()
    with ended_by_signals() as came:
        _run(came)


def _run(came: list[int]) -> None:
    try:
        app_of(next(iter(sys.argv[1:]), None))(standalone_mode=True)
    except SlimmoeError as error:
        print(as_typed(f"slimmoe: {error}"), file=sys.stderr)
        sys.exit(error.exit_status)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package not in EXTRAS:
            raise
        print(f"slimmoe: This needs {package}, which is not installed.", file=sys.stderr)
        print(f"  next: pip install 'slimmoe[{EXTRAS[package]}]'", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # who reads the output has enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)
    except PermissionError as error:
        print(printable(f"slimmoe: {error.filename} may not be read or written by this user."), file=sys.stderr)
        sys.exit(1)
    except OSError as error:  # a read-only disk, a file where a folder should be
        print(printable(f"slimmoe: {error.filename or 'a file'}: {error.strerror or error}."), file=sys.stderr)
        sys.exit(1)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer turns Ctrl-C into this status without a word
            print("slimmoe: stopped; nothing was half-written. The same command does what is left.", file=sys.stderr)
            sys.exit(128 + came[0] if came else INTERRUPTED)
        raise
