"""Quality of an artefact on a test set: scores with their signatures, and the ways in which outputs fail."""

from dataclasses import dataclass, field

from runtime.engines import Engine
from runtime.errors import warn_once
from runtime.measure import comet, meaning
from runtime.measure.failures import FAILURES, find_failures
from runtime.measure.scores import score
from runtime.text.corpus import Segments
from runtime.text.lines import one_line, some_of
from runtime.text.pairs import Pair
from runtime.translate.segments import Translation, translate


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
    hypotheses = [one_line(translation.text) for translation in translations]
    references = [one_line(reference) for reference in references]
    chrf, chrf_signature, bleu, bleu_signature = score(hypotheses, references, pair.target)
    failures = [find_failures(t, reference, pair.target) for t, reference in zip(translations, references, strict=True)]
    if refused := [number for number, translation in enumerate(translations, 1) if translation.refused]:
        count = f"{len(refused)} of {len(translations)} segments"
        warn_once(f"{count} do not fit into the context and count as failures: segments {some_of(refused)}.")
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


def evaluate(engine: Engine, pair: Pair, segments: Segments, neural: bool = True, beam: int = 1) -> Evaluation:
    """Translate the source side, greedily or with beams, and score it against the target side.

    Args:
        neural: as in ``assess``.
    """
    if neural:
        comet.require()
    translations = list(translate(engine, pair, [source for source, _ in segments], exact=True, beam=beam))
    return assess(translations, [target for _, target in segments], pair, neural)
