"""A GGUF file's vocabulary as llama.cpp reads it: text to token ids and back."""

import ctypes
import re
import unicodedata
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from runtime.errors import WorkError
from runtime.text.special_tokens import encode_pieces, looks_special, pattern_of, take_apart

_NFC = ("qwen2",)  # pre-tokenisers whose Hugging Face twin normalises first, which llama.cpp leaves out


class LlamaVocabulary:
    """Of a loaded model; it lives no longer than that.

    Args:
        pre: the file's ``tokenizer.ggml.pre``.
    """

    def __init__(self, lib: Any, model: Any, pre: str) -> None:
        self._lib, self._normalises = lib, pre in _NFC
        self._vocab = lib.llama_model_get_vocab(model)
        self.size: int = lib.llama_vocab_n_tokens(self._vocab)

    def piece(self, token: int) -> str:
        """Text of one token, a special one written out; empty where there is none (-1)."""
        if not 0 <= token < self.size:
            return ""
        buffer = ctypes.create_string_buffer(256)
        length = self._lib.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, True)
        return buffer.raw[: max(length, 0)].decode(errors="replace")

    def named_tokens(self) -> dict[str, str]:
        """The two that llama.cpp knows also where the file does not name them."""
        lib, vocab = self._lib, self._vocab
        return {
            "bos_token": self.piece(lib.llama_vocab_bos(vocab)),
            "eos_token": self.piece(lib.llama_vocab_eos(vocab)),
        }

    @cached_property
    def special(self) -> re.Pattern[str] | None:
        """What finds special tokens in a text."""
        lib, found = self._lib, []
        marks, added = lib.LLAMA_TOKEN_ATTR_CONTROL | lib.LLAMA_TOKEN_ATTR_UNKNOWN, lib.LLAMA_TOKEN_ATTR_USER_DEFINED
        for token in range(self.size):
            attributes = lib.llama_vocab_get_attr(self._vocab, token)
            if attributes & (marks | added):
                text = self.piece(token)
                found += [text] if attributes & marks or looks_special(text) else []
        return pattern_of(found)

    def ends_sequence(self, token: int) -> bool:
        """Whether llama.cpp takes it for an end of generation."""
        return self._lib.llama_vocab_is_eog(self._vocab, token)

    def encode(self, text: str) -> list[int]:
        """Token ids; special tokens are recognised, save in what of a ``PromptText`` is the user's.

        Raises:
            WorkError: llama.cpp cannot.
        """
        return encode_pieces(take_apart(text, self.special), self._encode)

    def _encode(self, text: str) -> list[int]:
        data = (unicodedata.normalize("NFC", text) if self._normalises else text).encode()
        size = len(data) + 8  # a token has at least one byte
        buffer = (ctypes.c_int32 * size)()
        count = self._lib.llama_tokenize(self._vocab, data, len(data), buffer, size, False, True)
        if count < 0:
            raise WorkError(f"llama.cpp cannot tokenise a text of {len(data)} bytes.")
        return buffer[:count]

    def decode(self, token_ids: Sequence[int], special: bool = False) -> str:
        """Text of token ids; ``special``: special tokens written out, else left out."""
        ids = (ctypes.c_int32 * len(token_ids))(*token_ids)
        size = 16 * len(ids) + 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = self._lib.llama_detokenize(self._vocab, ids, len(ids), buffer, size, False, special)
            if length >= 0:  # else minus the size that is needed
                return buffer.raw[:length].decode(errors="replace")
            size = -length
