"""Chat templates as transformers renders them: Jinja with the same extensions, filters and functions, in a sandbox.

A template comes with a model that somebody else published. It may therefore reach nothing of Python, and it is stopped
where it takes too long or writes too much.
"""

import json
import re
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache, wraps
from types import FrameType
from typing import Any, TypeVar

from jinja2 import Environment, Template, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import CallBlock, Node
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runtime.errors import WorkError

SECONDS = 0.5  # of the processor that a rendering may take; published templates take milliseconds
LONGEST = 1 << 20  # characters that a text, and items that a number may stand for
DEEPEST = 200  # calls within calls
Message = dict[str, Any]
Result = TypeVar("Result")


class _Generation(Extension):
    """``{% generation %}``: marks what the model writes, for training masks; the text within stays as it is."""

    tags = {"generation"}  # noqa: RUF012  (Jinja's own interface)

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("_as_it_is"), [], [], body).set_lineno(line)

    def _as_it_is(self, caller: Macro) -> str:
        return caller()


def _check_sizes(*values: Any) -> None:
    """Refuse numbers that an operation or a function could turn into more memory than there is."""
    for value in values:
        if isinstance(value, int) and abs(value) > LONGEST:
            raise TemplateError(f"it reckons with {value:.3g}")


def _check_widths(form: Any) -> None:
    """Refuse a format with such a number in it."""
    if isinstance(form, str):
        _check_sizes(*map(int, re.findall(r"\d{7,20}", form)))


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        _check_sizes(left, right)
        lengths = [len(value) for value in (left, right) if isinstance(value, str | list | tuple)]
        numbers = [value for value in (left, right) if isinstance(value, int)]
        if operator == "+":
            _check_sizes(sum(lengths))
        if operator == "*" and lengths and numbers:
            _check_sizes(lengths[0] * numbers[0])
        if operator == "**" and len(numbers) == 2:
            _check_sizes(abs(left).bit_length() * right)
        if operator == "%":
            _check_widths(left)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, called: Any, *args: Any, **kwargs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        _check_sizes(*args, *kwargs.values())
        return super().call(context, called, *args, **kwargs)


def _checked(filter: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that refuses such numbers as arguments."""

    @wraps(filter)
    def checked(*args: Any, **kwargs: Any) -> Any:
        _check_sizes(*args, *kwargs.values())
        return filter(*args, **kwargs)

    return checked


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Without the escapes for HTML that Jinja's own filter writes."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@cache
def _environment() -> Environment:
    # Not optimised: that is, nothing is computed before the rendering is watched.
    options = {"trim_blocks": True, "lstrip_blocks": True, "optimized": False}
    environment = _Sandbox(**options, extensions=[_Generation, loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.filters = {name: _checked(each) for name, each in environment.filters.items()}
    environment.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
    return environment


@cache
def _compile(source: str) -> Template:
    return _environment().from_string(source)


def _limited(work: Callable[[], Result]) -> Result:
    """Do ``work``, and end it where it takes longer than SECONDS or where a text of LONGEST characters comes up.

    Python calls a trace function for each line and each return. That is slow, and the only thing that ends a loop which
    writes nothing; a template is rendered once for all segments.
    """
    end, before, depth = time.thread_time() + SECONDS, sys.gettrace(), 0

    def trace(frame: FrameType, event: str, value: Any) -> Any:
        nonlocal depth
        depth += (event == "call") - (event == "return")
        if depth > DEEPEST:  # before Python's own limit, which would end the watching too
            raise TemplateError("it calls itself without end")
        if time.thread_time() > end:
            raise TemplateError(f"it takes more than {SECONDS:g} seconds of the processor")
        if event == "call":
            _check_widths(frame.f_locals.get("format_string"))
        if event == "return" and isinstance(value, str) and len(value) > LONGEST:
            raise TemplateError(f"it writes more than {LONGEST} characters")
        return trace

    sys.settrace(trace)
    try:
        return work()
    finally:
        sys.settrace(before)


def render(source: str, messages: list[Message], add_generation_prompt: bool, values: Mapping[str, Any]) -> str:
    """What ``apply_chat_template`` of transformers renders of a conversation, byte for byte.

    Args:
        values: what else the template may read: special tokens by name (``bos_token``), and its own switches.

    Raises:
        WorkError: it is no template, refuses the conversation, or runs away.
    """
    known = {"tools": None, "documents": None, **values, "add_generation_prompt": add_generation_prompt}
    try:
        template = _compile(source)
        return _limited(lambda: template.render(known, messages=messages))
    except Exception as error:  # a template is a program: it may fail in any way
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise WorkError(f"The model's chat template cannot be rendered: {reason.rstrip('.')}.") from error
