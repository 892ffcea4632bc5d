"""Where a GGUF file is written."""

import os
from pathlib import Path

from runtime.errors import RequestError


def output_path(output: Path | str, name: str, command: str) -> Path:
    """``output``, or the file ``name`` in it where it is a folder or ends with a slash.

    Args:
        command: without its -o, for the error.

    Raises:
        RequestError: a file name that does not end in .gguf, by which all programs know such files.
    """
    path = Path(output)
    if path.is_dir() or str(output).endswith(("/", os.sep)):
        return path / name
    if path.suffix != ".gguf":
        raise RequestError(
            f"{output} does not end in .gguf; a folder ends with a slash.", next_command=f"{command} -o {output}/"
        )
    return path
