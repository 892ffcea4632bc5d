"""What verbs that run a GGUF file say about devices: the options, what was chosen, and the verb devices."""

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.errors import printable

if TYPE_CHECKING:  # loaded by the verb that is called
    from runtime.engines.base import Engine

offloading = typer.Typer()

DeviceName = Annotated[
    str,
    typer.Option("--device", help="auto, cpu, or a name that slimmoe devices prints", metavar="NAME"),
]
GpuLayers = Annotated[
    str,
    typer.Option(
        "--gpu-layers", "-ngl", help="of a GGUF file on the device: a number, all, or auto: by its free memory"
    ),
]
CpuExperts = Annotated[
    str,
    typer.Option(
        "--cpu-experts", "-ncmoe", help="layers whose experts stay in the machine's memory: a number, all, or auto"
    ),
]
AllCpuExperts = Annotated[bool, typer.Option("-cmoe", help="the same as --cpu-experts all")]


def tell_where(engine: "Engine") -> None:
    """Say on standard error what of a model a device has, and why; nothing where the processor computes all."""
    if engine.where:
        print(printable(f"slimmoe: {engine.where}"), file=sys.stderr)


@offloading.command()
def devices(as_json: Annotated[bool, typer.Option("--json", help="print JSON for a program to read")] = False) -> None:
    """List what GGUF files and ONNX folders can be computed on: name, backend, memory in total and free."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from runtime.engines.devices import find_devices
    from runtime.engines.onnx_device import find_onnx_devices

    found = [("GGUF", each) for each in find_devices()] + [("ONNX", each) for each in find_onnx_devices()]
    if as_json:
        told = [{"runs": runs, **vars(each)} for runs, each in found]
        print(json.dumps([{key: value for key, value in each.items() if key != "handle"} for each in told]))
        return
    table = Table("runs", "name", "backend", "kind", "total", "free", "description", box=SIMPLE_HEAD)
    for runs, each in found:
        memory = [f"{size / 1e9:.1f} GB" if each.total_bytes else "-" for size in (each.total_bytes, each.free_bytes)]
        table.add_row(*map(printable, (runs, each.name, each.backend, each.kind, *memory, each.description)))
    console = Console()
    console.print(table)
    if not any(each.is_gpu for _, each in found):
        console.print("no GPU is seen: everything runs on the processor", highlight=False)
