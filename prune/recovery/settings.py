"""What may be chosen about a recovery, and how the rest is chosen. No torch, so that a request is checked at once."""

from dataclasses import dataclass

from runtime.errors import RequestError
from runtime.formats.provenance import FULL, LEAST_SQUARES, LORA

METHODS = (FULL, LORA, LEAST_SQUARES)
BATCH_TOKENS = 2048  # of a step, over all processes, padding included
EPOCHS, MOST_STEPS = 10, 400  # of the default model without 75 %: six minutes of two cores with AVX-512 BF16
MOST_BATCHES = 150  # for least squares; each is seen once
CHECKS = 10  # times in a run that the dev loss is measured and a checkpoint is written
RATE_TIMES_WIDTH = {"full": 0.128, "lora": 1.0}  # 5e-4 and 4e-3 at a hidden size of 256


@dataclass(frozen=True)
class Settings:
    """One recovery. ``None`` means: choose by the corpus or the model.

    ``patience`` counts dev checks without improvement before training stops. ``temperature``, ``logit_weight`` (share
    of the loss that is distillation, the rest is cross-entropy) and ``router_weight`` matter with a teacher only.
    """

    steps: int | None = None
    rate: float | None = None
    method: str = "full"
    freeze_router: bool = False
    patience: int = 3
    batch_tokens: int = BATCH_TOKENS
    temperature: float = 1.0
    logit_weight: float = 0.5
    router_weight: float = 0.1
    rank: int = 16  # of LoRA
    seed: int = 0

    def check(self) -> None:
        """Refuse what cannot be trained with.

        Raises:
            RequestError: a value is out of its range.
        """
        if self.method not in METHODS:
            raise RequestError(
                f"There is no recovery method {self.method!r}; there are {' and '.join(METHODS)}.",
                next_command="slimmoe recover DIR --pair en-de --method full -o OUT",
            )
        if self.steps is not None and self.steps < 1:
            raise RequestError(f"A recovery takes at least one step; {self.steps} is none.")
        if self.method == LEAST_SQUARES and (self.rate is not None or self.freeze_router):
            raise RequestError("Least squares neither trains routers nor has a learning rate.")
        if self.rate is not None and not 0 < self.rate < 1:
            raise RequestError(f"A learning rate lies between 0 and 1; {self.rate:g} does not.")

    def choose_steps(self, batches: int) -> tuple[int, str]:
        """Number of steps for a corpus of so many batches, and the reason."""
        if self.method == LEAST_SQUARES:
            most = min(batches, self.steps or MOST_BATCHES)
            return most, "the corpus once" if most == batches else "as asked" if self.steps else "the most unasked"
        if self.steps is not None:
            return self.steps, "as asked"
        if EPOCHS * batches < MOST_STEPS:
            return max(1, EPOCHS * batches), f"{EPOCHS} times through the corpus"
        return MOST_STEPS, "the most that is taken unasked"

    def choose_rate(self, width: int) -> tuple[float | None, str]:
        """Learning rate of AdamW for a hidden size, and the reason; None for least squares.

        The rate falls with the width (Yang et al., arXiv 2203.03466: for Adam, hidden matrices want a rate
        proportional to 1 / width).
        """
        if self.method == LEAST_SQUARES:
            return None, "there is none"
        if self.rate is not None:
            return self.rate, "as asked"
        return RATE_TIMES_WIDTH[self.method] / width, f"for a hidden size of {width}"
