"""Train on a machine that is lent for minutes: pack the text here, train there by the clock, bring the model back.

    python -m models.recipe.device pack WORK text.tar.xz --mib 40     # here: as much text as may travel
    python -m models.recipe.device train text.tar.xz --minutes 8 --of 13 --out OUT    # there; then --minutes 5
    python -m models.recipe.device join FINAL OUT/model.tar.*         # here: the pieces as a checkpoint

``train`` unpacks into a folder beside the package, tokenises on every core, and trains from scratch until ``--minutes`` have
gone; the learning rate is planned for the ``--of`` minutes of all calls. The checkpoint stays there for the next call. What
comes back are pieces of at most 15 MiB, ``--pieces`` of them from ``--first`` on, for as many as may travel at a time.
"""

import argparse
import io
import os
import random
import shutil
import signal
import tarfile
import threading
import time
from pathlib import Path

from models.recipe.clean import LANGUAGES
from models.recipe.overlap import TestText, test_text
from models.recipe.parts import read_rows
from models.recipe.prepare import prepare
from models.recipe.train import train
from runtime.formats.files import new_file, new_folder

PIECE = 15 << 20
KINDS = ("everyday", "taught", "train")  # the most wanted first
RATIO = 3.4  # bytes of text to one that is packed


def pack(work: Path, package: Path, mib: float, held_out: TestText) -> dict[str, int]:
    """Write a tar.xz of tokenizer and text that fits into ``mib``; returns characters by file.

    Everyday and taught text goes in whole, and of each language's software text an equal share of what room is left.
    """
    room = mib * (1 << 20) * RATIO
    files: dict[str, str] = {}
    for kind in KINDS:
        share = room / len(LANGUAGES)
        for language in LANGUAGES:
            rows = read_rows(work / "corpus" / f"en-{language}.{kind}.tsv")
            clear = [r for r in rows if not (held_out.overlaps("en", r[0]) or held_out.overlaps(language, r[1]))]
            lines = ["\t".join(row) + "\n" for row in clear]
            if kind == "train":  # runs of neighbours, for the long rows
                runs = ["".join(lines[i : i + 20]) for i in range(0, len(lines), 20)]
                random.Random(7).shuffle(runs)
                lines = runs
            text, size = [], 0
            for line in lines:
                size += len(line.encode())
                if kind == "train" and size > share:
                    break
                text.append(line)
            if text:
                files[f"corpus/en-{language}.{kind}.tsv"] = "".join(text)
        room -= sum(len(text.encode()) for name, text in files.items() if f".{kind}." in name)
    code = (work / "corpus" / "code.train.jsonl").read_text(encoding="utf-8").splitlines()
    files["corpus/code.train.jsonl"] = "\n".join(random.Random(7).sample(code, min(len(code), 3000))) + "\n"
    for path in sorted((work / "model").iterdir()):
        files[f"model/{path.name}"] = path.read_text(encoding="utf-8")
    with new_file(package) as temporary, tarfile.open(temporary, "w:xz") as archive:
        for name, text in files.items():
            data = text.encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return {name: len(text) for name, text in files.items()}


def train_there(package: Path, minutes: float, of: float, out: Path, first: int, pieces: int) -> None:
    """Unpack and tokenise once, train for ``minutes`` of the ``of`` that are planned, write pieces of the model."""
    begun, work = time.time(), package.parent / f"{package.name.split('.')[0]}-work"
    out.mkdir(parents=True, exist_ok=True)
    if not (work / "tokens" / "counts.json").exists():
        with tarfile.open(package) as archive:
            archive.extractall(work, filter="data")
        # what was packed was checked against the test sets
        prepare(work / "corpus", work / "model", work / "tokens", TestText(), workers=os.cpu_count() or 1)
    spent = (time.time() - begun) / 60
    print(f"text ready after {spent:.1f} min", flush=True)
    if minutes < of:  # stop as with Ctrl-C; the checkpoint waits for the next call
        threading.Timer(60 * max(0.0, minutes - spent), os.kill, (os.getpid(), signal.SIGINT)).start()
    train(work, minutes=of - spent)
    shutil.copy(work / "run" / "loss.csv", out)
    if (work / "run" / "final").exists():
        cut(work / "run" / "final", out, first, pieces)


def cut(model: Path, out: Path, first: int, pieces: int) -> int:
    """Write a checkpoint's archive as ``model.tar.00`` and so on, those from ``first`` on; returns how many there are."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        archive.add(model, "model")
    data = whole.getvalue()
    count = -(-len(data) // PIECE)
    for i in range(first, min(first + pieces, count)):
        (out / f"model.tar.{i:02d}").write_bytes(data[i * PIECE : (i + 1) * PIECE])
    print(f"{count} pieces", flush=True)
    return count


def join(pieces: list[Path], folder: Path) -> None:
    """Put all pieces of a checkpoint together again.

    Raises:
        SystemExit: one is missing.
    """
    by_number = {int(path.suffix[1:]): path for path in pieces}
    whole = b"".join(by_number[i].read_bytes() for i in sorted(by_number))
    try:
        if sorted(by_number) != list(range(len(by_number))):
            raise tarfile.ReadError
        with new_folder(folder) as temporary, tarfile.open(fileobj=io.BytesIO(whole)) as archive:
            for member in archive.getmembers():
                if member.isfile():
                    stream = archive.extractfile(member)
                    assert stream is not None
                    (temporary / Path(member.name).name).write_bytes(stream.read())
    except tarfile.ReadError:
        raise SystemExit("A piece is missing. Next: the train command with another --first.") from None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("work", type=Path)
    packing.add_argument("package", type=Path)
    packing.add_argument("--mib", type=float, default=40)
    packing.add_argument("--held-out", type=Path, metavar="FOLDER")
    training = commands.add_parser("train")
    training.add_argument("package", type=Path)
    training.add_argument("--minutes", type=float, required=True)
    training.add_argument("--of", type=float, help="of all calls [--minutes]")
    training.add_argument("--out", type=Path, required=True)
    training.add_argument("--first", type=int, default=0)
    training.add_argument("--pieces", type=int, default=4)
    joining = commands.add_parser("join")
    joining.add_argument("folder", type=Path)
    joining.add_argument("pieces", type=Path, nargs="+")
    chosen = parser.parse_args()
    if chosen.command == "pack":
        print(pack(chosen.work, chosen.package, chosen.mib, test_text(chosen.held_out)))
    elif chosen.command == "train":
        of = chosen.of or chosen.minutes
        train_there(chosen.package, chosen.minutes, of, chosen.out, chosen.first, chosen.pieces)
    else:
        join(chosen.pieces, chosen.folder)
