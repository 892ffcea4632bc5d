"""Telling languages apart: where the means to do it are missing, one sentence, and nothing that stays broken."""

import tempfile

import pytest

from runtime.errors import WorkError
from runtime.text import language

GERMAN = "Die Datei konnte nicht geöffnet werden."


def test_without_a_temporary_folder_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    language._identifier.cache_clear()
    with monkeypatch.context() as hostile:
        hostile.setattr(tempfile, "tempdir", "/no/such/folder")
        with pytest.raises(WorkError, match=r"temporary files \(No such file or directory\)(?s:.)*next: TMPDIR="):
            language.detected_language(GERMAN)
    assert language.detected_language(GERMAN) == "de"
