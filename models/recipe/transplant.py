"""Start from a model with another vocabulary: its layers as they are, its embeddings carried over token by token."""

from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoModelForCausalLM


def transplant(embeddings: Tensor, old: Tokenizer, new: Tokenizer) -> Tensor:
    """Embeddings for ``new``'s tokens out of those of ``old``'s, [V_old, H] -> [V_new, H].

    A token that both know is copied; another one is the mean of the pieces that the old vocabulary splits it into
    (fast vocabulary transfer; Gee et al. 2022, "Fast Vocabulary Transfer for Language Model Compression", section 2).
    """
    known, model = old.get_vocab(), cast(Any, old.model)
    made = embeddings.new_zeros(new.get_vocab_size(), embeddings.shape[1])
    for token, row in new.get_vocab().items():
        # The model's tokenize() splits by the merges alone: a token is no text to be pre-tokenised.
        pieces = [known[token]] if token in known else [piece.id for piece in model.tokenize(token)]
        made[row] = embeddings[pieces].mean(0)
    return made


def weights_from(folder: Path, tokenizer: Path) -> dict[str, Tensor]:
    """The float32 weights of the model in ``folder`` for the vocabulary of the ``tokenizer`` file."""
    state = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    vocabularies = (Tokenizer.from_file(str(path)) for path in (folder / "tokenizer.json", tokenizer))
    rows = transplant(state["model.embed_tokens.weight"], *vocabularies)
    return state | {"model.embed_tokens.weight": rows, "lm_head.weight": rows}


def same_vocabulary(a: Path, b: Path) -> bool:
    """Whether the tokenizers of two folders give every token the same id."""
    vocabularies = [Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab() for folder in (a, b)]
    return vocabularies[0] == vocabularies[1]
