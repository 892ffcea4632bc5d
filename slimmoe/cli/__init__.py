"""The ``slimmoe`` command: one verb for each stage. The verbs are in the rooms: each ``command.py`` parses, calls, prints."""

import sys

import typer

from runtime.errors import SlimmoeError
from slimmoe.cli.device import device
from slimmoe.cli.exporting import exporting
from slimmoe.cli.pruning import cutting
from slimmoe.cli.whole import whole

app = typer.Typer(
    help="Cut a translation mixture-of-experts down to what one language pair needs, and run it on a laptop.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verbs in (whole, cutting, exporting, device):  # in the order of the stages
    app.add_typer(verbs)
INTERRUPTED = 130


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
