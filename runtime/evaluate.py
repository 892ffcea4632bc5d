"""Quality of an artefact on a test set: BLEU and chrF++ with their signatures, and the ways in which outputs fail."""

from collections import Counter
from dataclasses import dataclass, field

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from runtime.corpus import Segments
from runtime.engines import Engine
from runtime.pairs import Pair
from runtime.translate import Translation, translate

LOOP = 4  # the same four words this often in a row make a loop


@dataclass
class Evaluation:
    """Scores of one artefact on one test set. Failures are counts of segments."""

    segments: int
    chrf: float  # chrF++, 0 to 100
    bleu: float
    chrf_signature: str
    bleu_signature: str
    failures: dict[str, int]
    prefill_tokens: int
    prefill_seconds: float
    decode_tokens: int
    decode_seconds: float
    hypotheses: list[str] = field(repr=False, default_factory=list)

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


def count_failures(translations: list[Translation], references: list[str]) -> dict[str, int]:
    """Empty, unfinished (no end-of-sequence), copied from the source, looping, and far too long or short outputs."""
    failures: dict[str, int] = dict.fromkeys(("empty", "unfinished", "copied", "looping", "length"), 0)
    for translation, reference in zip(translations, references, strict=True):
        text, source = translation.text, translation.source.strip()
        failures["empty"] += not text
        failures["unfinished"] += translation.generation is not None and not translation.generation.finished
        failures["copied"] += text == source != reference.strip() and len(source.split()) > 2
        failures["looping"] += _loops(text)
        failures["length"] += bool(text) and not 1 / 3 <= (len(text) + 10) / (len(reference) + 10) <= 3
    return failures


def evaluate(engine: Engine, pair: Pair, segments: Segments) -> Evaluation:
    """Translate the source side greedily and score it against the target side."""
    references = [target for _, target in segments]
    translations = list(translate(engine, pair, [source for source, _ in segments]))
    hypotheses = [translation.text for translation in translations]
    chrf, chrf_signature, bleu, bleu_signature = score(hypotheses, references)
    done = [t.generation for t in translations if t.generation]
    return Evaluation(
        segments=len(segments),
        chrf=round(chrf, 2),
        bleu=round(bleu, 2),
        chrf_signature=chrf_signature,
        bleu_signature=bleu_signature,
        failures=count_failures(translations, references),
        prefill_tokens=sum(g.prompt_tokens for g in done),
        prefill_seconds=sum(g.prefill_seconds for g in done),
        decode_tokens=sum(len(g.token_ids) for g in done),
        decode_seconds=sum(g.decode_seconds for g in done),
        hypotheses=hypotheses,
    )
