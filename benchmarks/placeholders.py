"""Whether placeholders come through, where they stand, and what they cost: 500 segments with one to four of them.

    python -m benchmarks.placeholders FILE.gguf DIR      prints a Markdown table

50 sentences of our own with German references (placeholders.tsv), each with ten kinds of placeholders: printf with and
without names, braces, shell, templates, URLs, code; three have tags in pairs as well. Kept are those that have each
placeholder exactly once, tags nested, and in the order of the source where that says what is filled in. chrF++ is against
the references with their placeholders, and of both without.
"""

import argparse
import contextlib
import platform
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sacrebleu.metrics.chrf import CHRF

from runtime.engines import Engine, open_engine
from runtime.machine import processor, usable_cores
from runtime.text.markup import Code, joined, plain, protect, tag_kinds
from runtime.text.pairs import Pair
from runtime.translate.checked import CheckedTranslation, translate_checked
from runtime.translate.paragraphs import ParagraphTranslator, room, translate_marked

SENTENCES = Path(__file__).with_suffix(".tsv")
_SLOT = re.compile(r"\{(?P<number>\d)\}|<(?P<end>/?)(?P<tag>\d)>")
KINDS: Sequence[Sequence[str]] = (
    ("%1$s", "%2$d", "%3$s", "%4$.2f"),
    ("%(name)s", "%(count)d", "%(size).1f", "%(path)s"),
    ("{name}", "{0}", "{count:d}", "{user_id}"),
    ("{{ title }}", "{{count}}", "{% now %}", "{{ user.name }}"),
    ("${HOME}", "$USER", "$1", "${file}"),
    ("%1", "%2", "%3", "%4"),
    ("%s", "%d", "%i", "%x"),
    ("https://example.org/a?b=1", "www.example.com/help", "info@example.org", "https://example.net/x"),
    ("`make all`", "open()", "--force", "/usr/share/doc"),
    ("{}", "{}", "{}", "{}"),
)


class Segment(NamedTuple):
    """A sentence with placeholders, which they are, and its reference with them."""

    text: str
    placeholders: list[str]
    reference: str


def segments() -> list[Segment]:
    """Each sentence of ours with each kind of placeholder."""
    found = []
    for kind in KINDS:
        for line in SENTENCES.read_text(encoding="utf-8").splitlines():
            texts = line.split("\t")
            source, reference = (_SLOT.sub(partial(_filled, kind), text) for text in texts)
            found.append(Segment(source, [_filled(kind, match) for match in _SLOT.finditer(texts[0])], reference))
    return found


def _filled(kind: Sequence[str], slot: re.Match[str]) -> str:
    """What stands in a slot: a placeholder, or a tag."""
    if slot["tag"]:
        return f"<{slot['end']}{'bi'[int(slot['tag'])]}>"
    return kind[int(slot["number"])]


def is_kept(text: str, placeholders: Sequence[str]) -> bool:
    """Whether each placeholder is there once, in one order where printf has no other, and tags nest."""
    found = [piece.raw for piece in protect((text,)) if isinstance(piece, Code)]
    ordered = "%s" in placeholders
    tags = tag_kinds([each for each in found if each.startswith("<")])
    return (
        sorted(found) == sorted(placeholders) and "alone" not in tags and (not ordered or found == list(placeholders))
    )


class Way(NamedTuple):
    """Translations, and how the model came to them."""

    name: str
    texts: list[str]
    remedies: "Counter[str]"


def by_place(engine: Engine, pair: Pair, tested: Sequence[Segment]) -> Way:
    """What is written without placeholders, which come back by their relative place."""
    marked = (protect((each.text,)) for each in tested)
    done = translate_marked(marked, partial(translate_checked, engine, pair, exact=True))
    return Way("by place", [plain(joined(each)) for each, _ in done], Counter())


def as_translated(engine: Engine, pair: Pair, tested: Sequence[Segment]) -> Way:
    """What ``slimmoe translate`` writes."""
    remedies: Counter[str] = Counter()

    def counted(texts: Iterable[str]) -> Iterator[CheckedTranslation]:
        for done in translate_checked(engine, pair, texts, exact=True):
            remedies[done.remedy or "first try"] += bool(done.source)
            yield done

    translator = ParagraphTranslator(counted, pair.source, room(engine, pair))
    texts = [plain(joined(each.marked)) for each in translator.translate((each.text,) for each in tested)]
    return Way("by the model", texts, remedies)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artefacts", type=Path, nargs="+")
    parser.add_argument("--show", action="store_true", help="print those that are not kept")
    chosen = parser.parse_args()
    pair, tested, chrf = Pair("en", "de"), segments(), CHRF(word_order=2)
    print("| model | placed | each once | chrF++ | without placeholders | how |")
    print("|---|---|---:|---:|---:|---|")
    for artefact in chosen.artefacts:
        with contextlib.closing(open_engine(artefact)) as engine:
            for way in (by_place(engine, pair, tested), as_translated(engine, pair, tested)):
                kept = [is_kept(text, each.placeholders) for text, each in zip(way.texts, tested, strict=True)]
                scores = [
                    chrf.corpus_score([*map(change, way.texts)], [[change(each.reference) for each in tested]]).score
                    for change in (str, _bare)
                ]
                told = ", ".join(f"{remedy} {count}" for remedy, count in way.remedies.most_common())
                cells = [
                    artefact.name,
                    way.name,
                    f"{sum(kept)} of {len(kept)}",
                    *(f"{each:.1f}" for each in scores),
                    told,
                ]
                print("|", " | ".join(cells), "|", flush=True)
                for text, each, is_right in zip(way.texts, tested, kept) if chosen.show else ():
                    if not is_right:
                        print(f"  {each.text!r}\n  {text!r}")
    print(f"\n{pair}, exact. {chrf.get_signature()}")
    print(f"{processor()}, {usable_cores()} cores, Python {platform.python_version()}.")


def _bare(text: str) -> str:
    return " ".join(plain(protect((text,))).split())


if __name__ == "__main__":
    main()
