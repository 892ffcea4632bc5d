"""Build the default model's corpus: ``python -m models.recipe.corpus WORK`` (about 40 minutes of a core, 1.9 GB).

Writes ``WORK/corpus/en-XX.{train,dev,test,unseen}.tsv`` with the columns English, other side, source, document.
The first two columns are what every reader of the project expects of a TSV corpus. ``WORK/corpus/code.*.jsonl`` are
source code and structured text.
"""

import collections
import json
import sys
from pathlib import Path

from models.recipe.code import build_code
from models.recipe.download import download
from models.recipe.extract import extract
from models.recipe.split import split


def build(work: Path) -> dict[str, dict[str, int]]:
    """Download, extract and split; returns the row counts by language and split."""
    download(work)
    parts = split(extract(work))
    folder = work / "corpus"
    folder.mkdir(parents=True, exist_ok=True)
    counts: dict[str, dict[str, int]] = collections.defaultdict(dict)
    sources: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for name, rows in parts.items():
        files: dict[str, list[str]] = collections.defaultdict(list)
        for row in rows:
            files[row.language].append("\t".join((row.english, row.other, row.source, row.document)))
            sources[row.language][row.source] += name == "train"
        for language, lines in files.items():
            (folder / f"en-{language}.{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
            counts[language][name] = len(lines)
    report = {"counts": counts, "train_by_source": sources, "code_characters": build_code(work)}
    (folder / "counts.json").write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
    return dict(counts)


if __name__ == "__main__":
    print(json.dumps(build(Path(sys.argv[1])), indent=1))
