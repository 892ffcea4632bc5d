"""Is a value that was read from JSON what a type says? For records whose keys are a ``TypedDict``."""

import math
import types
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired, Required, Union, get_args, get_origin, get_type_hints, is_typeddict

_NAMES = {float: "a number", int: "a whole number", str: "text", bool: "true or false", type(None): "null"}
MOST = 1 << 63  # what a whole number of bytes or tokens may be


@dataclass(frozen=True)
class Within:
    """Bounds of a number, both included: ``Annotated[float, Within(0, 1)]``."""

    low: float
    high: float = math.inf

    def __str__(self) -> str:
        return f"{self.low:g} or more" if self.high >= MOST else f"from {self.low:g} to {self.high:g}"


Count = Annotated[int, Within(0, MOST)]
Positive = Annotated[int, Within(1, MOST)]
Amount = Annotated[float, Within(0)]
Share = Annotated[float, Within(0, 1)]


def mismatch(value: Any, kind: Any, name: str) -> str:
    """Why a value is not of a type, as a sentence's end; empty where it is. Keys that the type does not name are free.

    Args:
        kind: ``float`` (finite; whole numbers too), ``int``, ``str``, ``bool``, ``list[X]``, ``tuple[X, Y]`` (a list of
            that length), ``dict[str, X]``, a ``TypedDict``, a union of such, ``Annotated[X, Within(...)]``, or ``Any``.
        name: what the value is called.
    """
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return mismatch(value, args[0], name) or _out_of_bounds(value, args[1:], name)
    if origin in (Required, NotRequired):
        return mismatch(value, args[0], name)
    if origin in (Union, types.UnionType):
        found = [mismatch(value, each, name) for each in args]
        return "" if "" in found else found[0]
    if is_typeddict(kind):
        return _of_record(value, kind, name)
    if origin in (list, tuple):
        return _of_list(value, origin, args, name)
    if origin is dict:
        if not isinstance(value, dict):
            return f"{name} is no JSON object"
        return next((why for key in value if (why := _text(key, name) or mismatch(value[key], args[1], name))), "")
    if kind is str:
        return _text(value, name)
    return "" if kind is Any or _is_number(value, kind) else f"{name} is not {_NAMES[kind]}"


def _out_of_bounds(value: Any, annotations: tuple[Any, ...], name: str) -> str:
    bounds = [each for each in annotations if isinstance(each, Within)]
    return next((f"{name} is not {each}" for each in bounds if not each.low <= value <= each.high), "")


def _is_number(value: Any, kind: type) -> bool:
    if kind is not float:
        return type(value) is kind
    return type(value) in (int, float) and abs(value) < 1e300 and not math.isnan(value)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        return f"{name} is not text"
    return f"{name} holds half a character" if any("\ud800" <= each <= "\udfff" for each in value) else ""


def _of_list(value: Any, origin: type, args: tuple[Any, ...], name: str) -> str:
    if not isinstance(value, list):
        return f"{name} is no list"
    if origin is tuple and len(value) != len(args):
        return f"{name} is no list of {len(args)}"
    kinds = args if origin is tuple else args * len(value)
    return next((why for each, kind in zip(value, kinds, strict=True) if (why := mismatch(each, kind, name))), "")


def _of_record(value: Any, kind: Any, name: str) -> str:
    if not isinstance(value, dict):
        return f"{name} is no JSON object"
    if missing := sorted(kind.__required_keys__ - value.keys()):
        return f"{name} has no {missing[0]}"
    hints = get_type_hints(kind, include_extras=True)
    return next((why for key in value if key in hints and (why := mismatch(value[key], hints[key], f"its {key}"))), "")
