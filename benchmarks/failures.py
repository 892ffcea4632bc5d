"""How often the language and preamble checks err: on references, which are right, and on references of other languages.

    python -m benchmarks.failures [STEM ...]      default: data/test data/dev data/calibration

Prints one table for docs/quality.md. A *false alarm* is a reference that is called another language or chat; *caught*
is the share of references that are called wrong when another language was asked for, over all ordered pairs.
"""

import sys
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

from runtime.measure.failures import find_failures
from runtime.text.corpus import locate
from runtime.text.language import is_other_language
from runtime.text.languages import LANGUAGES
from runtime.translate.segments import Translation

CLASSES = ((1, 3), (4, 5), (6, 9), (10, 1000))  # words


def read(stems: list[Path]) -> dict[str, list[str]]:
    """Texts by language of Moses files ``STEM.en``, ``STEM.de``, ..."""
    texts: dict[str, list[str]] = {}
    for stem in stems:
        stem = locate(stem)
        for file in stem.parent.glob(f"{stem.name}.??"):
            if file.suffix[1:] in LANGUAGES:
                texts.setdefault(file.suffix[1:], []).extend(file.read_text(encoding="utf-8").splitlines())
    return texts


def counted(texts: list[tuple[str, str]], check: Callable[[str, str], bool]) -> str:
    """``flagged of all (share)``."""
    flagged = sum(check(text, language) for text, language in texts)
    return f"{flagged} of {len(texts)} ({flagged / max(len(texts), 1):.1%})"


def main(stems: list[Path]) -> None:
    """Print the table."""
    texts = read(stems)
    print("| words | false alarms: language | caught: language | false alarms: preamble |\n|---|---:|---:|---:|")
    for low, high in (*CLASSES, (1, 1000)):
        own, other = (
            [(text, asked) for code, asked in pairs for text in texts[code] if low <= len(text.split()) <= high]
            for pairs in ([(code, code) for code in texts], list(permutations(texts, 2)))
        )
        preamble = counted(own, lambda text, asked: "preamble" in find_failures(Translation("", text, None), "", asked))
        name = "all" if (low, high) == (1, 1000) else f"{low} to {high}" if high < 1000 else f"{low} and more"
        print(f"| {name} | {counted(own, is_other_language)} | {counted(other, is_other_language)} | {preamble} |")


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:] or ("data/test", "data/dev", "data/calibration")])
