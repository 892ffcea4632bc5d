"""The tables of the gguf package: its types of values and tensors, and the sizes of their blocks.

Only its ``constants`` are loaded, which need nothing else of it: the package itself loads its writers, yaml and progress bars,
a tenth of what it takes to translate a sentence. Whoever imports ``gguf`` later gets the same tables.
"""

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType, LlamaFileType
else:
    _NAME = "gguf.constants"
    if _NAME not in sys.modules:
        _spec = spec_from_file_location(_NAME, Path(find_spec("gguf").submodule_search_locations[0]) / "constants.py")
        sys.modules[_NAME] = module_from_spec(_spec)
        _spec.loader.exec_module(sys.modules[_NAME])
    _tables = sys.modules[_NAME]
    GGML_QUANT_SIZES, GGUFValueType = _tables.GGML_QUANT_SIZES, _tables.GGUFValueType
    GGMLQuantizationType, LlamaFileType = _tables.GGMLQuantizationType, _tables.LlamaFileType

__all__ = ["GGML_QUANT_SIZES", "GGMLQuantizationType", "GGUFValueType", "LlamaFileType"]
