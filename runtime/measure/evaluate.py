"""Quality of an artefact on a test set: scores with their signatures, and the ways in which outputs fail."""

import re
from collections import Counter
from dataclasses import dataclass, field

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from runtime.engines import Engine
from runtime.measure import comet, meaning
from runtime.text.corpus import Segments
from runtime.text.language import is_other_language
from runtime.text.pairs import Pair
from runtime.translate.segments import Translation, translate

LOOP = 4  # the same four words this often in a row make a loop
FAILURES = ("empty", "unfinished", "copied", "wrong language", "preamble", "looping", "length")

# "Here is the translation:", "Sure! The German version is:", "Übersetzung:" and such: an opening that ends in a colon
# and has a word for translation, in the languages that models chat in.
_PREAMBLE = re.compile(
    r"[^:\n]{0,80}(\btranslat|\bübersetz|\btraduc|\btraduç|\btraduz|\bvertal|\bvertaal|\bperevod|перевод|翻译|翻訳|译文|"
    r"\b(english|german|french|spanish|italian|portuguese|dutch|polish|russian) version\b)[^:\n]{0,60}[:：]",
    re.IGNORECASE,
)


@dataclass
class Evaluation:
    """Scores of one artefact on one test set. Failures are counts of segments."""

    segments: int
    chrf: float  # chrF++, 0 to 100
    bleu: float
    chrf_signature: str
    bleu_signature: str
    failures: dict[str, int]
    failed: int  # segments with any of these
    prefill_tokens: int
    prefill_seconds: float
    decode_tokens: int
    decode_seconds: float
    meaning: float | None = None  # -1 to 1, docs/quality.md; None without the extra
    meaning_signature: str | None = None
    comet: float | None = None
    comet_signature: str | None = None
    hypotheses: list[str] = field(repr=False, default_factory=list)  # as they were scored: each is one line
    references: list[str] = field(repr=False, default_factory=list)

    @property
    def tokens_per_second(self) -> float:
        """Written tokens over the whole generation time, prefill included."""
        return self.decode_tokens / max(self.decode_seconds + self.prefill_seconds, 1e-9)


def score(hypotheses: list[str], references: list[str]) -> tuple[float, str, float, str]:
    """chrF++ and its signature, BLEU and its signature (Popovic 2017, word order 2; Post 2018, tokeniser 13a)."""
    chrf, bleu = CHRF(word_order=2), BLEU()
    chrf_score, bleu_score = chrf.corpus_score(hypotheses, [references]), bleu.corpus_score(hypotheses, [references])
    return chrf_score.score, str(chrf.get_signature()), bleu_score.score, str(bleu.get_signature())


def _loops(text: str) -> bool:
    words = text.split()
    grams = Counter(tuple(words[i : i + 4]) for i in range(len(words) - 3))
    return any(count >= LOOP for count in grams.values())


def find_failures(translation: Translation, reference: str, language: str) -> set[str]:
    """Those of ``FAILURES`` that one translation into ``language`` shows; a text equal to its reference shows none.

    Empty, unfinished (no end-of-sequence), copied from the source, in another language, opened with chat, looping, and
    far too long or short.
    """
    text, source, reference = translation.text, translation.source.strip(), reference.strip()
    found = {
        "empty": not text,
        "unfinished": translation.generation is not None and not translation.generation.finished,
        "copied": text == source != reference and len(source.split()) > 2,
        "wrong language": text != reference and is_other_language(text, language),
        "preamble": bool(_PREAMBLE.match(text)) and not any(map(_PREAMBLE.match, (source, reference))),
        "looping": _loops(text),
        "length": bool(text) and not 1 / 3 <= (len(text) + 10) / (len(reference) + 10) <= 3,
    }
    return {kind for kind in FAILURES if found[kind]}


def _meaning(hypotheses: list[str], references: list[str], failures: list[set[str]]) -> float:
    cosines = meaning.cosines(hypotheses, references)
    cosines = [0.0 if kinds & {"copied", "wrong language"} else one for one, kinds in zip(cosines, failures)]
    return round(sum(cosines) / len(cosines), 4)


def assess(translations: list[Translation], references: list[str], pair: Pair, neural: bool = True) -> Evaluation:
    """Score what an engine wrote, segment by segment, against the references.

    Args:
        neural: with the scores of meaning and COMET, where they are there and asked for; they take a model each.
    """
    # Line breaks become spaces, so that hypotheses can be stored one a line and scored again to the same digits.
    hypotheses = [" ".join(translation.text.splitlines()) for translation in translations]
    references = [" ".join(reference.splitlines()) for reference in references]
    chrf, chrf_signature, bleu, bleu_signature = score(hypotheses, references)
    failures = [find_failures(t, reference, pair.target) for t, reference in zip(translations, references, strict=True)]
    done = [t.generation for t in translations if t.generation]
    result = Evaluation(
        segments=len(translations),
        chrf=round(chrf, 2),
        bleu=round(bleu, 2),
        chrf_signature=chrf_signature,
        bleu_signature=bleu_signature,
        failures={kind: sum(kind in kinds for kinds in failures) for kind in FAILURES},
        failed=sum(map(bool, failures)),
        prefill_tokens=sum(g.prompt_tokens for g in done),
        prefill_seconds=sum(g.prefill_seconds for g in done),
        decode_tokens=sum(len(g.token_ids) for g in done),
        decode_seconds=sum(g.decode_seconds for g in done),
        hypotheses=hypotheses,
        references=references,
    )
    if neural and meaning.can_score(pair.target):
        result.meaning = _meaning(hypotheses, references, failures)
        result.meaning_signature = meaning.signature()
    if neural and comet.wanted():
        sources = [translation.source for translation in translations]
        value, result.comet_signature = comet.comet_score(sources, hypotheses, references)
        result.comet = round(value, 4)
    return result


def evaluate(engine: Engine, pair: Pair, segments: Segments, neural: bool = True) -> Evaluation:
    """Translate the source side greedily and score it against the target side; ``neural`` as in ``assess``."""
    if neural:
        comet.require()
    translations = list(translate(engine, pair, [source for source, _ in segments]))
    return assess(translations, [target for _, target in segments], pair, neural)
