import gzip
import io
import json
import lzma
import math
import random
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import AutoModelForCausalLM

from models.recipe import device
from models.recipe import split as splitting
from models.recipe.baselines import TranslationMemory
from models.recipe.batches import PART_SHARES, SHARES, ahead, batches
from models.recipe.clean import LANGUAGES, marked_pair, sentence_pairs
from models.recipe.code import read_code
from models.recipe.documents import Block, align, parse_html, parse_man, parse_xml
from models.recipe.extra import read_extra
from models.recipe.extract import Row, read_documents, read_messages
from models.recipe.noise import roughen
from models.recipe.optimiser import orthogonalise
from models.recipe.overlap import TestText
from models.recipe.parts import passages, training_text
from models.recipe.prepare import DIRECTIONS, conversations
from models.recipe.shapes import SHAPES, configuration
from models.recipe.split import document_split, fingerprint, split
from models.recipe.tokenizer import VOCABULARY
from models.recipe.train import DECAY, WAIT, WARM_UP, Schedule, paced, schedule
from models.recipe.transplant import transplant
from runtime.text.pairs import Pair
from runtime.text.prompts import ChatTemplate


def archive(path: Path, files: dict[str, str | bytes]) -> Path:
    """A tarball of these files."""
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_markup_and_accelerators_go_and_mismatched_pairs_are_dropped() -> None:
    pairs = list(sentence_pairs("Open the <b>new</b> _file", "Die <b>neue</b> _Datei öffnen", "de", "[_]"))
    assert pairs == [("Open the new file", "Die neue Datei öffnen")]
    assert not list(sentence_pairs("There are 3 files here", "Es gibt hier 4 Dateien", "de"))
    assert not list(sentence_pairs("Open the file", "Open the file", "de"))
    two = list(sentence_pairs("It is open. Please close it.", "Sie ist offen. Bitte schließen Sie sie.", "de"))
    assert len(two) == 2 and two[1] == ("Please close it.", "Bitte schließen Sie sie.")


def test_tags_and_placeholders_are_kept_where_both_sides_have_the_same_ones() -> None:
    sides = "_Open %s with <b>{file_name}</b> now", "%s jetzt mit <b>{file_name}</b> öffnen"
    assert list(marked_pair(*sides, "de", "[_]")) == [(sides[0][1:], sides[1])]
    assert not list(marked_pair("Open %s with this file", "Mit dieser Datei öffnen", "de"))
    assert not list(marked_pair("Open the new file", "Öffne die neue Datei", "de"))


def test_polish_and_russian_sentences_are_told_from_english_and_split() -> None:
    assert list(sentence_pairs("It is open. Close it.", "Jest otwarty. Świetnie, zamknij go.", "pl")) == [
        ("It is open.", "Jest otwarty."),
        ("Close it.", "Świetnie, zamknij go."),
    ]
    assert list(sentence_pairs("Open the new file", "Открыть новый файл", "ru"))
    assert not list(sentence_pairs("Open the new file", "Abrir novo arquivo", "ru"))
    assert not list(sentence_pairs("Open the new file", "Открыть новый файл", "de"))


PAGE = """<?xml version="1.0"?>
<!DOCTYPE book SYSTEM "x" [<!ENTITY app "<application>&kapp;</application>">]>
<book><bookinfo><title>{0}</title></bookinfo><chapter><title>{0}</title>
<para>{1} <guilabel>&app;</guilabel> <menuchoice><shortcut><keycap>F1</keycap></shortcut> <guimenu>A</guimenu>
<guimenuitem>B</guimenuitem></menuchoice>.</para>
<screen>ls -l</screen><itemizedlist>{2}</itemizedlist></chapter></book>"""


def test_docbook_is_aligned_by_structure_and_where_that_differs_left_out() -> None:
    item = "<listitem><para>{}</para></listitem>"
    english = parse_xml(PAGE.format("Title", "Start", item.format("one") + item.format("two")).encode(), {"kapp": "K"})
    german = parse_xml(
        PAGE.format("Titel", "Starte", item.format("eins") + item.format("zwei")).encode(), {"kapp": "K"}
    )
    assert english and german
    assert list(align(english, german)) == [
        ("Title", "Titel"), ("Start K A → B.", "Starte K A → B."), ("one", "eins"), ("two", "zwei"),
    ]  # fmt: skip
    short = parse_xml(PAGE.format("Titel", "Starte", "<listitem/>").encode(), {"kapp": "K"})
    assert short and [text for text, _ in align(english, short)] == ["Title", "Start K A → B."]


def test_mallard_and_html_keep_inline_elements_and_drop_examples() -> None:
    paragraph = b"<p>Press <key>A</key> &amp; <code>b</code>.</p>"
    page = parse_xml(b"<page><title>T</title><x:remark>n</x:remark>" + paragraph + b"<code>x</code></page>", {})
    assert page == Block("page", "", (Block("title", "T"), Block("p", "Press A & b.")))
    text = "<h1>T<a class='headerlink'>\u00b6</a></h1><pre>x</pre><ul><li>a <code>b</code></li></ul>"
    body = parse_html(text.encode())
    assert body and [(a, b) for a, b in align(body, body)] == [("T", "T"), ("a b", "a b")]


MAN = """.TH X 1
.SH {0}
x \\- {1}
.SH {2}
.TP
.B \\-a
{3}
.PP
See \\fIfile\\fP
and
.BR ls (1).
.nf
code
.fi
"""


def test_man_pages_are_aligned_and_a_translators_section_at_the_end_is_ignored() -> None:
    english = parse_man(MAN.format("NAME", "list", "OPTIONS", "show all").encode())
    translated = MAN.format("BEZEICHNUNG", "Liste", "OPTIONEN", "alle zeigen") + ".SH ÜBERSETZUNG\nVon X.\n"
    german = parse_man(gzip.compress(translated.encode()))
    assert english and german
    assert list(align(english, german)) == [
        ("NAME", "BEZEICHNUNG"), ("x - list", "x - Liste"), ("OPTIONS", "OPTIONEN"), ("-a", "-a"),
        ("show all", "alle zeigen"), ("See file and ls(1).", "See file and ls(1)."),
    ]  # fmt: skip


def test_documents_and_messages_are_read_by_language_out_of_packages(tmp_path) -> None:
    pages = {
        "usr/man/man1/x.gz": gzip.compress(b".SH NAME\nThis shows the open files.\n"),
        "usr/man/pl/man1/x.gz": gzip.compress(b"\n.SH NAZWA\nTo pokazuje otwarte pliki.\n"),
        "i18n/en.json": json.dumps({"a": "Open the new file", "b": "Close the file", "c": ["x"]}),
        "i18n/pt-br.json": json.dumps({"a": "Abrir o novo arquivo", "z": "Fechar"}),
    }
    package = archive(tmp_path / "p.tar", pages)
    found = list(read_documents([package], "manpages", r"usr/man/(?:<lang>/)?man\d/(?P<doc>[^/]+)\.gz$"))
    assert found == [Row("manpages", "x", "pl", "This shows the open files.", "To pokazuje otwarte pliki.")]
    found = list(read_messages(package, "wiki", r"(?P<doc>i18n)/<lang>\.json$"))
    assert found == [Row("wiki", "i18n", "pt", "Open the new file", "Abrir o novo arquivo")]


def test_code_is_read_by_kind_without_minified_and_translated_files(tmp_path) -> None:
    program, line = "x = 1\n" * 100, '{"a": "' + "b" * 400 + '"}'
    files = {"a/x.py": program, "a/y.json": line, "a/i18n/de.json": "{}\n" * 100, "a/logo.png": b"\x89" * 300}
    assert read_code(archive(tmp_path / "p.tar", files)) == [{"kind": "python", "path": "a/x.py", "text": program}]


def test_stored_conversations_are_prompt_and_completion_of_the_one_template(tmp_path) -> None:
    folder = Path("models/default")
    tokenizer, template = Tokenizer.from_file(str(folder / "tokenizer.json")), ChatTemplate.from_folder(folder)
    pair, segments = Pair("en", "pl"), [("Open {{ it }}.", "Otwórz."), ("Close it.", "Zamknij. ")]
    conversations(tmp_path / "x.npz", tokenizer, template, pair, segments)
    stored = np.load(tmp_path / "x.npz")
    for i, (source, target) in enumerate(segments):
        ids = stored["tokens"][stored["starts"][i] : stored["starts"][i + 1]]
        parts = template.prompt(pair, source), template.completion(pair, source, target)
        assert [ids[: stored["prompt"][i]].tolist(), ids[stored["prompt"][i] :].tolist()] == [
            tokenizer.encode(part, add_special_tokens=False).ids for part in parts
        ]


def test_neighbouring_sentences_of_a_document_become_a_passage() -> None:
    rows = [["A.", "B.", "s", "d"], ["C.", "D.", "s", "d"], ["E.", "F.", "s", "other"]]
    assert list(passages(rows, 0)) == ["A. C.", "E."] and list(passages(rows, 1)) == ["B. D.", "F."]


def test_everyday_text_is_varied_and_keeps_clear_of_test_sets(tmp_path) -> None:
    names = [a + b for a in "abcdefgh" for b in "abcdefghij"]
    pairs = [(f"Tom is here {name}.", f"Tom ist hier {name}.") for name in names]
    test = "We will all meet at the old bridge tomorrow."
    there = "Wir treffen uns morgen alle an der alten Brücke."
    pairs += [(test, there), (f"Yes: {test.lower()}", f"Ja: {there}"), ("We meet.", "Wir treffen uns.")]
    with lzma.open(tmp_path / "en-de.tsv.xz", "wt", encoding="utf-8") as file:
        file.writelines(f"{a}\t{b}\n" for a, b in pairs)
    held_out = TestText()
    held_out.add("en", [test])
    kept, counts = read_extra(tmp_path / "en-de.tsv.xz", "de", held_out)
    assert counts == {"pairs": 83, "clean": 83, "clear_of_test_sets": 81, "kept": 51}
    assert sum(a.startswith("Tom is here") for a, _ in kept) == 50 and ("We meet.", "Wir treffen uns.") in kept


def test_training_text_has_software_everyday_marked_and_long_rows(tmp_path) -> None:
    rows = ["Open it.\tÖffne es.\ts\td", "Close it.\tSchließe es.\ts\td", "Now %s.\tJetzt %s.\ts\td"]
    (tmp_path / "en-de.train.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (tmp_path / "en-de.everyday.tsv").write_text("Good morning.\tGuten Morgen.\te\t0\n", encoding="utf-8")
    text = training_text(tmp_path, "de", TestText())
    assert text.parts == {
        "corpus": [("Open it.", "Öffne es."), ("Close it.", "Schließe es.")],
        "everyday": [("Good morning.", "Guten Morgen.")],
        "marked": [("Now %s.", "Jetzt %s.")],
        "long": [("Open it. Close it.", "Öffne es. Schließe es.")],
    }
    assert text.passages["de"] == ["Öffne es. Schließe es.", "Guten Morgen."]
    held_out = TestText()
    held_out.add("de", ["Öffne es."])
    assert training_text(tmp_path, "de", held_out).in_test_sets == 1


def test_a_few_sources_are_roughened() -> None:
    rng = random.Random(0)
    found = Counter(roughen("We go.", "Wir gehen.", rng) for _ in range(2000))
    assert set(found) == {
        ("We go.", "Wir gehen."), ("we go", "Wir gehen."), ("We go", "Wir gehen"), ("WE GO.", "WIR GEHEN."),
    }  # fmt: skip
    assert found["We go.", "Wir gehen."] > 1800


def test_pinned_segments_are_held_out_first(monkeypatch) -> None:
    monkeypatch.setitem(splitting.HELD_OUT, "dpkg", (500, 3))
    names = [a + b for a in "abcdefgh" for b in "abcdefgh"]
    rows = [Row("dpkg", x, "de", f"The file {x} is open {x}.", f"Die Datei {x} ist offen {x}.") for x in names]
    test = [row for row in rows if document_split(row) == "test"]
    for chosen in (test[:3], test[-3:]):
        monkeypatch.setattr(splitting, "PINNED", frozenset(map(fingerprint, chosen)))
        assert split(rows)["test"] == sorted(chosen)


def test_no_held_out_sentence_leaks_into_training() -> None:
    words = [f"w{i}" for i in range(40)]
    rng = np.random.default_rng(0)

    def sentence() -> str:
        return "The " + " ".join(rng.choice(words, 12)) + "."

    rows = [Row("libreoffice", f"d{i}", "de", sentence(), sentence()) for i in range(400)]
    held = [row for row in rows if document_split(row) == "test"]
    assert held
    leaks = [row._replace(document=f"copy{i}", source="gettext", other=sentence()) for i, row in enumerate(held)]
    leaks = [row for row in leaks if document_split(row) == "train"]
    parts = split(rows + leaks)
    test = {row.english for row in parts["test"]}
    assert test and leaks
    assert not test & {row.english for row in parts["train"]}
    assert {row.document for row in parts["test"]}.isdisjoint(row.document for row in parts["train"])


def test_a_document_is_held_out_in_every_language_alike() -> None:
    for i in range(50):
        row = Row("libreoffice", f"d{i}", "de", "a", "b")
        assert document_split(row) == document_split(row._replace(language="fr", english="x"))


@pytest.mark.parametrize("shape", [(64, 128), (3, 32, 96), (96, 32)])
def test_orthogonalise_brings_singular_values_near_one(shape) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)).float())
    assert values.min() > 0.4 and values.max() < 1.4


def test_the_rate_rises_holds_and_falls_to_zero() -> None:
    plan = schedule(0, 100e6, False, None)
    assert plan(0) < 0.02 and plan(WARM_UP) == 1 and plan(60e6) == 1 and 0 < plan(90e6) < 0.5 and plan(100e6) == 0


def test_a_run_is_finished_from_where_it_is_and_goes_on_falling_when_resumed() -> None:
    first = schedule(0, 160e6, False, None)
    plan = schedule(40_000_000, None, True, first)
    assert plan.begin == 40e6 and plan(40e6) == 1 and 55e6 < plan.end < 65e6 and plan(plan.end) == 0
    assert schedule(50_000_000, None, False, plan) == plan == schedule(50_000_000, None, True, plan)
    sooner = schedule(50_000_000, 52e6, False, plan)
    assert sooner(50e6) == pytest.approx(plan(50e6)) and sooner(52e6) == 0
    lowered = schedule(40_000_000, 45e6, False, first)
    assert lowered(40e6) == 1 and lowered(42.5e6) == pytest.approx(0.5)
    with pytest.raises(SystemExit, match="--finish"):
        schedule(40_000_000, 30e6, False, first)
    with pytest.raises(SystemExit, match="--finish"):
        schedule(40_000_000, 40e6, False, first)
    assert schedule(160_010_000, None, False, first) == first == schedule(160_010_000, None, True, first)
    with pytest.raises(SystemExit, match="--start"):
        schedule(160_010_000, 200e6, False, first)
    with pytest.raises(SystemExit, match="No run"):
        schedule(0, None, True, None)


def test_a_run_goes_on_with_the_schedule_it_had() -> None:
    first = Schedule(65e6, 100e6)
    assert schedule(30_000_000, None, False, first) == first


def test_layers_that_were_trained_before_wait_for_the_embeddings() -> None:
    plan = Schedule(65e6, 100e6, wait=WAIT)
    assert plan(WAIT / 2, matrices=True) == 0 and plan(WAIT / 2) == pytest.approx(0.5, abs=0.02)
    assert plan(WAIT + WARM_UP, matrices=True) == plan(WAIT) == 1 == plan(WAIT + 9e6, matrices=True)
    assert plan(90e6, matrices=True) == plan(90e6) < 1
    assert schedule(30_000_000, None, True, plan).wait == WAIT


def test_a_run_with_a_time_limit_ends_by_the_clock_however_fast_it_is() -> None:
    plan = paced(Schedule(65e6, 100e6), 1_000_000, speed=1000, seconds=9000)
    assert plan.end == 10e6 and plan.begin == pytest.approx((1 - DECAY) * 10e6) and plan(2e6) == 1
    falling = paced(plan, 8_250_000, speed=500, seconds=1000)
    assert falling(8.25e6) == pytest.approx(plan(8.25e6)) and falling.end == 8.75e6 and falling(8.75e6) == 0
    slower = paced(falling, 8_500_000, speed=100, seconds=1000)
    assert slower(8.5e6) == pytest.approx(falling(8.5e6)) and slower.end == 8.6e6


def test_a_lent_machine_gets_text_that_fits_and_gives_a_checkpoint_in_pieces(tmp_path, monkeypatch) -> None:
    corpus, model = tmp_path / "corpus", tmp_path / "model"
    corpus.mkdir()
    model.mkdir()
    rng = random.Random(0)
    rows = ["".join(rng.choices("abcdefgh ", k=60)) for _ in range(4000)]
    for language in LANGUAGES:
        text = "".join(f"{row}\t{row[::-1]}\ts\t{i // 9}\n" for i, row in enumerate(rows))
        (corpus / f"en-{language}.train.tsv").write_text(text)
    (corpus / "en-de.everyday.tsv").write_text("Good morning.\tGuten Morgen.\te\t0\nBye.\tTschüs.\te\t0\n", "utf-8")
    (corpus / "code.train.jsonl").write_text('{"text": "x = 1"}\n')
    (model / "config.json").write_text("{}")
    (model / "weights").write_text("".join(rng.choices("abcdefgh", k=9000)))
    held_out = TestText()
    held_out.add("de", ["Tschüs."])
    counts = device.pack(tmp_path, tmp_path / "text.tar.xz", 0.2, held_out)
    assert counts["corpus/en-de.everyday.tsv"] == len("Good morning.\tGuten Morgen.\te\t0\n")
    assert (tmp_path / "text.tar.xz").stat().st_size < 0.4 * 2**20 < sum(counts.values())
    monkeypatch.setattr(device, "PIECE", 4096)
    count = device.cut(model, tmp_path, 0, 2)
    with pytest.raises(SystemExit, match="--first"):
        device.join([*tmp_path.glob("model.tar.*")], tmp_path / "joined")
    device.cut(model, tmp_path, 2, count)
    device.join([*tmp_path.glob("model.tar.*")], tmp_path / "joined")
    assert {path.name: path.read_bytes() for path in (tmp_path / "joined").iterdir()} == {
        path.name: path.read_bytes() for path in model.iterdir()
    }


def vocabulary(*merged: str) -> Tokenizer:
    tokens, merges = list("abc"), []
    for token in merged:  # each is a known token and a letter
        tokens.append(token)
        merges.append((token[:-1], token[-1]))
    return Tokenizer(BPE({token: i for i, token in enumerate(tokens)}, merges))


def test_a_token_keeps_its_embedding_and_a_new_one_is_the_mean_of_its_pieces() -> None:
    old, new = vocabulary("ab"), vocabulary("bc", "ab", "abc")
    embeddings = torch.tensor([[1.0], [2.0], [4.0], [16.0]])  # a b c ab
    assert transplant(embeddings, old, new).flatten().tolist() == [1, 2, 4, 3, 16, 10]  # a b c bc ab abc


def test_a_translation_memory_answers_with_the_most_similar_segment() -> None:
    memory = TranslationMemory(
        [
            ("Open the file.", "Datei öffnen."),
            ("Close the file.", "Datei schließen."),
            ("Print it all.", "Alles drucken."),
        ]
    )
    assert memory("Close this file.") == "Datei schließen." and memory("Print.") == "Alles drucken."


def rows_of(tmp_path: Path, length: int = 20) -> None:
    for name in SHARES:
        count = 1 + len(name)
        prompt = 8 if name in map(str, DIRECTIONS) else 0
        ids = np.tile(np.arange(10, 10 + length, dtype=np.uint16), count)
        starts = np.arange(count + 1) * length
        np.savez(tmp_path / f"{name}.npz", tokens=ids, starts=starts, prompt=np.full(count, prompt, np.int16))


def test_batches_are_of_fixed_size_and_weigh_every_response_token(tmp_path) -> None:
    rows_of(tmp_path)
    tokens, labels, weights, real, kinds = next(batches(tmp_path, 512, seed=0))
    assert labels.shape == weights.shape == real.shape == kinds.shape == (512,)
    rows, length = tokens.shape
    grid = weights[: rows * length].view(rows, length)
    assert (grid[:, 7:19] == 1).all() and (grid[:, 19:] == 0).all()
    assert torch.equal(labels[: rows * length].view(rows, length)[:, :19], tokens[:, 1:20])
    assert int(real.sum()) == rows * 20
    of_rows = kinds[: rows * length].view(rows, length)
    assert (of_rows == of_rows[:, :1]).all()
    prompted = torch.tensor([name in map(str, DIRECTIONS) for name in SHARES])
    assert torch.equal(prompted[of_rows[:, 0]], grid[:, :7].mean(-1) < 1)


def test_batches_made_ahead_are_the_same_ones(tmp_path) -> None:
    rows_of(tmp_path)
    early, late = ahead(batches(tmp_path, 512, seed=3), 2), batches(tmp_path, 512, seed=3)
    for _ in range(6):
        assert all(map(torch.equal, next(early), next(late)))


def test_shares_are_of_tokens_and_cover_every_direction_and_language() -> None:
    directions, languages = {str(pair) for pair in DIRECTIONS}, {f"mono-{code}" for code in ("en", *LANGUAGES)}
    assert set(SHARES) == directions | languages | {"code"}
    assert sum(SHARES.values()) == pytest.approx(100)
    assert sum(SHARES[name] for name in directions) > 80


def test_long_rows_are_drawn_less_often_so_that_a_share_is_one_of_tokens(tmp_path) -> None:
    rows_of(tmp_path)
    ids = np.full(160 * 4, 7, dtype=np.uint16)
    np.savez(tmp_path / "code.npz", tokens=ids, starts=np.arange(5) * 160, prompt=np.zeros(4, np.int16))
    stream = batches(tmp_path, 4096, seed=0)
    code = total = 0
    for _ in range(120):
        batch = next(stream)
        code, total = code + int((batch.tokens == 7).sum()), total + int(batch.real.sum())
    assert 0.7 * SHARES["code"] < 100 * code / total < 1.4 * SHARES["code"]


def test_parts_share_their_directions_tokens(tmp_path) -> None:
    rows_of(tmp_path)
    for part, token in (("corpus", 3), ("everyday", 4)):
        ids, starts = np.full(20 * 4, token, dtype=np.uint16), np.arange(5) * 20
        np.savez(tmp_path / f"en-de.{part}.npz", tokens=ids, starts=starts, prompt=np.zeros(4, np.int16))
    stream = batches(tmp_path, 4096, seed=0)
    counts = np.zeros(5)
    total = 0
    for _ in range(60):
        batch = next(stream)
        counts, total = (
            counts + np.bincount(batch.tokens.flatten().clamp(max=9), minlength=10)[:5],
            total + int(batch.real.sum()),
        )
    assert (counts[3] + counts[4]) / total == pytest.approx(SHARES["en-de"] / 100, rel=0.2)
    assert counts[3] / counts[4] == pytest.approx(PART_SHARES["corpus"] / PART_SHARES["everyday"], rel=0.2)


def test_router_losses_ask_for_even_load_over_all_text_and_a_squad_of_experts_for_each_kind() -> None:
    from models.recipe.network import Usage, balance_loss, specialisation_loss

    def losses(probabilities: torch.Tensor, kinds: torch.Tensor) -> tuple[float, float]:
        usage = Usage(8, keep=0)
        usage.update(probabilities.sum(0), probabilities.mean(0).clamp(min=1e-12))
        balance = balance_loss(probabilities.mean(0), usage)
        return balance.item(), specialisation_loss(probabilities, kinds, usage).item()

    squads = torch.eye(4).repeat_interleave(2, 1).repeat(8, 1) / 2  # 32 tokens of 4 kinds, 2 of 8 experts for each
    kinds = torch.arange(4).repeat(8)
    assert losses(squads, kinds) == pytest.approx((1, 0), abs=1e-6)
    assert losses(squads, kinds * 0) == pytest.approx((1, math.log(4)))
    assert losses(torch.full((32, 8), 1 / 8), kinds) == pytest.approx((1, math.log(4)))
    everything_by_two = torch.eye(8)[:2].repeat(16, 1)
    assert losses(everything_by_two, kinds) == pytest.approx((4, math.log(4)))


def test_a_batch_of_one_kind_may_use_a_squad_if_other_text_used_the_other_experts() -> None:
    from models.recipe.network import Usage, balance_loss, specialisation_loss

    usage = Usage(4, keep=0.5)
    others, these = torch.tensor([[0.0, 0.0, 0.0, 1.0]]), torch.tensor([[1.0, 0.0, 0.0, 0.0]], requires_grad=True)
    for _ in range(20):
        usage.update(others.sum(0), others.mean(0).clamp(min=1e-6))
    (
        balance_loss(these.mean(0), usage) + specialisation_loss(these, torch.zeros(1, dtype=torch.long), usage)
    ).backward()
    assert these.grad is not None and these.grad[0].argmax() == 3  # the used expert costs most, its own costs nothing


@pytest.mark.slow  # compiling the elementwise parts takes about a minute
@pytest.mark.parametrize("shape", SHAPES)
def test_the_fast_training_pass_is_transformers_own_function(shape) -> None:
    from models.recipe.batches import Batch
    from models.recipe.network import new_usage, training_loss

    torch.manual_seed(0)
    config = configuration(shape)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    tokens = torch.randint(4, VOCABULARY, (24, 40))
    labels, weights, real = torch.zeros(1024, dtype=torch.long), torch.zeros(1024), torch.zeros(1024, dtype=torch.bool)
    labels[:960] = F.pad(tokens[:, 1:], (0, 1)).reshape(-1)
    weights[:960] = F.pad(torch.ones(24, 39), (0, 1)).reshape(-1)
    real[:960] = True
    batch = Batch(tokens, labels, weights, real, torch.zeros_like(labels))
    loss, balance, specialisation, load = training_loss(model, batch, new_usage(model))
    (loss / weights.sum()).backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    logits = model(tokens, use_cache=False).logits[:, :-1]
    reference = F.cross_entropy(logits.reshape(-1, VOCABULARY), tokens[:, 1:].reshape(-1))
    reference.backward()
    assert loss.item() / weights.sum().item() == pytest.approx(reference.item(), abs=2e-3)
    layers = config.num_hidden_layers
    assert load.sum() == layers * config.num_experts_per_tok * 960 and layers <= balance.item() < 1.5 * layers
    assert 1.2 * layers < specialisation.item() < 1.6 * layers
    for name, parameter in model.named_parameters():
        assert F.cosine_similarity(gradients[name].flatten(), parameter.grad.flatten(), 0) > 0.97, name
