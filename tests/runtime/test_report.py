import base64
import csv
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from runtime.errors import RequestError
from runtime.measure.labels import label, series
from runtime.report import print_table, read_run, write_report
from runtime.report.figures import front
from runtime.report.verdict import verdict

ROOT = Path(__file__).parents[2]
MIB = 2**20
SCORES = {0.0: (39.8, 39.8), 0.5: (35.7, 38.9), 0.75: (29.7, 33.6), 0.9: (22.1, 29.4)}  # as cut, after SFT
KINDS = [("llama.cpp 0.3.36", "Q4_K_M", 0.0, 25.2, 91), ("llama.cpp 0.3.36", "Q8_0", 0.3, 44.8, 118)]
KINDS += [("onnxruntime 1.32.0", "int4", -0.1, 26.4, 138), ("onnxruntime 1.32.0", "int8", 0.2, 45.9, 171)]


def row(kind: tuple, ratio: float, recovered: bool = False, **more: Any) -> dict[str, Any]:
    engine, type_, better, size, peak = kind
    chrf = round(SCORES[ratio][recovered] + better, 2)
    made = {"hash": "4a49", "pair": "en-de", "criterion": "gate", "ratio": ratio, "recovered": recovered}
    suffix = ".gguf" if engine.startswith("llama") else "/onnx"
    return {
        "artefact": f"runs/p{ratio * 100:.0f}{'-sft' * recovered}-{type_}{suffix}", "type": type_,
        "provenance": made if ratio else {}, "pair": "en-de", "size_bytes": int(size * 1e6 * (1 - 0.9 * ratio)),
        "peak_bytes": int(peak * 1e6 * (1 - 0.35 * ratio)), "machine": "AMD EPYC", "python": "3.11.7",
        "engine": engine, "threads": 2, "test": "data/test", "segments": 120, "chrf": chrf, "bleu": chrf / 3,
        "chrf_interval": [chrf - 1.4, chrf + 1.5], "chrf_signature": "nw:2", "bleu_signature": "tok:13a",
        "failures": {"empty": 0, "looping": int(ratio * 10)},
        "samples": [["Save <b>all</b>.", "Alles | sichern.", f"<script>alert({ratio})</script>"]],
        "prefill_tokens_per_second": 5178.0, "decode_tokens_per_second": 1500 - peak * 2 + ratio * 300,
        "memory_series": [[0.0, 9e6, 5e6], [0.4, peak * 7e5, 8e6], [2.5, peak * 9e5, peak * 1e5]],
        "speed": [
            {"threads": count, "prefill_tokens_per_second": 2600.0 * count, "decode_tokens_per_second": 900.0 + 500 * count}
            for count in (1, 2)
        ],
    } | more  # fmt: skip


def limited(whole: dict[str, Any], limit: int, verdict: str, share: float) -> dict[str, Any]:
    """What a run within a limit leaves: no scores, and of a killed one no engine and no speed either."""
    drop = ("chrf", "bleu", "samples", "failures", "chrf_interval", "test", "decode_tokens_per_second")
    kept = {key: value for key, value in whole.items() if key not in drop}
    kept |= {"memory_limit_bytes": limit, "verdict": verdict, "limit_method": "cgroup v1"}
    if verdict == "killed":
        return {key: value for key, value in kept.items() if key not in ("engine", "threads", "peak_bytes")}
    return kept | {
        "throughput_share": share,
        "decode_tokens_per_second": whole["decode_tokens_per_second"] * share,
    }


def sweep() -> list[dict[str, Any]]:
    """28 rows of four kinds at four ratios, with and without SFT, and 12 within memory limits."""
    rows = [row(kind, ratio, sft) for kind in KINDS for ratio in SCORES for sft in (False, True) if ratio or not sft]
    for kind in (KINDS[0], KINDS[2]):
        fates = [("fits", 1.0), ("thrashes", 0.04), ("killed", 0.0)], [("fits", 1.0), ("fits", 0.99), ("fits", 0.97)]
        for whole, told in zip((row(kind, 0.0), row(kind, 0.75, True)), fates):
            rows += [limited(whole, limit * MIB, *fate) for limit, fate in zip((128, 96, 64), told)]
    return rows


def write(folder: Path, rows: list[dict[str, Any]], name: str = "report.html") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_report(folder, folder / name, "slimmoe: a sweep")
    return (folder / name).read_text(encoding="utf-8")


class Parsed(HTMLParser):
    """Tags and their attributes, and that what is opened is closed."""

    VOID = ("meta", "link", "br", "img", "input", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, Any]]:
        return [attributes for name, attributes in self.tags if name == tag]


def content(link: str) -> str:
    return base64.b64decode(link.split("base64,")[1]).decode()


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("sweep"), sweep())


@pytest.fixture(scope="module")
def parsed(text: str) -> Parsed:
    return Parsed(text)


def test_the_page_needs_nothing_from_elsewhere(text: str, parsed: Parsed) -> None:
    assert not parsed.open
    for _, attributes in parsed.tags:
        for name in ("href", "xlink:href", "src", "srcset", "action", "data", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    without_data = re.sub(r'"data:[^"]*"', '""', text)
    assert "://" not in without_data and "@import" not in text and not re.search(r"url\((?!#)", without_data)


def test_ids_are_unique_and_every_reference_is_there(text: str, parsed: Parsed) -> None:
    ids = [attributes["id"] for _, attributes in parsed.tags if attributes.get("id")]
    assert ids and len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([\w-]+)', text)) == set(ids)


def test_every_figure_is_described_and_its_data_can_be_downloaded(parsed: Parsed) -> None:
    assert len(parsed.all("figure")) == len(parsed.all("figcaption")) == 6
    drawings = parsed.all("svg")
    assert len(drawings) == 12 and all(len(svg["aria-label"]) > 40 for svg in drawings)
    files = {link["download"]: content(link["href"]) for link in parsed.all("a")}
    counts = {name: len(list(csv.DictReader(io.StringIO(data)))) for name, data in files.items() if "csv" in name}
    # Of 28 scored rows four are unpruned and begin two lines each, the one as cut and the one after SFT.
    assert counts == {
        "quality-en-de.csv": 32, "speed-en-de.csv": 32, "pareto-en-de.csv": 28, "limits-en-de.csv": 12,
        "threads-en-de.csv": 2 * 28, "memory-en-de.csv": 3 * 28,
    }  # fmt: skip
    assert [json.loads(line) for line in files["bench.jsonl"].splitlines()] == sweep()


def test_a_dense_peer_is_called_by_its_name_and_is_no_baseline(tmp_path) -> None:
    peer = row(("CTranslate2 4.8.5", "int8", 20.0, 80, 300), 0.0, artefact="models/opus-en-de", dense=True)
    rows = [row(KINDS[0], 0.0), row(KINDS[0], 0.5), peer]
    page = write(tmp_path, rows)
    quality = next(content(a["href"]) for a in Parsed(page).all("a") if a["download"].startswith("quality"))
    assert "CTranslate2 int8,0.0,False,59.8,58.4,61.3,\n" in quality and "Q4_K_M,0.5,False,35.7,34.3" in quality
    assert ">opus-en-de</" in page and "| 89.7% | 50% cut, llama.cpp Q4_K_M |" in write(tmp_path, rows, "report.md")


def test_text_from_rows_stays_text(text: str, parsed: Parsed, tmp_path) -> None:
    assert len(parsed.all("script")) == 1 and "&lt;script&gt;alert(0.75)&lt;/script&gt;" in text
    strange = row(("<i>$x$", "</text><script>[/bold]\x1b[2J", 0.0, 1, 1), 0.0, pair='"><i onload=x>', model="<i>")
    strange["samples"] = [["[x](javascript:x)", "<i>", "*a*|b\nc"]]
    written = write(tmp_path, [strange, strange | {"pair": "' i ' x "}])
    page = Parsed(written)
    assert len(page.all("script")) == 1 and not page.all("i") and not any("onload" in tag for _, tag in page.tags)
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert ids and len(ids) == len(set(ids)) and all(re.fullmatch(r"[\w-]+", each) for each in ids)
    told = write(tmp_path, [strange], "report.md")
    assert "\x1b" not in written and "\x1b" not in told  # which a terminal would obey
    assert r"| \[x\](javascript:x) | \<i> | \*a\*\|b c |" in told and not re.search(r"(?<!\\)<(?!!--)", told)
    screen = io.StringIO()
    print_table(read_run(tmp_path), Console(file=screen, width=200))
    assert "[/bold]" in screen.getvalue() and "\x1b" not in screen.getvalue()


def test_killed_rows_are_in_the_table_and_in_the_data(text: str, parsed: Parsed, tmp_path) -> None:
    assert len(re.findall(r'<td class="number bad">killed</td>', text)) == 2
    assert "killed" in next(content(a["href"]) for a in parsed.all("a") if a["download"].startswith("limits"))
    markdown = write(tmp_path, sweep(), "report.md")
    assert "| unpruned | llama.cpp | Q4_K_M | 64 MiB | killed | - |" in markdown
    assert "| unpruned | ONNX RT | int4 | 64 MiB | killed | - |" in markdown


def test_the_verdict_says_who_is_best_what_a_cut_costs_and_what_fits() -> None:
    told = verdict(sweep())
    assert "Best quality without a memory limit: unpruned, llama.cpp Q8_0 (chrF++ 40.1" in told
    # 4.1 of 40.1 is the smallest loss in relation; after SFT 0.9.
    assert "Cutting 50% of the experts costs 4.1 chrF++ without recovery (90% kept by llama.cpp Q8_0)" in told
    assert "and 0.9 chrF++ after SFT (98% kept by llama.cpp Q8_0)" in told
    assert "Within 128 MiB unpruned, llama.cpp Q4_K_M translates best (chrF++ 39.8" in told
    assert "Within 96 MiB 75% cut + SFT, llama.cpp Q4_K_M translates best (chrF++ 33.6" in told
    assert "of its unlimited speed); the unpruned model thrashes." in told and "model is killed." in told


def test_the_claims_are_judged_by_their_bars(tmp_path) -> None:
    told = write(tmp_path, sweep(), "report.md")
    assert (
        "| 50% cut | negligible loss | 99% of unpruned chrF++, no SFT | missed | 89.8% | 50% cut, llama.cpp Q8_0 |"
        in told
    )
    assert "| 70% cut | minor loss | 97% of unpruned chrF++, no SFT | not measured | - | - |" in told
    better = row(KINDS[0], 0.5) | {"chrf": 39.7}
    assert "| met | 99.7% | 50% cut, llama.cpp Q4_K_M |" in write(tmp_path, [row(KINDS[0], 0.0), better], "report.md")


def test_the_front_holds_what_nothing_beats() -> None:
    points = [(10, 20.0), (11, 19.0), (12, 25.0), (12, 24.0), (15, 25.0), (20, 30.0)]
    rows = [{"peak_bytes": peak, "chrf": chrf} for peak, chrf in points]
    assert [(row["peak_bytes"], row["chrf"]) for row in front(rows)] == [(10, 20.0), (12, 25.0), (20, 30.0)]


def test_a_line_joins_rows_that_differ_in_the_ratio_alone() -> None:
    lines = series(
        [row(kind, ratio, sft) for kind in KINDS[:2] for ratio, sft in ((0.0, False), (0.5, False), (0.5, True))]
    )
    assert [line.name for line in lines] == [
        "llama.cpp Q4_K_M", "llama.cpp Q4_K_M + SFT", "llama.cpp Q8_0", "llama.cpp Q8_0 + SFT",
    ]  # fmt: skip
    assert all(len(line.rows) == 2 and not line.rows[0]["provenance"] for line in lines)
    assert [line.colour for line in lines] == [0, 0, 1, 1]


def test_what_was_not_measured_is_a_sentence_and_a_command(tmp_path) -> None:
    bare = {"artefact": "a.gguf", "pair": "en-de", "verdict": "killed", "memory_limit_bytes": 64 * MIB}
    assert Parsed(write(tmp_path, [bare])).all("figure") != []
    page = write(tmp_path, [{"artefact": "a.gguf", "pair": "en-de"}])
    assert page.index("<h2>Not measured") > page.index("<h2>All rows")
    assert not Parsed(page).all("figure") and page.count("<code>") == 6
    assert "slimmoe bench a.gguf --pair en-de --memory-limit 1GiB -o bench.jsonl" in page
    write(tmp_path, [bare], "report.md")


def test_each_pair_has_its_own_figures(tmp_path) -> None:
    rows = [row(KINDS[0], ratio) for ratio in (0.0, 0.5)]
    page = Parsed(write(tmp_path, rows + [one | {"pair": "de-en"} for one in rows]))
    names = [link["download"] for link in page.all("a") if link["download"].startswith("quality")]
    assert names == ["quality-en-de.csv", "quality-de-en.csv"]


def test_two_models_in_one_folder_are_two_parts(tmp_path) -> None:
    one = [row(KINDS[0], ratio, model="one") for ratio in (0.0, 0.5)]
    alone = row(KINDS[0], 0.0, model="two", artefact="x.gguf") | {"chrf": 90.0}
    page = Parsed(write(tmp_path, [*one, alone]))
    names = [link["download"] for link in page.all("a") if link["download"].startswith("quality")]
    assert names == ["quality-one-en-de.csv", "quality-two-en-de.csv"]
    assert "## two, en-de" in write(tmp_path, [*one, alone], "report.md")


def test_a_recovery_is_called_what_it_is_and_only_sft_counts_as_sft(tmp_path) -> None:
    def recovered(chrf: float, ratio: float = 0.75, **facts: Any) -> dict[str, Any]:
        made = {"criterion": "gate", "ratio": ratio} | facts
        return row(KINDS[0], 0.75, provenance=made, chrf=chrf)

    squares, sft, lora = ({"method": method, "steps": 5} for method in ("least-squares", "full", "lora"))
    rows = [row(KINDS[0], 0.0), recovered(39.0, recoveries=[squares]), recovered(20.0, recoveries=[squares, sft])]
    rows += [recovered(21.0, recoveries=[lora]), recovered(22.0, recovered=True), recovered(19.0)]
    rows += [recovered(38.0, 0.0, recovered=True, recovery=sft | {"after": squares})]
    chains = ["", " + least squares", " + least squares + SFT", " + LoRA", " + SFT", "", " + least squares + SFT"]
    assert [label(each) for each in rows] == [
        ("75% cut" if number % 6 else "unpruned") + chain for number, chain in enumerate(chains)
    ]
    told = write(tmp_path, rows, "report.md")
    assert "100% of unpruned chrF++, after SFT | missed | 55.3% | 75% cut + SFT, llama.cpp Q4_K_M |" in told
    assert sorted(line.name for line in series(rows)) == sorted(f"llama.cpp Q4_K_M{chain}" for chain in {*chains})
    assert "chrF++ after least squares (98% kept" in told and Parsed(write(tmp_path, rows)).all("figure")


def test_nothing_is_claimed_of_a_model_whose_outputs_fail(tmp_path) -> None:
    rows = [row(KINDS[0], ratio, segments=30, failed=30) for ratio in (0.0, 0.5)]
    told = write(tmp_path, rows, "report.md")
    assert "Most outputs of unpruned, llama.cpp Q4_K_M fail" in told and "Cutting" not in told and "claims" not in told


def test_a_scatter_beyond_the_value_itself_is_not_told_as_a_number(tmp_path) -> None:
    rows = [row(KINDS[0], 0.0, scatter={"first_token_seconds": 1325.362, "decode_tokens_per_second": 0.034})]
    told = write(tmp_path, rows, "report.md")
    assert "first token seconds more than 100%, decode tokens per second 3.4%" in told


def test_wrong_requests_are_a_sentence_with_the_next_command(tmp_path) -> None:
    write(tmp_path, [row(KINDS[0], 0.0)], "report.md")
    with pytest.raises(RequestError, match=r"report\.pdf ends in neither") as error:
        write_report(tmp_path, tmp_path / "report.pdf", "title")
    assert error.value.next_command and error.value.next_command.endswith("report.html")
    write(tmp_path, [row(KINDS[0], 0.0)], "report.html")  # and again in the place of a report
    for name in ("report.html", "report.md"):
        write(tmp_path, [row(KINDS[0], 0.0)], name)
        (tmp_path / name).write_text("my own words")
        with pytest.raises(RequestError, match="is not a report"):
            write_report(tmp_path, tmp_path / name, "title")
        (tmp_path / name).unlink()


def test_markdown_needs_no_matplotlib_and_a_page_says_how_to_get_it(tmp_path) -> None:
    write(tmp_path, sweep(), "report.md")
    code = "import sys; sys.modules['matplotlib'] = None; import slimmoe.cli; slimmoe.cli.main()"
    for name, status in (("again.md", 0), ("page.html", 1)):
        command = [sys.executable, "-c", code, "report", str(tmp_path), "-o", str(tmp_path / name)]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == status, result.stderr
        assert (tmp_path / name).exists() == (not status)
    assert "pip install 'slimmoe[plots]'" in result.stderr and "Traceback" not in result.stderr
