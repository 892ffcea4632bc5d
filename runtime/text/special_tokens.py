"""Special tokens are parsed in what the chat template writes, and never in a segment: there ``<|im_end|>`` is text."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

_LOOKS_SPECIAL = re.compile(r"<[|｜].*[|｜]>|</?[\w:]*think[\w:]*>|\[/?(INST|THINK|SYSTEM_PROMPT)\]")


class PromptText(str):
    """Text for a model in which some spans are the user's own (``literal``), to be read as text whatever they hold."""

    literal: tuple[slice, ...]

    def __new__(cls, text: str, literal: Iterable[slice] = ()) -> "PromptText":
        made = super().__new__(cls, text)
        made.literal = tuple(literal)
        return made


def join_parts(parts: Sequence[str], text: str) -> PromptText:
    """Parts that a template wrote with ``text`` between them."""
    made, spans = parts[0], []
    for part in parts[1:]:
        spans.append(slice(len(made), len(made) + len(text)))
        made += text + part
    return PromptText(made, spans)


def looks_special(token: str) -> bool:
    """Whether a token that its tokenizer does not call special is a mark all the same: ``<think>``, ``<|im_end|>``."""
    return _LOOKS_SPECIAL.fullmatch(token) is not None


def pattern_of(tokens: Iterable[str]) -> re.Pattern[str] | None:
    """What finds special tokens in a text; None where there are none. Those of one character cannot be taken apart."""
    longest_first = sorted({token for token in tokens if len(token) > 1}, key=lambda token: (-len(token), token))
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def special_of(tokenizer: Any) -> re.Pattern[str] | None:
    """What finds the special tokens of a ``tokenizers.Tokenizer``."""
    added = tokenizer.get_added_tokens_decoder().values()
    return pattern_of(token.content for token in added if token.special or looks_special(token.content))


def take_apart(text: str, special: re.Pattern[str] | None) -> list[str]:
    """The text in pieces, so that no special token is whole in the user's spans of it."""
    cuts: list[int] = []
    if special and isinstance(text, PromptText):
        for span in text.literal:
            position = span.start
            while found := special.search(text, position, span.stop):
                position = found.start() + 1
                cuts.append(position)
    return [str(text[start:stop]) for start, stop in zip([0, *cuts], [*cuts, len(text)])]


def encode_pieces(pieces: Sequence[str], encode: Callable[[str], list[int]]) -> list[int]:
    """Token ids of pieces one after the other.

    Each piece after the first follows a line break that is then left out, since some tokenizers (SentencePiece's) put a
    space before the text that they are given.
    """
    ids, before = list(encode(pieces[0])), encode("\n") if len(pieces) > 1 else []
    for piece in pieces[1:]:
        found = encode("\n" + piece)
        ids += found[len(before) :] if found[: len(before)] == before else encode(piece)
    return ids


def encode_all(
    texts: Sequence[str], encode: Callable[[list[str]], list[list[int]]], special: re.Pattern[str] | None
) -> list[list[int]]:
    """Token ids of many texts, by one call for all that have no special token of the user's."""
    pieces = [take_apart(text, special) for text in texts]
    whole = iter(encode([each[0] for each in pieces if len(each) == 1]))
    return [next(whole) if len(each) == 1 else encode_pieces(each, lambda piece: encode([piece])[0]) for each in pieces]
