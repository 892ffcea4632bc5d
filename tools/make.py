"""What make's targets do: read the variables from the environment, set up, and run the command. Standard library only.

``python3 -m tools.make export`` is what ``make export`` runs. Values become words of a command as they are: no shell
reads them, and options are joined to theirs by ``=``, so that none can pass for an option.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runtime.errors import RequestError, SlimmoeError, WorkError, as_typed
from runtime.processes import ends_with_us

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venv" / "bin" / "python"
LAST_MODEL = "d42c567f3e3c76c413cb22844097f3fb0b51dd47"  # the commit whose models/default the training starts from

VARIABLES = {
    "PAIR": "language pair [en-de]",
    "RATIO": "share of the experts to cut [0.75]",
    "MODEL": "folder or Hugging Face id of a checkpoint [models/default]",
    "OUT": "the run's folder [runs/MODEL-PAIR]",
    "QUANT": "type of the GGUF file; no: none [Q4_K_M]",
    "TYPE": "type of the ONNX folder; no: none [int4]",
    "CRITERION": "what decides which experts stay [gate]",
    "ALLOCATION": "of experts to layers: uniform, layerwise, coverage, jsd, search [uniform]",
    "RECOVER": "1: recover after the cut",
    "METHOD": "of recovery: full, lora, least-squares; several: one after the other [full]",
    "STEPS": "of recovery [by the corpus]",
    "CORPUS": "text for statistics and recovery [data/calibration]",
    "SOURCE": "sentences for the model to translate itself, instead of CORPUS and DEV",
    "DEV": "held-out text for recovery and verification [data/dev]",
    "TEST": "text to translate and score [data/test]",
    "THREADS": "of measurements and translation [every core; for translation what is free]",
    "VERIFY": "no: skip the verification",
    "VOCABULARY": "cut tokens as well: coverage=0.9999 of the text, 8192, or a share, 0.25 [all stay]",
    "VOCABULARY_CORPUS": "text whose tokens are counted [CORPUS]",
    "PROMPT": "how the model is asked: a text or file with {text}, {source_name}, {target_name} [by the model]",
    "TEXT": "what make translate translates",
    "RATIOS": "of a sweep [0 0.25 0.5 0.7 0.75 0.9]",
    "TYPES": "of a sweep [Q4_K_M Q8_0 int4 int8]",
    "SWEEP": "folder of a sweep [OUT/sweep]",
    "RAY": "address of a Ray cluster for a sweep",
    "WORK": "folder of the training's text and checkpoints [runs/recipe]",
    "EXTRA": "folder with everyday text for the training, en-XX.tsv.xz",
    "HELD_OUT": "folder of test sets, NAME.XX, that training keeps clear of",
    "TOKENS": "of a training that tries every step [all]",
    "MINUTES": "of make fuzz, for each kind [5]",
    "START_COMMIT": "whose models/default the training starts from",
    "PYTHON": "the python3 to set up with",
}
Words = list[str]


def given(name: str, default: str = "") -> str:
    """A variable's value; an empty or blank one counts as not given."""
    value = os.environ.get(name, "")
    return value if value.strip() else default


def yes(name: str, default: str) -> bool:
    """Whether a variable says yes.

    Raises:
        RequestError: neither yes nor no.
    """
    value = given(name, default).strip().lower()
    if value not in ("1", "yes", "true", "0", "no", "false"):
        raise RequestError(f"{name} is yes or no, not {value!r}.", next_command=f"make export {name}=yes")
    return value in ("1", "yes", "true")


def options(**names: str) -> Words:
    """``--option=VALUE`` for each variable that was given."""
    return [f"--{option.replace('_', '-')}={given(name)}" for option, name in names.items() if given(name)]


def _refuse_unknown() -> None:
    unknown = sorted(set(os.environ.get("SLIMMOE_GIVEN", "").split()) - set(VARIABLES))
    if unknown:
        raise RequestError(f"make has no variable {unknown[0]} here.", next_command="make help")


def preflight() -> None:
    """Check pair, ratio and model before anything is installed."""
    from tools.preflight import preflight as check

    check(given("PAIR", "en-de"), given("RATIO", "0.75"), given("MODEL", "models/default"))


def set_up() -> None:
    from tools.setup import set_up as make_complete

    make_complete()


def python(*words: str) -> None:
    """Run Python of the environment in the repository, with standard input and output as they are.

    Raises:
        SystemExit: it failed, with its status.
    """
    with _started([str(PYTHON), *words]) as child:
        status = child.wait()
    if status:
        sys.exit(status)


@contextlib.contextmanager
def _started(words: Words, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A command in the repository that is told what ends this process, and has ended when the block has."""
    child: subprocess.Popen[str] = subprocess.Popen(words, cwd=ROOT, **ends_with_us(), **options)
    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {each: signal.signal(each, lambda number, _: child.send_signal(number)) for each in signals}
    try:
        yield child
    finally:
        child.wait()
        for each, handler in before.items():
            signal.signal(each, handler)


def slimmoe(*words: str) -> None:
    python("-m", "slimmoe", *words)


def export_words() -> Words:
    """The command of the whole way for the variables."""
    words = options(
        pair="PAIR", ratio="RATIO", output="OUT", quant="QUANT", type="TYPE", criterion="CRITERION",
        allocation="ALLOCATION", corpus="CORPUS", dev="DEV", test="TEST", source="SOURCE", threads="THREADS",
        prompt="PROMPT", vocabulary="VOCABULARY", vocabulary_corpus="VOCABULARY_CORPUS",
    )  # fmt: skip
    return ["export", *words, *recovery_words(), *([] if yes("VERIFY", "yes") else ["--no-verify"])]


def recovery_words() -> Words:
    if not yes("RECOVER", "no"):
        return []
    return [f"--recover={method}" for method in given("METHOD", "full").split()] + options(steps="STEPS")


def model_word() -> Words:
    return ["--", given("MODEL", "models/default")]


def exported(*more: str) -> dict:
    """Export what is not there, and say where it is; with ``--dry-run``, only say it.

    Raises:
        SystemExit: the export failed.
    """
    words = [str(PYTHON), "-m", "slimmoe", *export_words(), *more, "--json", *model_word()]
    with _started(words, stdout=subprocess.PIPE, encoding="utf-8") as child:
        printed, _ = child.communicate()
    if child.returncode:
        sys.exit(child.returncode)
    return json.loads(printed.splitlines()[-1])


def export() -> None:
    slimmoe(*export_words(), *model_word())


def bench() -> None:
    slimmoe(*export_words(), "--again", *model_word())


def sweep_folder(home: str) -> str:
    return given("SWEEP") or str(Path(home) / "sweep")


def report() -> None:
    found = exported()
    folder = sweep_folder(found["home"])
    if (ROOT / folder / "bench.jsonl").exists():
        slimmoe("report", f"--output={folder}/report.html", "--", folder)
    else:
        print(f"report: {found['report']}")


def sweep() -> None:
    home = Path(given("OUT") or exported("--dry-run")["home"])
    words = options(
        criterion="CRITERION",
        allocation="ALLOCATION",
        corpus="CORPUS",
        dev="DEV",
        test="TEST",
        source="SOURCE",
        threads="THREADS",
        prompt="PROMPT",
        vocabulary="VOCABULARY",
        vocabulary_corpus="VOCABULARY_CORPUS",
    )
    words += [f"--pair={given('PAIR', 'en-de')}", *options(ray="RAY"), f"--runs={home.parent}"]
    words += [f"--ratio={ratio}" for ratio in given("RATIOS", "0 0.25 0.5 0.7 0.75 0.9").split()]
    words += [f"--type={kind}" for kind in given("TYPES", "Q4_K_M Q8_0 int4 int8").split()]
    words += [*recovery_words(), *(["--both"] if yes("RECOVER", "no") else [])]
    folder = sweep_folder(str(home))
    slimmoe("sweep", *words, f"--output={folder}", *model_word())
    slimmoe("report", f"--output={folder}/report.html", "--", folder)


def translate() -> None:
    artefact = next(iter(exported()["artefacts"].values()))
    text = given("TEXT", "The file could not be opened.")
    slimmoe("translate", f"--pair={given('PAIR', 'en-de')}", *options(threads="THREADS"), "--", artefact, text)


def wheels() -> None:
    shipped = given("MODEL", "models/default") == "models/default"
    texts = ["--licence=LICENSE", "--card=models/README.md"] if shipped else []
    slimmoe("models", "wheel", *texts, "--output=dist", "--", exported()["folder"])
    python(
        "-m",
        "pip",
        "--disable-pip-version-check",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        "dist",
        ".",
    )
    print("next: pip install dist/slimmoe*.whl   (in any environment; no compiler is needed)")


def _start_model(folder: Path) -> None:
    """Put the model that the training starts from into ``folder``, out of the history."""
    folder.mkdir(parents=True, exist_ok=True)
    commit = given("START_COMMIT", LAST_MODEL)
    archive = subprocess.run(
        ["git", "archive", "--end-of-options", commit, "models/default"], cwd=ROOT, capture_output=True
    )
    if archive.returncode:
        raise RequestError("The last model is not in this clone's history.", next_command="git fetch --unshallow")
    subprocess.run(["tar", "-x", "-C", str(folder), "--strip-components=2"], input=archive.stdout, check=True)


def model() -> None:
    work, recipe = given("WORK", "runs/recipe"), "models.recipe."
    start, vocabulary = ROOT / work / "start", ROOT / work / "model"
    _start_model(start)
    vocabulary.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(start / name, vocabulary)  # its vocabulary too; without these files the recipe trains another
    held_out = options(held_out="HELD_OUT")
    python("-m", recipe + "corpus", work)
    python("-m", recipe + "extra", work, *options(extra="EXTRA"), *held_out)
    python("-m", recipe + "teach", work, *held_out)
    python("-m", recipe + "prepare", work, *held_out)
    python("-m", recipe + "train", work, f"--start={start}", *options(tokens="TOKENS"))
    final, gguf = f"{work}/run/final", f"{work}/model-F16.gguf"
    slimmoe("gguf", "--quant=F16", f"--output={gguf}", "--", final)
    python("-m", recipe + "score", gguf, work)
    python("-m", recipe + "specialisation", final, work, f"-o={work}/specialisation.png")
    python("-m", recipe + "balance", final, work)


def curve() -> None:
    work = given("WORK", "runs/recipe")
    python("-m", "benchmarks.criteria", f"{work}/corpus", "--every=2", f"-o{work}/criteria.jsonl")
    python("-m", "benchmarks.criteria_report", f"{work}/criteria.jsonl", "-odocs/pruning")


def reproduction() -> None:
    work, model = given("WORK", "runs/recipe"), given("MODEL", "models/default")
    folder = f"{work}/reproduction-{Path(model).name}"
    python("-m", "benchmarks.reproduction", f"{work}/corpus", f"--model={model}", f"-o{folder}")
    own = [f"-o{folder}/reproduction.png", f"--numbers={folder}/compared.jsonl"]
    shipped = model.rstrip("/") == "models/default"
    python("-m", "benchmarks.reproduction_report", folder, *(["-odocs/reproduction.png"] if shipped else own))


def peers() -> None:
    found = exported()
    pair = f"--pair={given('PAIR', 'en-de')}"
    python(
        "-m",
        "benchmarks.translators",
        pair,
        f"-o{found['folder']}/translators.jsonl",
        "--",
        *found["artefacts"].values(),
    )
    python("-m", "benchmarks.peers.environment")
    words = [pair, *options(corpus="CORPUS", dev="DEV"), f"-o{found['folder']}/peers"]
    python("-m", "benchmarks.peers", *words, "--", found["checkpoint"])


def fuzz() -> None:
    for module in ("benchmarks.fuzz_readers", "benchmarks.fuzz_gguf"):
        python("-m", module, f"--minutes={given('MINUTES', '5')}")


def show_help() -> None:
    print("make export PAIR=en-de RATIO=0.75        cut, export, verify, measure: the whole way")
    for target, line in re.findall(r"^([a-z-]+):.*## (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE):
        print(f"  make {target:<13} {line}")
    print("variables:")
    for name, line in VARIABLES.items():
        print(f"  {name:<13} {line}")


CHECKED: dict[str, Callable[[], None]] = {  # their request is checked before any set-up
    "export": export, "report": report, "bench": bench, "sweep": sweep, "translate": translate, "wheels": wheels,
    "peers": peers,
}  # fmt: skip
TARGETS = CHECKED | {"model": model, "curve": curve, "reproduction": reproduction, "fuzz": fuzz, "setup": lambda: None}


def main(target: str) -> None:
    """Do what a target of make does."""
    if sys.version_info < (3, 11):  # noqa: UP036  (this file runs on whatever python3 is)
        raise WorkError("Python 3.11 or newer is needed.", next_command=f"make {target} PYTHON=python3.11")
    _refuse_unknown()
    if target == "help":
        show_help()
        return
    if target in CHECKED:
        preflight()
    set_up()
    TARGETS[target]()


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except SlimmoeError as error:
        print(as_typed(f"slimmoe: {error}"), file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit(130)
