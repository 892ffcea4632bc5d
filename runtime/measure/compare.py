"""Is a pruned model's lower score a loss, or chance? Paired bootstrap against the unpruned model (Koehn 2004).

sacreBLEU draws the resamples and scores them from segment statistics, so 1000 resamples take a fraction of a second. It
draws the same segments for every row of one length (its seed is fixed), which is what makes the resamples paired.
"""

import hashlib
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import _bootstrap_resample, _compute_p_value

from runtime.errors import RequestError
from runtime.formats.files import new_file
from runtime.measure.labels import is_baseline, only_model
from runtime.measure.rows import AgainstUnpruned, Row, artefact_path, engine
from runtime.measure.scores import tokeniser

RESAMPLES = 1000


@dataclass(frozen=True)
class _Resampled:
    """A metric's score of all segments and of each resample [RESAMPLES], and the signature they hold for."""

    score: float
    scores: np.ndarray
    signature: str


def keep_hypotheses(row: Row, folder: Path) -> Row:
    """The row with ``hypotheses`` and ``references`` (lists, as ``bench`` returns them) moved into text files.

    They go to ``folder``/hypotheses, one segment a line: rows stay readable, two runs can be compared with diff, and
    the sacrebleu command scores the files as they are. A file's name ends in a hash of its text. So nothing is written
    over, a repeated run adds no file, and rows of one test set share the file of references.
    """
    if "hypotheses" not in row:  # speed alone was measured
        return row
    kept = row.copy()
    kept["hypotheses"] = _store(row["hypotheses"], f"{Path(row['artefact']).name}.{engine(row)}", folder)
    kept["references"] = _store(row["references"], f"reference.{row['pair']}", folder)
    return kept


def _store(lines: Iterable[str], name: str, folder: Path) -> str:
    """The new file's name, relative to the folder."""
    text = "".join(f"{line}\n" for line in lines)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    path = "hypotheses/" + re.sub(r"[^\w.+-]+", "-", name) + f".{digest}.txt"
    with new_file(folder / path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _lines(row: Row, key: Literal["hypotheses", "references"], folder: Path) -> list[str]:
    path = folder / str(row.get(key))
    words = [
        "slimmoe",
        "bench",
        str(artefact_path(row, folder)),
        "--pair",
        str(row.get("pair")),
        "--test",
        str(row.get("test")),
    ]
    again = shlex.join([*words, "-o", str(folder / "bench.jsonl")])
    try:
        return path.read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or no name of a file
        why = "is not there" if isinstance(error, FileNotFoundError) else "cannot be read as UTF-8 text"
        raise RequestError(f"{path} {why}, and a row of bench.jsonl names it.", next_command=again) from None


def _resample(metric: CHRF | BLEU, hypotheses: list[str], references: list[str]) -> _Resampled:
    statistics = metric._extract_corpus_statistics(hypotheses, [references])
    seed, resamples = _bootstrap_resample(statistics, metric, RESAMPLES)
    signature = metric.get_signature()
    signature.update("seed", seed)
    signature.update("bs", RESAMPLES)
    scores = np.array([resample.score for resample in resamples])
    return _Resampled(metric._aggregate_and_compute(statistics).score, scores, str(signature))


def _tokeniser(row: Row) -> str:
    """BLEU's, as the row's own score was taken."""
    languages = [part for part in (row.get("pair") or "").split("-") if part.islower()]  # scripts and regions are not
    return tokeniser(languages[-1] if languages else "", row.get("bleu_signature") or "")


def _interval(scores: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of resampled values; sacreBLEU's confidence interval has the same two ends."""
    values, cut = np.sort(scores), len(scores) // 40
    return round(float(values[cut]), 2), round(float(values[-cut - 1]), 2)


def _p_value(row: _Resampled, base: _Resampled) -> float:
    """Two-sided, as sacreBLEU's paired bootstrap has it; but 1 where no resample tells the two apart."""
    differences = np.abs(row.scores - base.scores)
    if not differences.any():
        return 1.0
    return round(_compute_p_value(differences - differences.mean(), abs(row.score - base.score)), 4)


def _against(row: tuple[_Resampled, _Resampled], base: tuple[_Resampled, _Resampled], name: str) -> AgainstUnpruned:
    (chrf, bleu), (base_chrf, base_bleu) = row, base
    low, high = _interval(chrf.scores - base_chrf.scores)
    return {
        "chrf_delta": round(chrf.score - base_chrf.score, 2),
        "chrf_low": low,
        "chrf_high": high,
        "chrf_p": _p_value(chrf, base_chrf),
        "bleu_delta": round(bleu.score - base_bleu.score, 2),
        "bleu_p": _p_value(bleu, base_bleu),
        "share": round(chrf.score / max(base_chrf.score, 1e-9), 4),
        "base": name,
    }


def compare(rows: list[Row], folder: Path) -> list[Row]:
    """Rows of bench.jsonl with ``chrf_interval`` and, where there is an unpruned row to compare with, ``against_unpruned``.

    The unpruned row is one of the same model (where rows of several are told apart), pair, references, engine and type,
    with nothing cut and nothing recovered. Rows without stored hypotheses are returned as they are. Calling it again
    changes nothing.

    Args:
        folder: where bench.jsonl and its ``hypotheses`` are.

    Raises:
        RequestError: a file of hypotheses is missing, or has not one line for each reference.
    """
    resampled: dict[int, tuple[_Resampled, _Resampled]] = {}
    known: dict[tuple[str, str, str], tuple[_Resampled, _Resampled]] = {}  # rows that wrote the same share a file
    bases: dict[tuple, int] = {}

    only = only_model(rows)  # rows of a single bench do not name theirs

    def kind(row: Row) -> tuple:
        told = row.get("model") or only, row.get("pair"), row.get("references"), engine(row), row.get("type")
        return *told, _tokeniser(row)

    for number, row in enumerate(rows):
        if "hypotheses" not in row or "references" not in row:
            continue
        files = str(row["hypotheses"]), str(row["references"]), _tokeniser(row)
        if files not in known:
            hypotheses, references = _lines(row, "hypotheses", folder), _lines(row, "references", folder)
            if len(hypotheses) != len(references):
                raise RequestError(f"{folder / files[0]} has not one line for each line of {files[1]}.")
            chrf, bleu = CHRF(word_order=2), BLEU(tokenize=files[2])
            known[files] = _resample(chrf, hypotheses, references), _resample(bleu, hypotheses, references)
        resampled[number] = known[files]
        if is_baseline(row):
            bases.setdefault(kind(row), number)

    compared = list(rows)
    for number, (chrf, bleu) in resampled.items():
        row = rows[number]
        added = row.copy()
        added["chrf_interval"] = _interval(chrf.scores)
        added["chrf_signature"], added["bleu_signature"] = chrf.signature, bleu.signature
        base = bases.get(kind(row))
        if base is not None and not is_baseline(row):
            added["against_unpruned"] = _against((chrf, bleu), resampled[base], rows[base]["artefact"])
        compared[number] = added
    return compared
