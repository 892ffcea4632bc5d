"""chrF++ and BLEU by sacreBLEU, each with the signature that it holds for."""

import re

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from runtime.text.languages import base_language

# 13a takes a whole sentence for one word where no spaces tell them, and Korean words carry their particles. sacreBLEU's
# tokenisers of Japanese and Korean words need a dictionary of their own each; characters need none, and tell as well.
_TOKENISERS = {"zh": "zh", "yue": "zh"} | dict.fromkeys(("ja", "ko", "th", "lo", "km", "my"), "char")
_USUAL = "13a"


def tokeniser(language: str, signature: str = "") -> str:
    """BLEU's for a target language, whatever its script or region, or that of an older score's signature."""
    found = re.search(r"\btok:([\w-]+)", signature)
    if found and found[1] in (_USUAL, *_TOKENISERS.values()):
        return found[1]
    return _TOKENISERS.get(base_language(language), _USUAL)


def score(hypotheses: list[str], references: list[str], language: str = "") -> tuple[float, str, float, str]:
    """chrF++ and its signature, BLEU and its signature (Popović 2017; Post 2018).

    Args:
        language: of both, by which BLEU splits words.
    """
    chrf, bleu = CHRF(word_order=2), BLEU(tokenize=tokeniser(language))
    chrf_score, bleu_score = chrf.corpus_score(hypotheses, [references]), bleu.corpus_score(hypotheses, [references])
    return chrf_score.score, str(chrf.get_signature()), bleu_score.score, str(bleu.get_signature())
