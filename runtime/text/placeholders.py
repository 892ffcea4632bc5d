"""Placeholders, URLs, e-mail addresses and code: a translation has each as often as its source, and none of its own.

Those of printf without a number or a name (``%s of %d``) are filled in by their order, so that has to stay as well.
"""

import re
from collections import Counter

from runtime.text.markup import placeholder_spans

_BY_ORDER = re.compile(r"%(?!\d+\$|\(|L?\d{1,2}$|\w+%$|%)")
_CERTAIN = re.compile(r"[%{$]|[#@]\{|www\.|[a-z]+:|\S+@")  # what begins so is no text of a language


def wrong_placeholders(source: str, translation: str) -> list[str]:
    """Placeholders that a translation lacks, has too often or in another order, or that are its own.

    What looks like a path, an option or code may be text.
    """
    asked, came = _placeholders(source), _placeholders(translation)
    wanted, found = Counter(asked), Counter(came)
    wrong = [
        each for each in wanted | found if found[each] != wanted[each] and (each in wanted or _CERTAIN.match(each))
    ]
    ordered, filled = (list(filter(_BY_ORDER.match, each)) for each in (asked, came))
    return wrong or (list(dict.fromkeys(ordered)) if ordered != filled else [])


def _placeholders(text: str) -> list[str]:
    return [text[start:end] for start, end in placeholder_spans(text)]


def blanked(text: str) -> str:
    """The text with other characters in the place of its placeholders: what they have is no number, and no word."""
    for start, end in placeholder_spans(text):
        text = text[:start] + "\0" * (end - start) + text[end:]
    return text
