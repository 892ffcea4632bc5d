"""The verb that serves translations: serve."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from runtime.errors import printable
from runtime.text.pairs import parse_pair
from slimmoe.cli.device import ARTEFACT_HELP, Threads
from slimmoe.cli.offloading import AllCpuExperts, CpuExperts, DeviceName, GpuLayers

serving = typer.Typer()


@serving.command()
def serve(
    models: Annotated[list[str], typer.Argument(help=f"each {ARTEFACT_HELP}", metavar="MODEL ...")],
    pairs: Annotated[
        list[str] | None, typer.Option("--pair", help="of models that name none; may be repeated", metavar="PAIR")
    ] = None,
    host: Annotated[
        str, typer.Option(help="the address to serve; others than this machine's need a key")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free")] = 5000,
    key: Annotated[
        str,
        typer.Option("--api-key", envvar="SLIMMOE_API_KEY", show_envvar=True, help="what each request has to bring"),
    ] = "",
    memory: Annotated[
        str | None, typer.Option(help="as 4GiB: beyond it, models unused for longest are closed for another")
    ] = None,
    queue: Annotated[int, typer.Option(min=1, max=1000, help="requests under way; others are told to come again")] = 64,
    threads: Threads = None,
    allow_host: Annotated[list[str] | None, typer.Option(help="another name of this server, as behind a proxy")] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="a page or extension that may ask, as moz-extension://...")
    ] = None,
    device_name: DeviceName = "auto",
    gpu_layers: GpuLayers = "auto",
    cpu_experts: CpuExperts = "auto",
    all_cpu_experts: AllCpuExperts = False,
    state: Annotated[
        Path | None,
        typer.Option(
            help="a private folder for documents and glossaries; default: one of the address, in your state's"
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="log each request: never its texts")] = False,
) -> None:
    """Translate for a browser and for programs that speak to LibreTranslate, OpenAI, DeepL or Apertium."""
    from runtime.engines import Offload
    from runtime.measure.memory import parse_memory
    from slimmoe.server.app import Server
    from slimmoe.server.asked import Limits
    from slimmoe.server.guard import Rules
    from slimmoe.server.models import Models, find_models

    found = find_models(models, [parse_pair(each) for each in pairs or []])
    most = parse_memory(memory, f"slimmoe serve {models[0]} --memory 4GiB") if memory is not None else None
    offload = Offload.parse(device_name, gpu_layers, cpu_experts, all_cpu_experts)
    rules = Rules(host, key, tuple(allow_host or ()), tuple(allow_origin or ()))
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO if verbose else logging.WARNING, format="%(asctime)s %(message)s"
    )

    server = Server(Models(found, threads, most, offload), rules, Limits(queue=queue), port, state)
    for model in found:
        print(printable(f"slimmoe: {model.name} translates {', '.join(map(str, model.pairs))}"), file=sys.stderr)
    print(server.address, flush=True)
    print("slimmoe: Ctrl-C ends it.", file=sys.stderr)
    server.run()
