"""Terms and their translations, as somebody wants them: found in a text, and looked for in its translation."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from runtime.errors import RequestError
from runtime.text.languages import base_language, find_language
from runtime.text.lines import decode, read_bytes, split_lines
from runtime.text.pairs import Pair
from runtime.text.repetition import is_unspaced

_LONGEST = 200  # characters of a term


@dataclass(frozen=True)
class Term:
    """A term and its translation; the same again where it stays as it is."""

    source: str
    target: str

    def is_in(self, translation: str) -> bool:
        """Whether a translation has the term: it begins a word there, which may go on with an ending.

        Capitals count where the term is to stay as it is.
        """
        text, target = translation, self.target
        if self.source != target:
            text, target = text.lower(), target.lower()
        at = text.find(target)
        while at >= 0:
            if not in_word(text, at):
                return True
            at = text.find(target, at + 1)
        return False


def in_word(text: str, at: int) -> bool:
    """Whether ``at`` is between two characters of one word."""
    if not 0 < at < len(text) or is_unspaced(text[at]) or is_unspaced(text[at - 1]):
        return False
    return text[at - 1].isalnum() and text[at].isalnum()


class Glossary:
    """Terms to translate in one way only.

    A term with a capital is found as it is spelt, another one in capitals, too. It is found as a whole word; the longest wins.
    """

    def __init__(self, terms: Iterable[Term]) -> None:
        self._terms: dict[str, list[Term]] = defaultdict(list)  # by the first character
        for term in {each.source: each for each in terms}.values():
            self._terms[term.source[0].lower()].append(term)
        for each in self._terms.values():
            each.sort(key=lambda term: -len(term.source))

    def __iter__(self) -> Iterator[Term]:
        return chain.from_iterable(self._terms.values())

    def find(self, text: str) -> list[Term]:
        """The terms of a text in order, each once for each time."""
        found, at = list[Term](), 0
        while at < len(text):
            term = None if in_word(text, at) else self._at(text, at)
            if term:
                found.append(term)
            at += len(term.source) if term else 1
        return found

    def _at(self, text: str, at: int) -> Term | None:
        for term in self._terms.get(text[at].lower(), ()):
            part = text[at : at + len(term.source)]
            same = part == term.source or (term.source.islower() and part.lower() == term.source)
            if same and not in_word(text, at + len(part)):
                return term
        return None


def read_glossary(file: Path, pair: Pair) -> Glossary:
    """Terms from a file: ``.tbx``, or a term and its translation in each line, with a tab between (``.csv``: a comma).

    A line with one term alone says that it stays as it is. A first line of language codes says which column is whose.

    Raises:
        RequestError: it is not there, damaged, or has no term of the pair.
    """
    if not file.is_file():
        raise RequestError(f"There is no file {file}.", next_command="ls")
    data = read_bytes(file)
    if file.suffix.lower() == ".tbx":
        from runtime.translate.documents.exchange import tbx_terms

        return Glossary(Term(*each) for each in tbx_terms(data, str(file), pair).items())
    text = decode(data, str(file))
    delimiter = "," if file.suffix.lower() == ".csv" else "\t"
    try:
        rows = [
            [cell.strip() for cell in row] for row in csv.reader(split_lines(text), delimiter=delimiter, strict=True)
        ]
    except csv.Error as error:
        raise RequestError(f"{file} cannot be read as a table: {error}.") from None
    rows = [row for row in rows if any(row)]
    columns = (0, 1)
    if rows and len(rows[0]) > 1 and all(find_language(cell) for cell in rows[0]):
        codes = [base_language(find_language(cell) or "") for cell in rows.pop(0)]
        asked = [base_language(language) for language in (pair.source, pair.target)]
        if missing := [language for language in asked if language not in codes]:
            raise RequestError(f"{file} has no column of '{missing[0]}': its first line says {', '.join(codes)}.")
        columns = (codes.index(asked[0]), codes.index(asked[1]))
    terms = []
    for row in rows:
        source = row[columns[0]] if len(row) > columns[0] else ""
        target = (row[columns[1]] if len(row) > columns[1] else "") or source
        if max(len(source), len(target)) > _LONGEST:
            raise RequestError(f"{file} is no glossary: '{source[:40]}...' has more than {_LONGEST} characters.")
        if source:
            terms.append(Term(source, target))
    if not terms:
        raise RequestError(f"{file} has no terms of {pair}.")
    return Glossary(terms)
