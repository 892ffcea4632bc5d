"""Corpora, texts and prompts that are damaged, in other encodings, or not what they are taken for."""

import bz2
import gzip
import lzma
import random
import zlib
from pathlib import Path

from tests.bad_inputs import NO_FILE, Damage, Table, cut, within, write

WORDS = "the file could not be opened save print page window close new folder name size".split()  # noqa: SIM905


def lines(count: int, target: str = "Die Datei {} ist hier.") -> bytes:
    chance = random.Random(0)
    sentences = (" ".join(chance.choices(WORDS, k=8)) for _ in range(count))
    return "".join(f"{sentence}.\t{target.format(i)}\n" for i, sentence in enumerate(sentences)).encode()


def bomb(path: Path) -> None:
    """Most of a gigabyte of text in two megabytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = packer.compress(b"Save.\tSichern.\n" * 60_000) + packer.flush(zlib.Z_FULL_FLUSH)
    again = zlib.compressobj(9, zlib.DEFLATED, 31)
    more = again.compress(b"Save.\tSichern.\n" * 60_000) + again.flush(zlib.Z_FULL_FLUSH)
    with path.open("wb") as file:
        file.write(block)
        for _ in range(800):
            file.write(more[10:])


# In whatever a text is read from, these are none.
NO_TEXT: dict[str, Damage | tuple[Damage, str]] = {
    "Latin-1": (write("Größe\tGröße\n".encode("latin1")), "not UTF-8 text"),
    "broken UTF-8": (write(b"one\ttwo\n\xff\xfe\xfd\x81\tx"), "not UTF-8 text .line 2"),
    "UTF-16 without its mark": (write("Save.\tSichern.\n".encode("utf-16-le")), "UTF-16LE without"),
    "UTF-16BE without its mark": (write("Save.\tSichern.\n".encode("utf-16-be")), "UTF-16BE without"),
    "half of UTF-16": (write(b"\xff\xfeS"), "utf-16, and is"),
    "half of UTF-32": write(b"\xff\xfe\x00\x00S\x00"),
    "a zero byte": (write(b"a\tb\nc\0\td\n"), "zero byte"),
    "zeros": write(bytes(4096)),
    "bzip2": (write(bz2.compress(b"a\tb\n" * 100)), "is packed"),
    "xz": (write(lzma.compress(b"a\tb\n" * 100)), "is packed"),
    "zip": (write(b"PK\x03\x04" + bytes(range(256))), "is packed"),
    "half of gzip": (write(gzip.compress(random.Random(0).randbytes(1000))[:-9]), "damaged gzip"),
    "no gzip after its mark": (write(b"\x1f\x8b\x08\xff\xff\xff"), "damaged gzip"),
    "gzip of no text": (write(gzip.compress(bytes(range(128, 256)))), "not UTF-8"),
    "a model": write(b"GGUF\x03\x00\x00\x00" + bytes(range(256))),
}
TSV = Table(
    "t.tsv",
    {
        "calibrate": "calibrate model --pair en-de --corpus t.tsv -o out/stats",
        "evaluate": "evaluate onnx --pair en-de --test t.tsv --threads 1",
        "recover": "recover model --pair en-de --corpus t.tsv -o out/recovered",
        "gguf": "gguf model --pair en-de --corpus t.tsv -o out/x.gguf",
        "verify": "verify onnx --against model --pair en-de --corpus t.tsv",
        "bench": "bench onnx --pair en-de --test t.tsv -o out/bench.jsonl",
        "export": "export model --pair en-de --corpus t.tsv -o out/run",
    },
    NO_FILE
    | NO_TEXT
    | {
        "empty": (write(b""), "holds no en-de segments"),
        "empty lines": (write(b"\n\r\n \n"), "holds no en-de segments"),
        "an empty one in gzip": write(gzip.compress(b"")),
        "no TAB": (write(b"Save.\tSichern.\nOpen.\n"), "line 2 has no TAB"),
        "commas": write(b'"Save.","Sichern."\n'),
        "sources alone": write(b"Save.\t\nOpen.\t\n"),
        "targets alone": write(b"\tSichern.\n\t\xc3\x96ffnen.\n"),
        "numbers before the text": write(
            b"".join(b"%d\t%s" % (i, line) for i, line in enumerate(lines(60).splitlines(True)))
        ),
        "another language": write(lines(60, "Le fichier {} est ici, dans le dossier que vous avez choisi.")),
        "a gzip bomb": (bomb, "unpacks to"),
    },
    by_all=("missing", "Latin-1", "no TAB", "a pipe"),
)
MOSES = Table(
    ".",
    {"calibrate": "calibrate model --pair en-de --corpus m -o out/stats"},
    {
        "no target": within("m.de", Path.unlink),
        "no source": within("m.en", Path.unlink),
        "one line less": (within("m.de", cut(0.9)), "not parallel"),
        "an empty side": within("m.de", write(b"")),
        "two empty sides": lambda folder: [write(b"")(folder / f"m.{code}") for code in ("en", "de")],
        "a folder": within("m.de", NO_FILE["a folder"]),
        "a pipe": within("m.en", NO_FILE["a pipe"]),
        "endless": within("m.en", NO_FILE["endless"]),
        "the wrong way round": lambda folder: [
            (folder / "m.de").rename(folder / "m.x"), (folder / "m.en").rename(folder / "m.de"),
            (folder / "m.x").rename(folder / "m.en"),
        ],
    }
    | {
        f"a side in {kind}": within("m.de", damage[0] if isinstance(damage, tuple) else damage)
        for kind, damage in [*NO_TEXT.items()][::4]
    },
)  # fmt: skip

HEADER = 'msgid ""\nmsgstr "Content-Type: text/plain; charset={}\\n"\n\n'
ENTRY = 'msgid "Size"\nmsgstr "{}"\n'


def po(text: str, charset: str = "UTF-8", encoding: str = "utf-8") -> Damage:
    return write((HEADER.format(charset) + text).encode(encoding))


PO = Table(
    "t.po",
    {"calibrate": "calibrate model --pair en-de --corpus t.po -o out/stats"},
    {kind: NO_FILE[kind] for kind in ("a pipe", "a folder", "endless")}
    | {
        kind: NO_TEXT[kind]
        for kind in (
            "UTF-16 without its mark",
            "half of UTF-16",
            "zeros",
            "bzip2",
            "half of gzip",
            "gzip of no text",
            "a model",
        )
    }
    | {
        "empty": write(b""),
        "a header alone": po(""),
        "in another charset": (po(ENTRY.format("Größe"), "EUC-JP", "latin1"), "says that it is euc-jp"),
        "in Latin-1 without saying so": po(ENTRY.format("Größe"), "UTF-8", "latin1"),
        "nothing translated": po(ENTRY.format("")),
        "fuzzy alone": po("#, fuzzy\n" + ENTRY.format("x")),
        "obsolete alone": po('#~ msgid "Size"\n#~ msgstr "x"\n'),
        "a text without its end": (write(b'msgid "Open\nmsgstr "x"\n'), "line 1 has no closing quote"),
        "a quote that is escaped": (write(b'msgid "Open\\"\nmsgstr "x"\n'), "line 1 has no closing quote"),
        "no PO file": (write(b"this is no po file\n"), "not a PO file"),
        "half an entry": po('msgid "Size"\n'),
        "a plural of nothing": po('msgid "a"\nmsgid_plural "b"\n'),
        "an unknown keyword": po('msgid "Size"\nmsgtext "x"\n'),
    },
)


def public(name: str, line: bytes) -> Damage:
    """A folder of a public set, with this line on both sides."""

    def damage(folder: Path) -> None:
        (folder / "devtest").mkdir()
        for each in (name, name.replace("eng_Latn", "deu_Latn")):
            write(line)(folder / (f"devtest/{each}" if "eng" in name else each))

    return damage


SETS = Table(
    "set",
    {"calibrate": "calibrate model --pair en-de --corpus set -o out/stats"},
    {
        "of nothing": lambda folder: None,
        "without a target": (public("en-de_DE.jsonl", b'{"source": "a"}'), "has no target"),
        "a target by number": (public("en-de_DE.jsonl", b'{"source": "a", "target": 3}'), "target is not text"),
        "a list": (public("en-de_DE.jsonl", b"[1]"), "not an object"),
        "nested": (public("en-de_DE.jsonl", b"[" * 100_000), "nested too deeply"),
        "no JSON": public("en-de_DE.jsonl", b"{"),
        "not UTF-8": public("en-de_DE.jsonl", b'{"source": "\xff"}'),
        "of another pair": public("en-fr_FR.jsonl", b'{"source": "a", "target": "b"}'),
        "empty": public("en-de_DE.jsonl", b""),
        "a pipe": lambda folder: NO_FILE["a pipe"](folder / "en-de_DE.jsonl"),
        "numbers by text": (public("eng_Latn.jsonl", b'{"id": "x", "text": "a"}'), "id is no number"),
        "an empty FLORES": public("eng_Latn.jsonl", b""),
        "a FLORES not in UTF-8": public("eng_Latn.devtest", b"\xff\n"),
        "a FLORES of zeros": public("eng_Latn.devtest", bytes(100)),
    },
)
TEXTS = Table(
    "t.txt",
    {"translate": "translate onnx t.txt --pair en-de --threads 1 -o out/t.txt"},
    {kind: damage for kind, damage in NO_FILE.items() if kind != "a pipe"} | NO_TEXT,
)
LINES = Table(
    "t.tsv",
    {"translate": "translate onnx t.tsv --pair en-de --threads 1 -o out/t.tsv"},
    {
        "a line without an end": (
            lambda path: path.write_bytes(b"Save " * (4 << 20)),
            "no text: line 1 has more than 16 MiB",
        )
    },
)
SOURCES = Table(
    "t.txt",
    {"calibrate": "calibrate model --pair en-de --source t.txt -o out/stats"},
    {
        "missing": NO_FILE["missing"],
        "a pipe": NO_FILE["a pipe"],
        "Latin-1": NO_TEXT["Latin-1"],
        "zeros": NO_TEXT["zeros"],
    }
    | {"empty": write(b""), "empty lines": write(b"\n \n")},
)
PROMPTS = Table(
    "p.toml",
    {"prompt": "prompt model Save. --prompt p.toml", "calibrate": "calibrate model --pair en-de --prompt p.toml -o out/stats"},
    NO_FILE
    | {
        "empty": (write(b""), r"user has no \{text\}"),
        "no TOML": write(b"user ="),
        "no text": (write(b'user = "Translate."'), r"user has no \{text\}"),
        "an unknown field": (write(b'user = "{text} {target}"'), "is none of"),
        "a number for a text": (write(b"user = 5"), "user is not str"),
        "a text for a number": (write(b'user = "{text}"\nrepetition_penalty = "x"'), "repetition_penalty is not"),
        "a penalty of 0": (write(b'user = "{text}"\nrepetition_penalty = 0.0'), "not above 0"),
        "a text for a truth": write(b'user = "{text}"\nraw = "yes"'),
        "not UTF-8": write(b'user = "{text} \xff"'),
        "in UTF-16": write('user = "{text}"'.encode("utf-16")),
        "a key twice": write(b'user = "{text}"\nuser = "{text}"'),
        "binary": write(bytes(range(256))),
    },
    by_all=("missing", "a pipe"),
)  # fmt: skip
TABLES = {
    "tsv": TSV, "moses": MOSES, "po": PO, "public sets": SETS, "texts": TEXTS, "lines": LINES, "sources": SOURCES,
    "prompts": PROMPTS,
}  # fmt: skip
