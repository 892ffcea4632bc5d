import json
import os
import subprocess
import sys

import pytest

from runtime.errors import RequestError
from runtime.text.corpus import read_segments
from runtime.text.languages import FLORES, LANGUAGES
from runtime.text.pairs import Pair
from tests.runtime.test_text import SEPARATORS

PAIR = Pair("en", "de")


def json_lines(path, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_every_language_has_a_flores_name() -> None:
    assert FLORES.keys() == LANGUAGES.keys()


def test_flores_200_is_read_by_split_and_devtest_goes_first(tmp_path) -> None:
    for split in ("dev", "devtest"):
        (tmp_path / split).mkdir()
        for code in ("eng_Latn", "deu_Latn"):
            (tmp_path / split / f"{code}.{split}").write_text(f"{code} {split} 1\n{code} {split} 2\n")
    assert read_segments(tmp_path, PAIR)[1] == ("eng_Latn devtest 2", "deu_Latn devtest 2")
    assert read_segments(tmp_path / "dev", PAIR)[0] == ("eng_Latn dev 1", "deu_Latn dev 1")
    with pytest.raises(RequestError, match="without en-fr"):
        read_segments(tmp_path, Pair("en", "fr"))
    (tmp_path / "devtest" / "deu_Latn.devtest").write_text("one line\n")
    with pytest.raises(RequestError, match="2 lines of en, 1 of de"):
        read_segments(tmp_path, PAIR)


def test_flores_plus_is_joined_by_id(tmp_path) -> None:
    json_lines(tmp_path / "devtest/eng_Latn.jsonl", [{"id": 10, "text": "ten"}, {"id": 9, "text": "nine"}])
    json_lines(tmp_path / "devtest/deu_Latn.jsonl", [{"id": 9, "text": "neun"}, {"id": 10, "text": "zehn"}])
    assert read_segments(tmp_path, PAIR) == [("nine", "neun"), ("ten", "zehn")]


def test_wmt24pp_takes_the_language_s_own_region_and_leaves_bad_sources_out(tmp_path) -> None:
    good = {"source": "Hello", "target": "Bonjour", "is_bad_source": False}
    json_lines(tmp_path / "en-fr_CA.jsonl", [good | {"target": "Allô"}])
    json_lines(tmp_path / "en-fr_FR.jsonl", [good, good | {"source": "bad", "is_bad_source": True}])
    assert read_segments(tmp_path, Pair("en", "fr")) == [("Hello", "Bonjour")]


SACREBLEU = "import sys; from runtime.text.corpus import read_segments; from runtime.text.pairs import Pair; "
SACREBLEU += "print(ascii(read_segments(sys.argv[1], Pair(*sys.argv[2].split('-')))))"


def read_with_sacrebleu(home, name: str, pair: str) -> subprocess.CompletedProcess:
    """In a process of its own, since sacreBLEU reads its folder's place when it is imported."""
    environment = os.environ | {
        "SACREBLEU": str(home),
        "https_proxy": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    return subprocess.run(
        [sys.executable, "-c", SACREBLEU, name, pair], capture_output=True, text=True, env=environment
    )


def test_sets_of_sacrebleu_are_read_by_name_from_its_folder(tmp_path) -> None:
    (tmp_path / "wmt20").mkdir()
    for field in ("src", "ref", "docid", "genre", "origlang"):
        text = f"{field} 1\n{field}{''.join(SEPARATORS)} 2\n"
        (tmp_path / "wmt20" / f"wmt20.en-de.{field}").write_bytes(text.encode())
    done = read_with_sacrebleu(tmp_path, "wmt20", "en-de")
    second = tuple(f"{field}{''.join(SEPARATORS)} 2" for field in ("src", "ref"))
    assert done.stdout.strip() == ascii([("src 1", "ref 1"), second]), done.stderr


@pytest.mark.parametrize("separator", SEPARATORS)
def test_no_other_separator_ends_a_line_of_flores(separator: str, tmp_path) -> None:
    for code in ("eng_Latn", "deu_Latn"):
        (tmp_path / f"{code}.dev").write_bytes(f"{code}{separator}1\n{code} 2\n".encode())
    assert read_segments(tmp_path, PAIR)[0] == (f"eng_Latn{separator}1", f"deu_Latn{separator}1")


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])  # what JSON lets a text hold as it is
def test_no_other_separator_ends_a_line_of_wmt24pp(separator: str, tmp_path) -> None:
    row = {"source": f"Save{separator}it", "target": f"Sichern{separator}Sie"}
    (tmp_path / "en-de_DE.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_segments(tmp_path, PAIR) == [(row["source"], row["target"])]


def test_a_set_of_sacrebleu_that_is_not_on_disk_is_one_sentence(tmp_path) -> None:
    assert "RequestError: The test set wmt20 is not in" in read_with_sacrebleu(tmp_path, "wmt20", "en-de").stderr
    assert "RequestError: sacreBLEU's wmt20 has no en-nl" in read_with_sacrebleu(tmp_path, "wmt20", "en-nl").stderr
