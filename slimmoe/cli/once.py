"""An option has one value: given twice with two, under whichever of its names, it is refused instead of the first being lost."""

from typing import Any

import typer
from typer.core import TyperCommand


class Once(TyperCommand):
    """A verb whose options may come again only with the same value; those that take several are apart."""

    def make_parser(self, ctx: Any) -> Any:
        """The parser of click, with each option watched."""
        parser = super().make_parser(ctx)
        for option in {id(each): each for each in (*parser._long_opt.values(), *parser._short_opt.values())}.values():
            if option.action in ("store", "store_const"):  # the others add up
                option.process = _watched(option, option.process, ctx)
        return parser


def _watched(option: Any, process: Any, ctx: Any) -> Any:
    def once(value: Any, state: Any) -> None:
        before = state.opts.get(option.dest)
        process(value, state)
        if before not in (None, state.opts[option.dest]):
            said = f"given twice, as {before!r} and {state.opts[option.dest]!r}."
            raise typer.BadParameter(said, ctx=ctx, param=option.obj)

    return once
