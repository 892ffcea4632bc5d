"""The ``slimmoe`` command: one verb for each stage. Verbs parse, call and print."""

import os
import sys
from typing import Annotated

import typer
from typer.core import TyperCommand

from runtime.errors import SlimmoeError, as_typed, printable
from slimmoe.cli.asking import asking
from slimmoe.cli.device import device
from slimmoe.cli.doctor import health
from slimmoe.cli.exporting import exporting
from slimmoe.cli.offloading import offloading
from slimmoe.cli.once import Once
from slimmoe.cli.planning import planning
from slimmoe.cli.pruning import cutting
from slimmoe.cli.serving import serving
from slimmoe.cli.storing import storing
from slimmoe.cli.terminal import ended_by_signals, prepare
from slimmoe.cli.translating import translating
from slimmoe.cli.whole import whole

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verbs in (
    whole,
    health,
    planning,
    cutting,
    exporting,
    translating,
    serving,
    device,
    offloading,
    asking,
):  # in the order of the stages
    app.add_typer(verbs)
app.add_typer(storing, name="models")
for verbs in app.registered_groups:
    for verb in verbs.typer_instance.registered_commands if verbs.typer_instance else ():
        verb.cls = Once if verb.cls is TyperCommand else verb.cls
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


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="print the version and end")
    ] = False,
) -> None:
    """Cut a translation mixture-of-experts down to what one language pair needs, and run it on a laptop."""


def main() -> None:
    """Run the command; failures that a user can understand are one sentence and an exit status."""
    prepare()
    with ended_by_signals() as came:
        _run(came)


def _run(came: list[int]) -> None:
    try:
        app(standalone_mode=True)
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
