"""The verbs that write files for the device and check them: gguf, onnx, verify."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from runtime.errors import RequestError
from runtime.text.corpus import read_segments
from runtime.text.pairs import Pair, parse_pair
from slimmoe.cli.device import DATA, AsJson, Corpus, KnownPair, Output, Prompt, known_pair_of, say
from slimmoe.cli.models import resolve
from slimmoe.cli.offloading import AllCpuExperts, CpuExperts, DeviceName, GpuLayers
from slimmoe.cli.once import Once
from slimmoe.cli.planning import CALIBRATION, OwnCorpus

exporting = typer.Typer()
DEFAULT_QUANT = "Q4_K_M"


class _ListsTypes(Once):
    """A command whose help ends with the table of types, read only when help is asked for."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        from export.gguf.types import list_types

        formatter.write(
            f"\nTypes, from the largest (bits per weight; what an importance matrix is to them):\n{list_types()}\n"
        )


@exporting.command(cls=_ListsTypes)
def gguf(
    model: Annotated[str, typer.Argument(help="folder or Hugging Face id of a checkpoint; a GGUF file with --plan")],
    output: Annotated[
        str, typer.Option("-o", "--output", help="the file, or a folder for one named by model, pair, share and type")
    ] = "./",
    quant: Annotated[
        str | None, typer.Option(help="llama.cpp's name of the type, see below  [default: Q4_K_M]")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(help="what plan wrote: cut a GGUF file by it, all types as they are, without torch")
    ] = None,
    pair: Annotated[
        Pair | None,
        typer.Option("--pair", parser=parse_pair, metavar="PAIR", help="default: what the model was pruned for"),
    ] = None,
    corpus: OwnCorpus = None,
    imatrix: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|none",
            help="importance matrix by llama-imatrix, of this model or of the unpruned one. Default: computed on the "
            "pair's text of --corpus, for types that need one, and with --pair for all below 5 bits that it helps",
        ),
    ] = None,
    pre: Annotated[
        str | None,
        typer.Option(help="llama.cpp's name of the pre-tokenisation, for a tokenizer that nothing recognises"),
    ] = None,
    prompt: Prompt = None,
) -> None:
    """Write a GGUF file for llama.cpp, LM Studio and Ollama (with a Modelfile beside it where the pair is known).

    slimmoe gguf big.gguf --plan plan.json -o small.gguf cuts a GGUF file as it is, without torch: all types are kept, and
    --quant, --imatrix and --pre are for checkpoints alone.
    """
    if model.endswith(".gguf") or plan is not None:
        _cut_gguf(Path(model), plan, output, [quant, imatrix, pre, pair, corpus, prompt])
        return
    folder = resolve(model)
    from export.gguf import export_gguf

    quant = DEFAULT_QUANT if quant is None else quant
    matrix = Path(imatrix) if imatrix and imatrix != "none" else None
    path = export_gguf(
        folder, output, quant, "none" if imatrix == "none" else matrix,
        pair=pair, corpus=corpus or CALIBRATION, pre=pre, prompt=prompt, tell=say,
    )  # fmt: skip
    say(f"GGUF {quant}, {path.stat().st_size / 1e6:.1f} MB: {path}")


def _cut_gguf(model: Path, plan: Path | None, output: str, of_checkpoints: list[object]) -> None:
    if plan is None:
        raise RequestError(
            f"{model} is a GGUF file already; --plan says which of its experts stay.",
            next_command=f"slimmoe gguf {model} --plan plan.json -o {output}",
        )
    if model.suffix != ".gguf":
        raise RequestError(
            f"--plan cuts GGUF files here, and {model} is none; a checkpoint is cut first.",
            next_command=f"slimmoe prune {model} --plan {plan} -o DIR",
        )
    if any(option is not None for option in of_checkpoints):
        raise RequestError(
            f"The types and the tokenizer of {model} stay as they are, and the plan tells the pair and the prompt: --quant, "
            "--imatrix, --pre, --pair, --prompt and --corpus are for checkpoints.",
            next_command=f"slimmoe gguf {model} --plan {plan} -o {output}",
        )
    from slimmoe import api

    path = api.prune(model, plan, output)
    say(f"pruned GGUF, {path.stat().st_size / 1e6:.1f} MB: {path}")


@exporting.command()
def onnx(
    model: Annotated[str, typer.Argument(help="folder or Hugging Face id of a checkpoint")],
    output: Output,
    quant: Annotated[str, typer.Option(help="none, fp16, int8, or int4 with attention at 8 bits")] = "int4",
    block: Annotated[
        int, typer.Option(help="weights of an expert that share a scale: 32, or 128 (smaller, faster, less exact)")
    ] = 32,
    zero_points: Annotated[
        bool, typer.Option("--zero-points", help="of int4: closer to the original, but larger and slower")
    ] = False,
    activations: Annotated[
        str, typer.Option(help="fp32, or fp16 for a GPU: CUDA computes experts and attention in nothing else")
    ] = "fp32",
    provider: Annotated[
        str, typer.Option(help="what onnxruntime-genai is to run it on: cpu, webgpu or cuda (genai_config.json)")
    ] = "cpu",
    prompt: Prompt = None,
) -> None:
    """Write an ONNX folder for ONNX Runtime."""
    folder = resolve(model)
    from export.onnx import export_onnx
    from prune.checkpoint import Checkpoint
    from runtime.measure.bench import file_size

    if (quantisation := Checkpoint(folder).quantisation) is not None:
        say(f"{quantisation.label} weights are dequantised and written as {quant}")
    path = export_onnx(
        folder, output, quant, block, zero_points, prompt=prompt, activations=activations, provider=provider
    )
    say(f"ONNX {quant}, {file_size(path) / 1e6:.1f} MB: {path}")


@exporting.command()
def verify(
    artefact: Annotated[
        Path,
        typer.Argument(help="a pruned checkpoint, a GGUF file, an ONNX folder, the folder of a run, or a stored model"),
    ],
    against: Annotated[str, typer.Option(help="the checkpoint it was made from, or a GGUF file")],
    pair: KnownPair = None,
    corpus: Corpus = DATA / "dev",
    plan: Annotated[
        Path | None, typer.Option(help="by which a GGUF file was cut from the one it is held against")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="verify.json, to add the check to")] = None,
    device_name: DeviceName = "auto",
    gpu_layers: GpuLayers = "auto",
    cpu_experts: CpuExperts = "auto",
    all_cpu_experts: AllCpuExperts = False,
    as_json: AsJson = False,
) -> None:
    """Check that an artefact computes what its source computes."""
    from export.verification import add_to_record, read_record
    from export.verify import verify
    from runtime.engines import Offload
    from runtime.errors import WorkError
    from runtime.formats.artefact import find_artefact
    from runtime.formats.kinds import kind_of

    if output is not None:
        read_record(output)  # what is none is told before the work
    artefact = find_artefact(artefact, checkpoint=True)
    pair = pair or known_pair_of([artefact])
    read_segments(corpus, pair)  # a missing one is told before anything is downloaded or loaded
    if kind_of(artefact) == "checkpoint":
        resolve(str(artefact))
    offload = Offload.parse(device_name, gpu_layers, cpu_experts, all_cpu_experts)
    other = Path(against) if against.endswith(".gguf") else resolve(against)
    result = verify(artefact, other, corpus, pair, plan, offload)
    if output is not None:
        add_to_record(output, result)
    if as_json:
        print(json.dumps(result.to_dict()))
    if not result.passed:
        raise WorkError(result.sentence())
    if not as_json:
        say(result.sentence())


@exporting.command()
def build_llama() -> None:
    """Build llama.cpp with its tools into this environment, where there is no clone to set up (about 5 minutes)."""
    from tools.build_llama import build

    say(f"llama.cpp: ready in {build()}")
