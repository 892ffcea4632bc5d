"""How far one model's logits are from another's, token by token."""

from dataclasses import dataclass

import numpy as np

# Most of the reference's information that a model of quantised weights may lose.
LOSS_BAR = 0.25


@dataclass(frozen=True)
class Numbers:
    """Over all tokens of some conversations; divergences are Kullback-Leibler, from the reference, in nats per token.

    Standard errors take the conversations as the sample, since the tokens of one are not independent (the variance of a
    ratio estimator over clusters).
    """

    tokens: int
    largest_difference: float  # of any logit
    spread: float  # standard deviation of the reference's logits over the vocabulary, mean over the tokens
    top1_agreement: float  # share of tokens with the same most likely next token
    top1_error: float  # its standard error
    divergence: float  # mean
    divergence_error: float  # its standard error
    divergence_p99: float
    divergence_max: float
    perplexity: float  # of the conversations' own next tokens, by the reference
    perplexity_ratio: float  # the other model's perplexity by the reference's
    information: float  # what the reference's predictions tell beyond their own average, nats per token


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _standard_error(values: list[np.ndarray]) -> float:
    """Of the mean over all of ``values``, an array for each conversation."""
    total = sum(len(each) for each in values)
    mean = sum(each.sum() for each in values) / total
    return float(np.sqrt(sum((each - mean).sum() ** 2 for each in values)) / total)


class Comparison:
    """Adds conversations up, so that no more than one conversation's logits need be in memory."""

    def __init__(self) -> None:
        self._largest = 0.0
        self._spread = 0.0  # sum over the tokens
        self._agree: list[np.ndarray] = []
        self._divergence: list[np.ndarray] = []
        self._surprise = np.zeros(2)  # of the next tokens, by the reference and by the other
        self._predicted = 0
        self._total: np.ndarray | float = 0.0  # of the reference's probabilities
        self._negative_entropy = 0.0

    def add(self, reference: np.ndarray, other: np.ndarray, token_ids: list[int]) -> None:
        """Logits [T, V] of one conversation."""
        log_p, log_q = _log_softmax(reference), _log_softmax(other)
        p = np.exp(log_p)
        # numpy's maximum, since Python's drops NaN
        self._largest = float(np.maximum(self._largest, np.abs(reference - other).max()))
        self._spread += float(reference.std(-1, dtype=np.float64).sum())
        self._agree.append((reference.argmax(-1) == other.argmax(-1)).astype(np.float64))
        self._divergence.append(np.maximum((p * (log_p - log_q)).sum(-1), 0.0))
        rows, following = np.arange(len(token_ids) - 1), np.asarray(token_ids[1:], dtype=np.int64)
        self._surprise -= [log_p[rows, following].sum(), log_q[rows, following].sum()]
        self._predicted += len(rows)
        self._total = self._total + p.sum(0)
        self._negative_entropy += float((p * log_p).sum())

    def numbers(self) -> Numbers:
        divergence, agree = np.concatenate(self._divergence), np.concatenate(self._agree)
        average = self._total / len(divergence)
        entropy_of_average = -float((average * np.log(np.maximum(average, 1e-300))).sum())
        mine, others = self._surprise / max(self._predicted, 1)
        return Numbers(
            tokens=len(divergence),
            largest_difference=self._largest,
            spread=self._spread / len(divergence),
            top1_agreement=round(float(agree.mean()), 5),
            top1_error=round(_standard_error(self._agree), 5),
            divergence=float(divergence.mean()),
            divergence_error=_standard_error(self._divergence),
            divergence_p99=float(np.quantile(divergence, 0.99)),
            divergence_max=float(divergence.max()),
            perplexity=float(np.exp(min(mine, 700.0))),
            perplexity_ratio=float(np.exp(min(others - mine, 700.0))),
            information=entropy_of_average + self._negative_entropy / len(divergence),
        )


def judge(numbers: Numbers, exact: float | None) -> tuple[bool, str]:
    """Whether the numbers pass, and the bar.

    ``exact`` bounds the difference of any logit as a share of the logits' spread, since the noise of float32 grows with
    what it is added to. Where it is None, weights were quantised, and the bar is on the mean
    divergence as a share of the reference's own information: the mean divergence of its predictions from their average
    (the mutual information of position and next token). A graph that computes something else loses most of it, whether
    the model is sure of itself or not.
    """
    if exact is not None:
        most = exact * numbers.spread
        return numbers.largest_difference <= most, f"largest logit difference <= {exact:g} of the spread, {most:.2g}"
    bar = f"divergence <= {LOSS_BAR:.0%} of {numbers.information:.2f} nats"
    return numbers.divergence <= LOSS_BAR * numbers.information, bar
