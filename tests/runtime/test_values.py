"""Values that a translation must keep: which are found, what counts as the same, and what is put right."""

import pytest

from runtime.text.values import lost_values, put_right, values


def lost(source: str, translation: str, target: str = "de") -> list[str]:
    return [value.text for value in lost_values(values(source, target), translation)[0]]


@pytest.mark.parametrize(
    ("source", "translation"),
    [
        ("It costs 1,234.50 euros.", "Es kostet 1.234,50 Euro."),
        ("It costs 1,234.50 euros.", "Es kostet 1234,50 Euro."),
        ("It costs 1,234.50 euros.", "Es kostet 1\u202f234,50 Euro."),
        ("1,234,567 people, 0.5 %", "0,5 %, 1.234.567 Menschen"),
        ("On 12/31/2025 it ends.", "Am 31.12.2025 endet es."),
        ("On 2025-12-31 it ends.", "Am 31. Dezember 2025 endet es."),
        ("On December 31, 2025 it ends.", "Am 31.12.2025 endet es."),
        ("On December 31 it ends.", "Am 31.12. endet es."),
        ("Come at 5 pm or 5:30 p.m.", "Kommen Sie um 17 Uhr oder 17:30 Uhr."),
        ("Come at 17:30.", "Kommen Sie um 17.30 Uhr."),
        ("There are 3 files in 2 folders.", "Es gibt drei Dateien in zwei Ordnern."),
        ("The 2nd of 10 pages", "Die zweite von zehn Seiten"),
        ("The 1990s", "Die 1990er Jahre"),
        ("It has 10GB for $5M.", "Es hat 10 GB für 5 Mio. $."),
        ("It costs USD100.", "Es kostet 100 USD."),
        (
            "Mail a.b@example.org, see https://example.org/a?b=1.",
            "Siehe https://example.org/a?b=1, Mail: a.b@example.org.",
        ),
        ("Invoice INV-2024-0017, version 2.10.3", "Rechnung INV-2024-0017, Version 2.10.3"),
        ("Play MP3 files.", "MP3-Dateien abspielen."),
        ("Open until 6:10 pm, except on 2015-10-19", "Bis 6:10 pm geöffnet, außer auf 2015-10-19"),
        ("No value here: none.", "Nichts."),
        ("١٢٣ files", "123 Dateien"),
    ],
)
def test_what_is_unchanged_or_rightly_localised_is_kept(source: str, translation: str) -> None:
    assert lost(source, translation) == []


@pytest.mark.parametrize(
    ("source", "translation", "missing"),
    [
        ("Your order no. 4711 is there.", "Ihre Bestellung Nr. 3711 ist da.", ["4711"]),
        ("It costs 12.50 euros.", "Es kostet 12.500 Euro.", ["12.50"]),
        ("It costs 1,234.50 euros.", "Es kostet 1.234 Euro.", ["1,234.50"]),
        ("Open https://example.org/a/b.", "Öffnen Sie https://example.org/a.", ["https://example.org/a/b"]),
        ("Open https://example.org/a.", "Öffnen Sie https://example.org/a/b.", ["https://example.org/a"]),
        ("Mail a.b@example.org.", "Mail an b@example.org.", ["a.b@example.org"]),
        ("Part AB-1234-X is gone.", "Teil AB-1243-X fehlt.", ["AB-1234-X"]),
        ("Tracking number 1Z999AA10123456784", "Sendungsnummer 1Z999AA1012345678", ["1Z999AA10123456784"]),
        ("On 12/31/2025 it ends.", "Am 30.12.2025 endet es.", ["12/31/2025"]),
        ("Come at 5:30 pm.", "Kommen Sie um 5:15.", ["5:30 pm"]),
        ("From 20 to 20", "Von 20", ["20"]),
        ("It has 3 files.", "Es hat vier Dateien.", ["3"]),
        ("Room 014", "Raum 14", ["014"]),
        ("IP 192.168.1.10", "IP 192.168.1.1", ["192.168.1.10"]),
    ],
)
def test_what_is_changed_is_lost(source: str, translation: str, missing: list[str]) -> None:
    assert lost(source, translation) == missing


def test_a_small_number_counts_where_its_word_is_known() -> None:
    assert lost("It has 3 files.", "Es hat Dateien.") == ["3"] and lost("It has 3 files.", "Ma faili.", "sm") == []
    assert lost("1.5 million people", "150万人", "zh") == [] and lost("2.5 metres", "2米", "zh") == ["2.5"]


@pytest.mark.parametrize(
    ("source", "translation", "better"),
    [
        ("Order no. 4711 of 2024", "Bestellung Nr. 3711 von 2024", "Bestellung Nr. 4711 von 2024"),
        ("It costs 1,299.50 euros.", "Es kostet 1.29,50 Euro.", "Es kostet 1.299,50 Euro."),
        ("Part AB-1234-X", "Teil AB-1243-X", "Teil AB-1234-X"),
        ("Order no. 4711", "Bestellung Nr. 98", None),
        ("Order no. 4711", "Bestellung", None),
    ],
)
def test_what_is_nearly_there_is_put_right(source: str, translation: str, better: str | None) -> None:
    missing, left = lost_values(values(source, "de"), translation)
    assert put_right(missing, translation, left, "en", "de") == better


@pytest.mark.parametrize("piece", ["1", "1,", "a1-", "A.", "AB-1", "1 000 ", "://", "a@", "12/", "१", "²", "5 pm"])
def test_any_text_is_read(piece: str) -> None:
    text = piece * 1500
    assert lost(text, text) == []
