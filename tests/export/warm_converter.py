"""llama.cpp's converter with its imports already done: conversions are forks of it, so many cost little more than one.

Run as ``python warm_converter.py SOURCE``; a line of JSON in, the arguments of ``converter_process.py`` and what it is told,
gives a line of JSON out, ``[status, output]``.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

ROOM = Path(__file__).parents[2] / "export" / "gguf"


def _serve(source: str) -> None:
    sys.path[:1] = [source, f"{source}/gguf-py", str(ROOM)]
    import conversion.base  # type: ignore[reportMissingImports]  # noqa: F401
    import converter_process  # type: ignore[reportMissingImports]
    import torch._dynamo  # noqa: F401  torch imports it at the first product of lazy tensors

    for line in sys.stdin:
        *arguments, extra = json.loads(line)
        with tempfile.TemporaryFile() as output:
            pid = os.fork()
            if pid == 0:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                status = 0
                try:
                    converter_process.main(*arguments, json.loads(extra))
                except SystemExit as end:
                    status = end.code if isinstance(end.code, int) else int(bool(end.code))
                    if isinstance(end.code, str):
                        print(end.code, file=sys.stderr)
                except BaseException:
                    status = 1
                    traceback.print_exc()
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
            _, status = os.waitpid(pid, 0)
            output.seek(0)
            print(json.dumps([os.waitstatus_to_exitcode(status), output.read().decode(errors="replace")]), flush=True)


class WarmConverter:
    """A context in which ``run_tool`` stands for ``export.gguf.convert.run_tool``; the process starts when first needed."""

    def __init__(self, source: Path) -> None:
        self._cold = importlib.import_module("export.gguf.convert").run_tool
        self._source = source
        self._process: subprocess.Popen[str] | None = None

    def run_tool(self, command: list[str], *rest: Any, told: str = "", **options: Any) -> tuple[int, list[str]]:
        if command[1] != str(ROOM / "converter_process.py"):
            return self._cold(command, *rest, told=told, **options)
        self._process = self._process or subprocess.Popen(
            [sys.executable, __file__, str(self._source)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            text=True,
        )
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([*command[2:], told]) + "\n")
        self._process.stdin.flush()
        status, output = json.loads(self._process.stdout.readline())
        return status, [line.strip() for line in output.splitlines() if line.strip()] or ["no output"]

    def __enter__(self) -> "WarmConverter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.communicate()


if __name__ == "__main__":
    _serve(sys.argv[1])
