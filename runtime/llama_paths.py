"""Where the environment's own build of llama.cpp lies (see tools/build_llama.py)."""

import sys
from pathlib import Path

VERSION = "0.3.36"  # of llama-cpp-python, whose source carries the llama.cpp we run
HOME = Path(sys.prefix) / "llama.cpp"
TOOLS = ("llama-quantize", "llama-imatrix", "llama-bench", "llama-tokenize")
