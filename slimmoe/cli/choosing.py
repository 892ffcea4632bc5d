"""Which model ``slimmoe translate`` takes, and for which pair: what was typed, else what is stored."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from runtime.errors import RequestError
from runtime.formats.artefact import find_artefact, is_model, pair_of
from runtime.formats.store import stored_folder
from runtime.text.pairs import Pair, planned_pair
from runtime.translate.stored import (
    choose_model,
    choose_pair,
    detected_pair,
    find_target,
    parse_pairs,
    stored_models,
)


def split_model(words: Sequence[str], named: str | None) -> tuple[Path | None, list[str]]:
    """The model that a command names, None where it names none, and the words that are to be translated.

    The first word is the model where it is the path of one. A stored model's name is one where text follows it: more words,
    or standard input that is no terminal. Alone at a terminal it is a text, and what is there as a file counts before it.

    Args:
        named: by ``--model``; every word is then to be translated.

    Raises:
        RequestError: the path or ``named`` is no model.
    """
    if named is not None:
        return find_artefact(Path(named)), list(words)
    if words and _is_model(words[0], len(words) > 1 or not _at_terminal()):
        return find_artefact(Path(words[0])), list(words[1:])
    return None, list(words)


def _at_terminal() -> bool:
    return sys.stdin is None or sys.stdin.isatty()


def _is_model(word: str, text_follows: bool) -> bool:
    try:
        exists = Path(word).exists()
        if not exists and any(each.isspace() for each in word):
            return False
        return is_model(word) or (not exists and text_follows and stored_folder(word) is not None)
    except (OSError, ValueError):  # too long for a path, or none at all
        return False


def model_and_pair(
    artefact: Path | None, pair: Pair | None, to: str | None, sample: Callable[[], str]
) -> tuple[Path, Pair]:
    """The model to translate with and the pair to translate by: as asked, else as the models and the text tell.

    Args:
        artefact: None: a stored model that fits.
        sample: of the text; called where its language is to be found.

    Raises:
        RequestError: one of the two is not known, or no model fits.
    """
    if pair is not None and to is not None:
        raise RequestError("--pair names the target already.", next_command="the same without --to")
    if artefact is not None:
        return artefact, pair or _pair_for(artefact, to, sample)
    models = [each for each in stored_models() if not each.problem]
    if pair is None:
        pair, detected = choose_pair(models, find_target(to) if to is not None else None, sample)
        if detected:
            _tell_source(pair)
    return choose_model(models, pair).artefact, pair


def _pair_for(artefact: Path, to: str | None, sample: Callable[[], str]) -> Pair:
    known = pair_of(artefact)
    if to is None:
        if chosen := planned_pair(known):
            return chosen
        said = f"was cut for {known}" if known else "names no language pair"
        raise RequestError(
            f"The model {said}: say which one with --pair, or the target with --to.",
            next_command="the same with --pair en-de",
        )
    target = find_target(to)
    if len(fitting := [each for each in parse_pairs(known) if each.target == target]) == 1:
        return fitting[0]
    pair = detected_pair(target, sample())
    _tell_source(pair)
    return pair


def _tell_source(pair: Pair) -> None:
    print(f"slimmoe: the text is in {pair.source}; --pair says otherwise where it is not.", file=sys.stderr)
