"""Where the environment's own build of llama.cpp lies (see tools/build_llama.py)."""

import os
import sys
from pathlib import Path

VERSION = "0.3.36"  # of llama-cpp-python, whose source carries the llama.cpp we run
HOME = Path(sys.prefix) / "llama.cpp"
TOOLS = ("llama-quantize", "llama-imatrix", "llama-bench", "llama-tokenize", "ggml-rpc-server")


def library_folder() -> Path:
    """The folder of the library that is used, and of the tools that were built with it."""
    return Path(os.environ.get("LLAMA_CPP_LIB_PATH") or HOME / "bin")


# What brings llama.cpp here: set-up in a clone; elsewhere the extra for the library alone, or a verb for the tools as well.
_IN_CLONE = (Path(__file__).parents[1] / "Makefile").exists()
GET_LIBRARY = "make setup" if _IN_CLONE else "pip install 'slimmoe[llama]'"
GET_TOOLS = "make setup" if _IN_CLONE else "slimmoe build-llama   (needs a C++ compiler; about 5 minutes)"
