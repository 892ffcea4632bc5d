"""slimmoe cuts a translation mixture-of-experts down to the experts that one language pair needs.

docs/api.md shows these functions; ``slimmoe --help`` shows the command. What a function needs (torch, llama.cpp) is
loaded when it is called.
"""

from runtime.errors import RequestError, SlimmoeError, WorkError
from slimmoe.api import calibrate, diagnose, export, export_gguf, export_onnx, fit, make_plan, prune, recover, verify
from slimmoe.api_device import bench, evaluate, open_engine, prompt, translate
from slimmoe.translator import Translator

__version__: str  # see ``__getattr__``

__all__ = [
    "RequestError", "SlimmoeError", "Translator", "WorkError", "__version__", "bench", "calibrate", "diagnose",
    "evaluate", "export", "export_gguf", "export_onnx", "fit", "make_plan", "open_engine", "prompt", "prune", "recover",
    "translate", "verify",
]  # fmt: skip


def __getattr__(name: str) -> str:
    """``__version__``, read when it is asked for: what reads it takes a twentieth of a second to load."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("slimmoe")
    except PackageNotFoundError:  # a source tree that is not installed
        return "0+unknown"
