"""A process of its own that lets transformers turn an older tokenizer into a tokenizer.json, for callers without it.

``python tokenizer_process.py FOLDER OUTPUT``. transformers reads a SentencePiece file by the class that the folder names,
and by a general one for families without a class of their own, which leaves out the space before a text. So what comes
out is held against SentencePiece itself.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SAMPLE = (
    "The file could not be opened.",
    "Two  spaces,\ta tab and\na new line. ",
    "Größe, naïve, Ελληνικά, Привет, 你好 2024年, 3.14 \U0001f600",
)


def _readings(folder: str) -> Iterator[Any]:
    import transformers

    yield transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    for name in ("LlamaTokenizer", "T5Tokenizer", "GemmaTokenizer"):
        if kind := getattr(transformers, name, None):
            try:
                yield kind.from_pretrained(folder)
            except Exception as error:  # another kind's files
                print(f"{name}: {error}", file=sys.stderr)


def main(folder: str, output: str) -> None:
    """Write OUTPUT/tokenizer.json; a failure ends the process with its reason as the last line."""
    model = Path(folder) / "tokenizer.model"
    if not model.exists():
        next(_readings(folder)).save_pretrained(output)
        return
    from sentencepiece import SentencePieceProcessor

    expected = SentencePieceProcessor(model_file=str(model)).encode(list(SAMPLE))
    for tokenizer in _readings(folder):
        if [tokenizer.encode(text, add_special_tokens=False) for text in SAMPLE] == expected:
            tokenizer.save_pretrained(output)
            return
    sys.exit("none of its ways of reading gives the token ids that SentencePiece gives")


if __name__ == "__main__":
    main(*sys.argv[1:])
