"""The API's page is true: every example on it runs, on a tiny model, and lists every function."""

import re
from pathlib import Path

import pytest

import slimmoe

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_every_example_runs(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.tsv").write_text("The file is open.\tDie Datei ist offen.\nClose it.\tSchließe sie.\n", encoding="utf-8")
    first, *others = EXAMPLES
    names = {"slimmoe": slimmoe, "model": str(tiny_checkpoint)}
    for example in others:
        exec(compile(example, "docs/api.md", "exec"), names)
    exec(compile(first.replace("runs/default-en-de", "run"), "docs/api.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "run/gate-0.5/report.html" in printed and "agrees with" in printed
    assert {path.name for path in tmp_path.iterdir()} >= {
        "run",
        "stats.safetensors",
        "plan.json",
        "cut.gguf",
        "small-onnx",
    }


def test_every_function_has_its_example_and_its_docstring() -> None:
    functions = [name for name in slimmoe.__all__ if callable(getattr(slimmoe, name)) and name[0].islower()]
    assert len(functions) == 15
    for name in functions:
        assert f"slimmoe.{name}(" in PAGE and getattr(slimmoe, name).__doc__
