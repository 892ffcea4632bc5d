"""A dense translation model through CTranslate2, as a row beside ours: what a pruned mixture has to beat.

    pip install 'slimmoe[dense]'
    python -m benchmarks.dense MODEL --pair en-de --test TEST -o runs/default-en-de/gate-0.75/bench.jsonl

MODEL is a checkpoint on disk that CTranslate2 converts (Marian, NLLB, M2M100, MADLAD, ...), into --folder, where it stays and
is used again; or a folder that is converted already and has the tokenizer beside it. One sentence at a time, greedy, to the
lengths that our engines allow. A process of its own that holds CTranslate2 alone loads and translates, so its memory is that
of the runtime and the model. Sentences/s leave the tokenizer out, which those of ``slimmoe bench`` include (under 1 ms a
sentence). The row joins those in bench.jsonl.
"""

import argparse
import json
import platform
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import work_folder
from runtime.engines import Generation
from runtime.errors import RequestError, SlimmoeError, WorkError
from runtime.formats.files import new_folder
from runtime.machine import processor, usable_cores
from runtime.measure.bench import assess_quality, parse_child_output
from runtime.measure.compare import keep_hypotheses
from runtime.measure.memory_limit import run
from runtime.measure.rows import FORMAT, join_rows
from runtime.text.corpus import read_segments
from runtime.text.languages import FLORES
from runtime.text.pairs import Pair, parse_pair
from runtime.translate.segments import Translation, output_limit

QUANTISATIONS = ("int8", "float32", "float16", "bfloat16", "int16")


@dataclass(frozen=True)
class Marks:
    """How a model is told the pair: tokens before the source, and those that its output starts with."""

    source: tuple[str, ...] = ()
    target: tuple[str, ...] = ()


def _names(language: str) -> list[str]:
    """What NLLB, M2M100 and mBART call a language."""
    return [*FLORES.get(language, ()), f"__{language}__", f"{language}_{language.upper()}", f"{language}_XX"]


def marks_for(vocabulary: dict[str, int], pair: Pair) -> Marks:
    """By the tokens that a model has for languages; none where it has none, since it then knows one pair alone."""

    def known(names: list[str]) -> str | None:
        return next((name for name in names if name in vocabulary), None)

    source, target = known(_names(pair.source)), known(_names(pair.target))
    if source and target:
        return Marks((source,), (target,))
    three = [f">>{name[:3]}<<" for name in FLORES.get(pair.target, ())]
    into = known([f"<2{pair.target}>", f">>{pair.target}<<", *three])  # MADLAD; Marian of several languages
    return Marks((into,)) if into else Marks()


def convert(checkpoint: Path, output: Path, quantisation: str) -> Path:
    """The checkpoint in CTranslate2's format, unless it is there.

    Raises:
        RequestError: CTranslate2 knows no such model.
    """
    if (output / "model.bin").exists():
        return output
    from ctranslate2.converters import TransformersConverter

    with new_folder(output) as temporary:
        try:
            TransformersConverter(str(checkpoint)).convert(str(temporary), quantization=quantisation, force=True)
        except (ValueError, OSError, AttributeError) as error:
            raise RequestError(
                f"CTranslate2 cannot convert {checkpoint}: {' '.join(str(error).split())[:300]}"
            ) from None
    return output


def translate_here(folder: Path, job: Path, threads: int) -> dict[str, Any]:
    """Load and translate in this process; ``job`` has the tokens of each source and of all outputs' start, as JSON."""
    import ctranslate2

    started = time.perf_counter()
    try:
        translator = ctranslate2.Translator(str(folder), inter_threads=1, intra_threads=threads)
    except (RuntimeError, ValueError) as error:
        raise RequestError(f"CTranslate2 cannot translate with {folder}: {error}") from None
    loaded, asked, written = time.perf_counter(), json.loads(job.read_text(encoding="utf-8")), []
    prefix = [asked["target"]] if asked["target"] else None
    for tokens in asked["sources"]:
        began = time.perf_counter()
        result = translator.translate_batch(
            [tokens],
            target_prefix=prefix,
            beam_size=1,
            max_decoding_length=output_limit(len(tokens)),
            return_end_token=True,
        )
        written.append((result[0].hypotheses[0][len(asked["target"]) :], time.perf_counter() - began))
    seconds = sum(spent for _, spent in written)
    return {
        "engine": f"CTranslate2 {version('ctranslate2')}",
        "type": translator.compute_type,
        "threads": threads,
        "load_seconds": round(loaded - started, 3),
        "sentences_per_second": round(len(written) / seconds, 2),
        "written": written,
    }


def measure(
    checkpoint: Path, folder: Path, pair: Pair, test: Path, threads: int, segments: int | None = None
) -> dict[str, Any]:
    """One row of bench.jsonl.

    Args:
        checkpoint: has the tokenizer.
        folder: what CTranslate2 made of it.

    Raises:
        WorkError: translating failed; the last line of the child says why.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    except (ValueError, OSError) as error:
        raise RequestError(f"{checkpoint} has no tokenizer ({' '.join(str(error).split())[:200]}).") from None
    marks, end = marks_for(tokenizer.get_vocab(), pair), tokenizer.eos_token
    texts = [source.strip() for source, _ in read_segments(test, pair)[:segments]]
    asked = [[*marks.source, *tokenizer.tokenize(text), end] for text in texts if text]
    with work_folder(None) as work:
        job = work / "job.json"
        job.write_text(json.dumps({"sources": asked, "target": marks.target}), encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.dense", str(folder), "--job", str(job), "--threads", str(threads)]
        outcome = run(command)
    told = parse_child_output(outcome, folder)
    answers = iter(zip(asked, told.pop("written")))
    translations = []
    for text in texts:
        generation = None
        if text:
            prompt, (tokens, seconds) = next(answers)
            ids = tokenizer.convert_tokens_to_ids([token for token in tokens if token != end])
            written = tokenizer.decode(ids, skip_special_tokens=True).strip()
            generation = Generation(tuple(ids), written, tokens[-1:] == [end], len(prompt), 0.0, seconds)
        translations.append(asdict(Translation(text, generation.text if generation else "", generation)))
    quality = assess_quality(translations, pair, test)
    for name in ("prefill_tokens", "prefill_seconds"):  # one call encodes and decodes
        del quality[name]
    return {
        "format": FORMAT,
        "artefact": str(checkpoint),
        "provenance": {},
        "dense": True,
        "pair": str(pair),
        "size_bytes": sum(path.stat().st_size for path in folder.iterdir()),
        **outcome.memory.row(),
        "machine": processor(),
        "python": platform.python_version(),
        **told,
        **quality,
    }


def join(row: dict[str, Any], output: Path) -> None:
    """Put the row into a bench.jsonl, in the place of one of the same model and type."""
    join_rows(output, [keep_hypotheses(row, output.parent)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--pair", type=parse_pair, default="en-de")
    parser.add_argument("--test", type=Path, default=Path("data/test"))
    parser.add_argument("--quantisation", choices=QUANTISATIONS, default="int8")
    parser.add_argument("--folder", type=Path, help="of what is converted; default: runs/dense/MODEL-QUANTISATION")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/dense/bench.jsonl"))
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.job:
        print(json.dumps(translate_here(chosen.model, chosen.job, chosen.threads)))
        return
    if not (chosen.model / "config.json").exists():
        raise RequestError(f"There is no checkpoint in {chosen.model}: config.json is missing.")
    try:
        version("ctranslate2")
    except ImportError:
        raise WorkError("CTranslate2 is missing.", next_command="pip install 'slimmoe[dense]'") from None
    folder = chosen.model
    if not (folder / "model.bin").exists():
        folder = chosen.folder or Path("runs/dense") / f"{chosen.model.resolve().name}-{chosen.quantisation}"
        convert(chosen.model, folder, chosen.quantisation)
    row = measure(chosen.model, folder, chosen.pair, chosen.test, chosen.threads)
    join(row, chosen.output)
    print(
        f"chrF++ {row['chrf']}, {row['sentences_per_second']} sentences/s, {row['peak_bytes'] / 1e6:.0f} MB: {chosen.output}"
    )


if __name__ == "__main__":
    try:
        main()
    except SlimmoeError as failure:
        sys.exit(f"{failure}")
