"""A process of its own for llama.cpp's converter, which is a script: tell it what it does not know, then run it.

``python converter_process.py SOURCE FOLDER OUTPUT OUTTYPE EXTRA``, EXTRA being a JSON object (see ``convert.Extra``). It
prints one line that begins with ``FOUND`` where the tokenizer needs the name of a pre-tokenisation.
"""

import json
import runpy
import sys
from typing import Any

FOUND = "slimmoe: pre-tokenisation "
UNKNOWN_TOKENIZER = 3  # exit status


def main(source: str, folder: str, output: str, outtype: str, extra: dict[str, Any]) -> None:
    """Run the converter of ``source``; a failure ends the process with its reason as the last line."""
    sys.path[:1] = [source, f"{source}/gguf-py"]  # in the place of this file's folder
    from conversion.base import ModelBase, TextModel  # type: ignore[reportMissingImports]
    from gguf import GGUFValueType, Metadata

    known_pre_tokenizer, known_metadata = TextModel.get_vocab_base_pre, ModelBase.prepare_metadata
    load_metadata = Metadata.load

    def get_vocab_base_pre(self: Any, tokenizer: Any) -> str:
        if extra["pre"]:
            print(f"{FOUND}forced", flush=True)
            return extra["pre"]
        try:
            name = known_pre_tokenizer(self, tokenizer)  # by a hash over sample text: any new vocabulary is unknown
            print(f"{FOUND}known", flush=True)
        except NotImplementedError:
            name = extra["recognised"]
            if not name:
                sys.exit(UNKNOWN_TOKENIZER)
            print(f"{FOUND}recognised", flush=True)
        return name

    def load(*arguments: Any, **options: Any) -> Metadata:
        metadata = load_metadata(*arguments, **options)
        for name, value in extra["general"].items():
            setattr(metadata, name, value)
        return metadata

    def prepare_metadata(self: Any, *arguments: Any, **options: Any) -> None:
        known_metadata(self, *arguments, **options)
        for key, value in extra["keys"].items():
            kind = GGUFValueType.FLOAT64 if isinstance(value, float) else GGUFValueType.get_type(value)
            self.gguf_writer.add_key_value(key, value, kind)

    TextModel.get_vocab_base_pre, ModelBase.prepare_metadata = get_vocab_base_pre, prepare_metadata
    Metadata.load = staticmethod(load)
    sys.argv = ["convert_hf_to_gguf.py", folder, "--outfile", output, "--outtype", outtype]
    runpy.run_path(f"{source}/convert_hf_to_gguf.py", run_name="__main__")


if __name__ == "__main__":
    _, where, model, result, plain, more = sys.argv
    main(where, model, result, plain, json.loads(more))
