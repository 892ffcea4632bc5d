"""The tokens that end an answer: llama.cpp's converter writes one, and many models have two or three.

Beside ``eos`` a GGUF file has room for the ends of a turn and of a message, ``eot`` and ``eom``. llama.cpp stops at all
three. Where they are missing it knows some ends by their text, and none that a publisher chose for himself.
"""

import logging

from export.gguf.converter_process import ENDS
from prune.checkpoint import Checkpoint
from prune.tokenizer import read_tokenizer
from runtime.formats.model_folder import TOKENIZER, own_file, read_own_object
from runtime.formats.onnx_folder import end_ids
from runtime.text.prompts import ChatTemplate
from runtime.text.special_tokens import special_of

_log = logging.getLogger(__name__)


def end_tokens(checkpoint: Checkpoint, template: ChatTemplate) -> list[int]:
    """Ids by importance: what the template writes after the last answer, then those of generation_config.json.

    What it writes before a next turn is none of them: gpt-oss ends a thought with the same ``<|end|>``.
    """
    folder, found = checkpoint.folder, []
    if own_file(folder, TOKENIZER):
        tokenizer = read_tokenizer(folder)
        special, after = special_of(tokenizer), template.after_answers()[:1]
        if special and after and (first := special.search(after[0])):
            found.append(tokenizer.token_to_id(first[0]))
    found += end_ids(checkpoint.config, read_own_object(folder, "generation_config.json"))
    rows = checkpoint.config.get("vocab_size") or 0
    known = [each for each in dict.fromkeys(found) if isinstance(each, int) and 0 <= each < rows]
    if len(known) > len(ENDS):
        _log.warning(
            f"A GGUF file has room for {len(ENDS)} ends of {folder}'s {len(known)}: {known[len(ENDS) :]} are left out."
        )
    return known
