"""How well a cut would do, without cutting: the masked model on text whose translations are given."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from prune.batches import batches
from prune.checkpoint import Checkpoint
from prune.conversations import about_text, read_conversations
from prune.device import choose_device, choose_dtype
from prune.loading import load_model
from prune.plan.plan import Plan
from prune.recovery.objective import response_logits
from prune.rewrite.masked import masked
from prune.rewrite.shape import check_plan
from runtime.text.corpus import read_segments
from runtime.text.pairs import Pair
from runtime.text.prompts import ChatTemplate

BATCH_TOKENS = 4096
TOKENS = 6_000  # of prompt and response that a trial reads by default


class Trial:
    """The unpruned model, its next-token distributions on a corpus's responses, and what plans make of them.

    The distributions take 2 bytes for each response token and entry of the vocabulary: 60 MB for 2,000 tokens and 15,000
    entries.

    Raises:
        RequestError: an unreadable model or corpus, or an encoder-decoder.
    """

    def __init__(self, folder: Path, pair: Pair, corpus: Path, tokens: int = TOKENS) -> None:
        self.checkpoint = Checkpoint(folder)
        self.checkpoint.require_decoder()
        device, _ = choose_device()
        dtype, _ = choose_dtype(device, self.checkpoint)
        segments = read_segments(corpus, pair)
        conversations = read_conversations(folder, segments, pair, limit=tokens)
        self.about = json.dumps(
            about_text(corpus, segments, conversations, ChatTemplate.from_folder(folder).asking)
            | {"dtype": str(dtype)},
            sort_keys=True,
        )
        self._batches = [batch.to(device) for batch in batches(conversations, BATCH_TOKENS)]
        self._model = load_model(folder, device, dtype)
        self._whole = [logits.softmax(-1).half() for logits, _ in self._forward()]

    def _forward(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        with torch.inference_mode():
            for batch in self._batches:
                yield response_logits(self._model, batch)

    def overlap(self, plan: Plan) -> float:
        """Mean over response tokens of sum(min(p, q)), p and q the next-token distributions of whole and cut model.

        Teacher-forced; 1 where nothing changes. The fitness of EvoESAP (arXiv 2603.06003).

        Raises:
            RequestError: the plan does not fit the model.
        """
        check_plan(self.checkpoint, plan)
        total, count = 0.0, 0
        with masked(self._model, self.checkpoint, plan):
            for whole, (logits, _) in zip(self._whole, self._forward(), strict=True):
                total += float(torch.minimum(whole.float(), logits.softmax(-1)).sum())
                count += len(logits)
        return total / count

    def loss(self, plan: Plan) -> float:
        """Mean cross-entropy of the response tokens under the cut (nats).

        Raises:
            RequestError: the plan does not fit the model.
        """
        check_plan(self.checkpoint, plan)
        total, count = 0.0, 0
        with masked(self._model, self.checkpoint, plan):
            for logits, wanted in self._forward():
                total += float(torch.nn.functional.cross_entropy(logits, wanted, reduction="sum"))
                count += len(wanted)
        return total / count


def progress(total: int, what: str, quiet: bool) -> tqdm:
    """A bar of trials on standard error."""
    return tqdm(total=total, desc=what, unit="trial", disable=quiet or None)
