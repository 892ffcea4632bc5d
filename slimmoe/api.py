"""The functions of ``import slimmoe``: each is one stage, from files to files. docs/api.md has an example of each."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimmoe.api_device import AnyPair, AnyPath, AnyPrompt, as_bytes, as_pair, as_prompt

if TYPE_CHECKING:  # the rooms behind these names are loaded by the function that is called
    from export.fit import Fit
    from export.verification import Verification
    from prune.calibrate.stats import Stats
    from prune.plan.plan import Plan
    from slimmoe.doctor import Diagnosis
    from slimmoe.runs import Exported

CALIBRATION, DEV, TEST = "data/calibration", "data/dev", "data/test"


def calibrate(
    model: AnyPath,
    pair: AnyPair,
    corpus: AnyPath = CALIBRATION,
    output: AnyPath | None = None,
    tokens: int | None = None,
    prompt: AnyPrompt | None = None,
) -> "Stats":
    """Statistics of what each expert of a checkpoint or GGUF file does on a pair's text; the file needs no torch.

    Args:
        output: where to write them as well; the run then resumes.
        tokens: stop after so many.
        prompt: how the model is asked, a text with ``{text}`` or a file; default: as is known of such a model. The plan
            and what is made by it keep it.

    Raises:
        RequestError: an unreadable corpus or model.
        WorkError: damaged weights.
    """
    path, to = Path(model), None if output is None else Path(output)
    if path.suffix == ".gguf":
        from prune.calibrate.from_gguf import calibrate_gguf

        return calibrate_gguf(path, as_pair(pair), Path(corpus), tokens, to, quiet=True, prompt=as_prompt(prompt))
    from prune.calibrate.from_checkpoint import calibrate as run

    return run(path, as_pair(pair), Path(corpus), tokens, quiet=True, output=to, prompt=as_prompt(prompt))[0]


def make_plan(
    stats: "Stats | AnyPath",
    ratio: float,
    criterion: str = "gate",
    allocation: str = "uniform",
    output: AnyPath | None = None,
    *,
    vocabulary: str | None = None,
    corpus: AnyPath = CALIBRATION,
) -> "Plan":
    """Which experts stay, and which tokens.

    Args:
        ratio: share of the experts to cut, from 0 up to 1.
        output: where to write it as well.
        vocabulary: the tokens that stay: ``coverage=0.9999`` of ``corpus``, ``8192`` tokens, or a share, ``0.25``; None: all.

    Raises:
        RequestError: a ratio out of range, an unknown criterion or allocation, no statistics, or tokens that cannot be cut.
    """
    from prune.calibrate.stats import Stats
    from prune.plan.plan import make_plan as choose

    known = Stats.load(Path(stats)) if isinstance(stats, str | Path) else stats
    plan = choose(known, ratio, criterion, allocation=allocation)
    if vocabulary is not None:
        from prune.vocabulary.choose import add_vocabulary

        plan = add_vocabulary(plan, Path(known.model), vocabulary, Path(corpus))
    if output is not None:
        plan.save(Path(output))
    return plan


def prune(
    model: AnyPath,
    plan: "Plan | AnyPath | None",
    output: AnyPath,
    *,
    ragged: bool = False,
    text_only: bool = False,
    vocabulary: str | None = None,
    corpus: AnyPath = CALIBRATION,
    pair: AnyPair | None = None,
) -> Path:
    """Write a checkpoint folder or a GGUF file without the experts that the plan drops; all other bytes stay.

    Args:
        plan: None keeps all experts, for ``vocabulary`` alone.
        output: a new folder; for a GGUF file a file, or a folder with a slash at its end. A GGUF file gets a Modelfile for
            Ollama beside it where the plan is of one pair.
        ragged: write each layer of a checkpoint with its own count, which only ONNX can hold.
        text_only: leave vision and audio parts of a checkpoint out: a causal language model is written.
        vocabulary: cut tokens, too, whatever the plan says: ``coverage=0.9999`` of the text, ``8192``, or a share, ``0.25``.
        corpus: the text whose tokens are counted for it.
        pair: of ``corpus``; default: the first that the plan or the model was made for.

    Raises:
        RequestError: the plan does not fit the model, ``output`` is there already, or the tokens cannot be cut.
        WorkError: a tensor is missing or unknown, or the disk is full.
    """
    from prune.plan.plan import Plan
    from prune.rewrite import prune as rewrite

    chosen = Plan.load(Path(plan)) if isinstance(plan, str | Path) else plan
    selection = None
    if vocabulary is not None:
        from prune.vocabulary.choose import choose

        known = as_pair(pair) if pair is not None else None
        selection = choose(Path(model), vocabulary, Path(corpus), known, chosen)
    path = rewrite(Path(model), chosen, output, ragged, text_only, selection)
    made_for = chosen.pair if chosen else selection.pair if selection else ""
    if made_for and path.suffix == ".gguf":
        from export.gguf.modelfile import add_for_cut

        add_for_cut(Path(model), path, made_for)
    return path


def recover(
    folder: AnyPath,
    pair: AnyPair,
    output: AnyPath,
    corpus: AnyPath = CALIBRATION,
    dev: AnyPath = DEV,
    *,
    method: str = "full",
    steps: int | None = None,
    teacher: AnyPath | None = None,
    prompt: AnyPrompt | None = None,
) -> dict[str, Any]:
    """Recover a pruned checkpoint on the pair's text; returns what was done, with the dev losses before and after.

    Args:
        method: ``full`` (SFT of all weights), ``lora``, or ``least-squares`` (in closed form, from the teacher).
        teacher: the unpruned model.
        prompt: how the model is asked from now on; default: as in calibration.

    Raises:
        RequestError: an unreadable corpus or folder, or ``output`` is there already.
        WorkError: the loss is not a number, or the disk is full.
    """
    from prune.recovery.recover import recover as run
    from prune.recovery.settings import Settings

    source = None if teacher is None else Path(teacher)
    texts, settings = (Path(corpus), Path(dev), Path(output)), Settings(steps=steps, method=method)
    return run(Path(folder), as_pair(pair), *texts, settings, source, quiet=True, prompt=as_prompt(prompt))


def export_gguf(
    folder: AnyPath,
    output: AnyPath,
    quant: str = "Q4_K_M",
    pair: AnyPair | None = None,
    corpus: AnyPath = CALIBRATION,
    prompt: AnyPrompt | None = None,
) -> Path:
    """Write a checkpoint as a GGUF file; ``output`` may be a folder, with a slash at its end. It keeps ``prompt``.

    Raises:
        RequestError: an unknown type, or a model that llama.cpp cannot hold.
        WorkError: llama.cpp's tools are not built, or refuse.
    """
    from export.gguf import export_gguf as run

    known = as_pair(pair) if pair else None
    return run(Path(folder), str(output), quant, pair=known, corpus=Path(corpus), prompt=as_prompt(prompt))


def export_onnx(folder: AnyPath, output: AnyPath, quant: str = "int4", prompt: AnyPrompt | None = None) -> Path:
    """Write a checkpoint as an ONNX folder: ``none`` (float32), ``fp16``, ``int8`` or ``int4``. It keeps ``prompt``.

    Raises:
        RequestError: an unknown type, a model that the graph cannot express, or ``output`` is taken.
    """
    from export.onnx import export_onnx as run

    return run(Path(folder), Path(output), quant, prompt=as_prompt(prompt))


def verify(
    artefact: AnyPath, against: AnyPath, pair: AnyPair = "en-de", corpus: AnyPath = DEV, plan: AnyPath | None = None
) -> "Verification":
    """Compare an artefact's logits with those of what it was made from; ``passed`` and ``sentence()`` say the result.

    Args:
        plan: by which a GGUF file was cut from ``against``.

    Raises:
        RequestError: the two cannot be compared.
    """
    from export.verify import verify as run
    from runtime.formats.artefact import find_artefact

    of = find_artefact(Path(artefact), checkpoint=True)
    return run(of, Path(against), Path(corpus), as_pair(pair), None if plan is None else Path(plan))


def diagnose(model: AnyPath, pair: AnyPair = "en-de", ratio: float = 0.75) -> "Diagnosis":
    """What will work with a model, from its headers, config, chat template and tokenizer; ``problems`` says what will not.

    Args:
        model: a checkpoint's folder, a GGUF file, an ONNX folder, the folder of a run, or an id in Hugging Face's cache.
        pair: for the prompt that is shown, where the model was not cut for another.
        ratio: of the cut whose memory is told.

    Raises:
        RequestError: there is no such model here.
    """
    from slimmoe.doctor import diagnose as run

    return run(str(model), as_pair(pair), ratio)


def fit(
    model: AnyPath, memory: int | str, context: int = 1024, vocabulary: str | None = None, vram: int | str | None = None
) -> "Fit":
    """Which ratio and type fit into a memory, from the headers of a checkpoint or GGUF file alone.

    Args:
        memory: bytes, or a text such as ``8GiB``.
        vocabulary: that stays: a number of tokens, or a share, ``0.25``; None: all.
        vram: of a GPU that has its own memory, as ``memory``; GGUF files are split over both.

    Raises:
        RequestError: no such model, or not a size of memory or of a vocabulary.
    """
    from export.fit import fit as run
    from prune.checkpoint import Checkpoint
    from prune.gguf_model import GgufModel
    from prune.vocabulary.choose import rows_of
    from prune.vocabulary.selection import Amount

    known = GgufModel(Path(model)) if Path(model).suffix == ".gguf" else Checkpoint(Path(model))
    tokens = Amount.parse(vocabulary).share_of(rows_of(known)) if vocabulary else 1.0
    return run(known, as_bytes(memory), context, tokens, as_bytes(vram) if vram is not None else None)


def export(
    model: AnyPath,
    pair: AnyPair = "en-de",
    ratio: float = 0.75,
    output: AnyPath | None = None,
    *,
    criterion: str = "gate",
    allocation: str = "uniform",
    recover: Iterable[str] = (),
    steps: int | None = None,
    quant: str = "Q4_K_M",
    onnx: str = "int4",
    corpus: AnyPath = CALIBRATION,
    dev: AnyPath | None = None,
    test: AnyPath = TEST,
    source: AnyPath | None = None,
    vocabulary: str = "",
    vocabulary_corpus: AnyPath | None = None,
    threads: int | None = None,
    verify: bool = True,
    prompt: AnyPrompt | None = None,
    tell: Callable[[str], object] = lambda _: None,
) -> "Exported":
    """The whole way, as ``slimmoe export`` goes it: what is not done yet, or was done for another request.

    Args:
        output: the run's folder; default: ``runs/MODEL-PAIR``.
        recover: methods, one after the other.
        source: sentences for the model to translate itself; they replace ``corpus``, and ``dev`` where none is given.
        vocabulary: cut tokens as well, by their counts in ``vocabulary_corpus`` (default: ``corpus``); see ``prune``.
        quant, onnx: types of the GGUF file and of the ONNX folder; ``no`` leaves one out.
        prompt: how the model is asked at every stage; default: as is known of such a model.
        tell: is called with a sentence for each stage.

    Raises:
        RequestError: the request was wrong.
        WorkError: a stage failed; what was done before it is kept.
    """
    from slimmoe.runs import export as run
    from slimmoe.runs import model_folder
    from slimmoe.variants import Request, Texts, Variant, recoveries

    name = str(model)
    methods = recoveries(recover, steps)
    variant = Variant(model_folder(name), as_pair(pair), criterion, ratio, allocation, methods, vocabulary)
    own, held_out, counted = (Path(text) if text else None for text in (source, dev, vocabulary_corpus))
    texts = Texts(Path(corpus), held_out, Path(test), source=own, prompt=as_prompt(prompt), vocabulary=counted)
    request = Request(variant, texts, quant, onnx, verify, threads)
    return run(request, name, None if output is None else Path(output), tell=tell)
