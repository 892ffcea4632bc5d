"""What second tries are worth: values that come through, and segments that end looping, empty or unfinished.

    python -m benchmarks.checked FILE.gguf DIR --pair en-de      prints Markdown tables

Two sets of English segments, made by a seed from sentences of our own:

- ``values``: 500 sentences with one to four numbers, dates, amounts, times, URLs, e-mail addresses and codes. A value is kept
  where the translation has it unchanged or as the target's language writes it (runtime/text/values.py).
- ``hard``: 1,000 segments, a quarter each: a word, phrase or item that comes 3 to 40 times; 3 to 12 sentences as one; noise
  (letters swapped, doubled and lost, capitals, no spaces, marks); tables, lists, code, and sentences in other languages.

"Before" is the first try alone, without a guard against loops; "after" is what ``slimmoe translate`` writes. Both are
exact, one segment at a time.
"""

import argparse
import contextlib
import platform
import random
import string
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.threads import DATA
from runtime.engines import open_engine
from runtime.machine import OtherLoad, processor, usable_cores
from runtime.text.pairs import Pair, parse_pair
from runtime.text.repetition import is_looping
from runtime.text.values import lost_values, values
from runtime.translate.checked import CheckedTranslation, translate_checked
from runtime.translate.segments import Translation, translate

SEED = 20261202
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip
PATTERNS = """
Your order no. {code} will be sent on {date}.
The invoice {code} of {date} amounts to {amount}.
Please send the form to {mail} before {time}.
You can download version {version} from {url}.
The file has {number} lines and {number} errors.
We met at {time} on {date}.
Write to {mail} or call extension {small}.
The train leaves at {time} and arrives at {time}.
Part {code} costs {amount}, part {code} costs {amount}.
See {url} for the {small} steps of the installation.
The population grew from {number} to {number}.
The meeting on {date} begins at {time} in room {small}.
Your password for {url} expires on {date}.
The package weighs {decimal} kg and is {decimal} m long.
Error {code}: the disk has only {decimal} GB left.
Update to version {version} before {date}.
Pay {amount} within {small} days and send the receipt to {mail}.
The flight {code} departs at {time} from gate {small}.
In {year}, the company had {number} employees.
Between {year} and {year}, prices rose by {decimal} %.
If {url} does not open, write to {mail} and quote {code}.
The address of the server is {ip}, the port is {number}.
He ran {decimal} km in {small} minutes on {date}.
Add {small} eggs, {small} apples and {number} grams of flour.
Set the value to {decimal} or {number} and save the file as {code}.
Ticket {code} was opened on {date} at {time} by {mail}.
The library opens at {time} and closes at {time}, except on {date}.
The bill for {amount} is due on {date}.
About {number} people visited {url} in {year}.
Choose between {small} and {small} copies, then press OK.
""".strip().splitlines()


def filled(kind: str, rng: random.Random) -> str:
    """A value of one kind, as English writes it."""
    letters = "".join(rng.choices(string.ascii_uppercase, k=rng.randint(2, 4)))
    digits = rng.randint(10, 99999)
    day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1990, 2035)
    name = rng.choice(("support", "anna.berg", "office", "info", "j_kim", "orders+eu"))
    host = rng.choice(("example.org", "shop.example.com", "mail.example.net", "docs.example.org"))
    paths = ("returns", "help/faq.html", f"a?id={digits}", f"v2/{letters.lower()}/{digits}", "")
    made: dict[str, Callable[[], str]] = {
        "code": lambda: rng.choice((f"{letters}-{digits}", f"{letters}{digits}", f"{digits:06d}", f"A{digits}-{letters}")),
        "date": lambda: rng.choice(
            (f"{MONTHS[month - 1]} {day}, {year}", f"{year}-{month:02d}-{day:02d}", f"{month}/{day}/{year}")
        ),
        "amount": lambda: rng.choice((f"${digits:,}", f"{digits / 100:,.2f} euros", f"€{digits / 100:.2f}")),
        "time": lambda: rng.choice((f"{rng.randint(1, 12)}:{rng.randint(0, 59):02d} pm", f"{rng.randint(13, 23)}:15", "9 am")),
        "url": lambda: f"{rng.choice(('https://', 'http://', 'www.' if host.startswith('example') else 'https://'))}{host}"
        f"/{rng.choice(paths)}".rstrip("/"),
        "mail": lambda: f"{name}@{host}",
        "version": lambda: ".".join(str(rng.randint(0, 20)) for _ in range(3)),
        "number": lambda: rng.choice((str(digits), f"{digits:,}")),
        "small": lambda: str(rng.randint(2, 60)),
        "decimal": lambda: f"{rng.randint(1, 99)}.{rng.randint(1, 99)}",
        "year": lambda: str(year),
        "ip": lambda: ".".join(str(rng.randint(1, 254)) for _ in range(4)),
    }  # fmt: skip
    return made[kind]()


def with_values(count: int) -> list[str]:
    """Sentences with one to four values."""
    rng = random.Random(SEED)
    found = []
    for number in range(count):
        pieces = string.Formatter().parse(PATTERNS[number % len(PATTERNS)])
        found.append("".join(text + (filled(kind, rng) if kind else "") for text, kind, _, _ in pieces))
    return found


def _noise(text: str, rng: random.Random) -> str:
    """A sentence as somebody may have typed it in a hurry."""
    letters = list(text)
    for _ in range(rng.randint(2, 12)):
        at = rng.randrange(len(letters) - 1)
        change = rng.randrange(5)
        if change == 0:
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
        elif change == 1:
            letters[at] *= rng.randint(2, 6)
        elif change == 2:
            letters[at] = ""
        elif change == 3:
            letters[at] = letters[at].swapcase()
        else:
            letters[at] += rng.choice("!?#*~^|😀… ")
    joined = "".join(letters)
    return rng.choice((joined, joined.upper(), joined.replace(" ", ""), joined.replace(" ", "  "), joined))


def hard(count: int) -> list[str]:
    """Repetitive, long, noisy and odd segments, a quarter each."""
    rng = random.Random(SEED)
    english = [line.strip() for name in ("test", "dev", "daily") for line in (DATA / f"{name}.en").open()]
    others = [line.strip() for code in ("fr", "pl", "ru", "es") for line in (DATA / f"daily.{code}").open()]
    words = [word.strip(".,;:!?\"'()") for line in english for word in line.split()]
    words = [word for word in words if word]

    def repeated() -> str:
        unit, times = rng.choice((1, 1, 2, 3, 5)), rng.randint(3, 40)
        begin = rng.randrange(len(words) - unit)
        piece = " ".join(words[begin : begin + unit])
        joined = rng.choice((" ", ", ", "! ", " - ", "", "... ")).join([piece] * times)
        return rng.choice((joined, f"{rng.choice(english)} {joined}", f"{joined}."))

    def odd() -> str:
        cells = [
            rng.choice(words) if rng.random() < 0.6 else str(rng.randint(0, 999)) for _ in range(rng.randint(2, 12))
        ]
        code = f"for {cells[0]} in range({rng.randint(1, 99)}): print({cells[1]}) # {rng.choice(english)}"
        kinds = (
            f"| {' | '.join(cells)} |",
            ", ".join(cells),
            code,
            rng.choice(others),
            f"{cells[0]}: {'.' * 40} {cells[1]}",
        )
        return rng.choice(kinds)

    kinds: Sequence[Callable[[], str]] = (
        repeated,
        lambda: " ".join(rng.sample(english, rng.randint(3, 12))),
        lambda: _noise(rng.choice(english), rng),
        odd,
    )
    return [kinds[number % len(kinds)]() for number in range(count)]


def failures(done: Sequence[Translation]) -> Counter[str]:
    """How many of each kind; a translation counts once, by the worst."""
    found = Counter[str]()
    for each in done:
        unfinished = each.generation is not None and not each.generation.finished
        if not each.text:
            found["empty"] += 1
        elif is_looping(each.text, each.source):
            found["looping"] += 1
        elif unfinished:
            found["unfinished"] += 1
    return found


def lost(done: Sequence[Translation], pair: Pair) -> list[Translation]:
    """Translations that have not all values of their sources."""
    return [each for each in done if lost_values(values(each.source, pair.target), each.text)[0]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artefacts", type=Path, nargs="+")
    parser.add_argument("--pair", type=parse_pair, default="en-de")
    parser.add_argument("--values", type=int, default=500)
    parser.add_argument("--hard", type=int, default=1000)
    parser.add_argument("--show", action="store_true", help="print what is still wrong")
    chosen = parser.parse_args()
    pair: Pair = chosen.pair
    sets = {"values": with_values(chosen.values), "hard": hard(chosen.hard)}
    print("| model | set | | values lost | of them marked | empty | looping | unfinished | share | seconds |")
    print("|---|---|---|---:|---:|---:|---:|---:|---:|---:|")
    with OtherLoad() as others:
        for artefact in chosen.artefacts:
            for name, segments in sets.items():
                for when, way in (("before", translate), ("after", translate_checked)):
                    started = time.perf_counter()
                    with contextlib.closing(open_engine(artefact)) as engine:
                        done: list[Translation] = list(way(engine, pair, segments, exact=True))
                    seconds = time.perf_counter() - started
                    missing, failed = lost(done, pair), failures(done)
                    marked = sum(isinstance(each, CheckedTranslation) and bool(each.marks) for each in missing)
                    share = (len(missing) if name == "values" else failed.total()) / len(segments)
                    counts = [len(missing), marked, *(failed[kind] for kind in ("empty", "looping", "unfinished"))]
                    cells = [artefact.name, name, when, *map(str, counts), f"{share:.1%}", f"{seconds:.0f}"]
                    print("|", " | ".join(cells), "|", flush=True)
                    if when == "after":
                        remedies = Counter(each.remedy for each in done if isinstance(each, CheckedTranslation))
                        told = ", ".join(f"{remedy}: {count}" for remedy, count in remedies.most_common() if remedy)
                        print(f"remedies: {told}")
                        for each in done if chosen.show else ():
                            if isinstance(each, CheckedTranslation) and each.marks:
                                print(f"{each.marks} {each.lost}\n  {each.source!r}\n  {each.text!r}")
    print(f"\nSeed {SEED}. {processor()}, {usable_cores()} cores, Python {platform.python_version()}.")
    print(f"Programs not ours used {others.share:.0%} of the cores.")


if __name__ == "__main__":
    main()
