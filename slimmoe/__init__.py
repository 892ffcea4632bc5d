"""slimmoe cuts a translation mixture-of-experts down to the experts that one language pair needs.

docs/api.md shows these functions; ``slimmoe --help`` shows the command. What a function needs (torch, llama.cpp) is
loaded when it is called, and the function itself when it is asked for, so that a command loads its own alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from runtime.errors import RequestError, SlimmoeError, WorkError

if TYPE_CHECKING:
    from slimmoe.api import (
        calibrate,
        diagnose,
        export,
        export_gguf,
        export_onnx,
        fit,
        make_plan,
        prune,
        recover,
        verify,
    )
    from slimmoe.api_device import bench, evaluate, open_engine, prompt, translate
    from slimmoe.translator import Translator

__version__: str  # see ``__getattr__``

__all__ = [
    "RequestError", "SlimmoeError", "Translator", "WorkError", "__version__", "bench", "calibrate", "diagnose",
    "evaluate", "export", "export_gguf", "export_onnx", "fit", "make_plan", "open_engine", "prompt", "prune", "recover",
    "translate", "verify",
]  # fmt: skip
_ON_DEVICE = {"bench", "evaluate", "open_engine", "prompt", "translate"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "translator" if name == "Translator" else "api_device" if name in _ON_DEVICE else "api"
    return getattr(import_module(f"slimmoe.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("slimmoe")
    except PackageNotFoundError:  # a source tree that is not installed
        return "0+unknown"
