"""The stored models and what they are, and which of them translates a pair."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import RequestError, SlimmoeError
from runtime.formats import store
from runtime.formats.artefact import describe, files_of, find_artefact, pair_of
from runtime.text.language import detected_language
from runtime.text.languages import find_language
from runtime.text.pairs import Pair, parse_pair

ADD = "slimmoe models add MODEL   (a GGUF file, an ONNX folder, a run's folder or a Hugging Face id)"


@dataclass(frozen=True)
class Stored:
    """A stored model.

    Attributes:
        artefact: what is opened; of a damaged one its folder.
        pairs: that it was cut for, or was stored for; none: it may be asked for any.
        engine: that runs it, and ``type`` of its weights, as reports call them.
        package: that brought it; empty for what lies in the store.
        defaults: the pairs whose default it is, or ``any``.
        problem: why it cannot be used, a sentence; empty where it can.
    """

    name: str
    artefact: Path
    pairs: tuple[Pair, ...] = ()
    engine: str = ""
    type: str = ""
    bytes: int = 0
    package: str = ""
    defaults: tuple[str, ...] = ()
    problem: str = ""


def parse_pairs(text: str) -> tuple[Pair, ...]:
    """The pairs that a model tells: ``en-de + de-en``, or nothing.

    Raises:
        RequestError: one is none.
    """
    return tuple(parse_pair(each) for each in text.split(" + ")) if text else ()


def stored_models() -> list[Stored]:
    """All stored models, those in the store first; of damaged ones the reason."""
    own, packaged = store.own_folders(), store.package_folders()
    folders = {name: (path, "") for name, path in own.items()}
    folders |= {name: found for name, found in packaged.items() if name not in own}
    chosen = store.defaults()
    return [
        _read(name, folder, package, tuple(pair for pair, default in chosen.items() if default == name))
        for name, (folder, package) in folders.items()
    ]


def _read(name: str, folder: Path, package: str, defaults: tuple[str, ...]) -> Stored:
    try:
        artefact = find_artefact(folder)
        engine = "llama.cpp" if artefact.suffix == ".gguf" else "ONNX RT"
        size = sum(path.stat().st_size for path in files_of(artefact))
        pairs = parse_pairs(pair_of(artefact))
        return Stored(name, artefact, pairs, engine, describe(artefact)["type"], size, package, defaults)
    except SlimmoeError as error:
        return Stored(name, folder, package=package, defaults=defaults, problem=error.sentence)
    except OSError as error:  # it is being removed, or may not be read
        return Stored(name, folder, package=package, defaults=defaults, problem=f"{folder}: {error.strerror}.")


def find_stored(name: str) -> Stored:
    """The stored model of a name.

    Raises:
        RequestError: there is none.
    """
    found = next((each for each in stored_models() if each.name == name), None)
    if found is None:
        raise store.no_such_model(name)
    return found


def find_target(text: str) -> str:
    """The code of the language that was asked for.

    Raises:
        RequestError: it is not known.
    """
    if (target := find_language(text)) is None:
        raise RequestError(f"'{text}' is no known language.", next_command="the same with --to de")
    return target


def detected_pair(target: str, text: str) -> Pair:
    """The pair from the language that a text is in.

    Raises:
        RequestError: that is not to be told, or it is the target.
    """
    source = detected_language(text)
    if source is None or source == target:
        what = "is in that language already" if source else "is too short to tell its language"
        other = "de" if target == "en" else "en"
        raise RequestError(f"The text {what}.", next_command=f"the same with --pair {other}-{target} instead of --to")
    return parse_pair(f"{source}-{target}")


def choose_pair(models: Sequence[Stored], target: str | None, text: Callable[[], str]) -> tuple[Pair, bool]:
    """The pair that is meant where only the target was named, or nothing; and whether the text told it.

    Of models that are all cut for one pair, that pair is meant; else the text tells the source.

    Raises:
        RequestError: no model is here, or what is meant cannot be told.
    """
    _require(models)
    pairs = {pair for model in models for pair in model.pairs if target in (None, pair.target)}
    if len(pairs) == 1 and all(model.pairs for model in models):
        return pairs.pop(), False
    if target is None:
        raise RequestError("The stored models do not tell which pair is meant.", next_command="the same with --to de")
    return detected_pair(target, text()), True


def choose_model(models: Sequence[Stored], pair: Pair) -> Stored:
    """The model for a pair: its default, the default for any; else the only one cut for it, or else for no pair.

    A variant of a language is as good as another one where nothing closer is here.

    Raises:
        RequestError: there is none, or there are several.
    """
    _require(models)
    for key in (str(pair), str(pair.base), store.ANY):
        if chosen := next((each for each in models if key in each.defaults), None):
            return chosen
    fitting = (
        [each for each in models if pair in each.pairs],
        [each for each in models if pair.base in (known.base for known in each.pairs)],
        [each for each in models if not each.pairs],
    )
    found = next(filter(None, fitting), [])
    if len(found) == 1:
        return found[0]
    if found:
        raise RequestError(
            f"Several stored models translate {pair}: {', '.join(each.name for each in found)}.",
            next_command=f"slimmoe models default {found[0].name} --pair {pair}   (or the same with --model NAME)",
        )
    told = ", ".join(f"{each.name} ({' + '.join(map(str, each.pairs))})" for each in models)
    raise RequestError(f"No stored model translates {pair}; there are: {told}.", next_command=ADD)


def _require(models: Sequence[Stored]) -> None:
    if not models:
        raise RequestError("No model is stored here, and none is given.", next_command=ADD)
