"""The API's page is true: every example on it runs, on a tiny model, and lists every function."""

import re
from concurrent.futures import ThreadPoolExecutor
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


def test_a_translator_serves_threads_and_streams(tiny_onnx: Path) -> None:
    texts = [f"The file {number} could not be opened." for number in range(8)]
    with slimmoe.Translator(tiny_onnx / "onnx" / "model.onnx", "en-de", threads=1) as translator:
        alone = list(slimmoe.translate(tiny_onnx / "onnx" / "model.onnx", texts, "en-de", exact=True))
        with ThreadPoolExecutor(4) as pool:
            served = list(pool.map(lambda text: next(translator.translate([text])), texts))
        pieces = list(translator.stream(texts[0]))
        assert served == alone == list(translator.translate(texts))
        assert "".join(pieces) == alone[0] and len(pieces) > 3
        left = translator.stream(texts[1])
        assert next(left)
        left.close()
        assert list(translator.stream("  ")) == []
        with pytest.raises(slimmoe.RequestError, match="the context 1024: split the text"):
            list(translator.stream("word " * 2000))
    with pytest.raises(slimmoe.RequestError, match="names no language pair"):
        slimmoe.Translator(tiny_onnx)
    with pytest.raises(ValueError, match="closed"):
        list(translator.translate(texts))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gguf", "onnx"])
def test_the_default_model_in_batches_translates_as_alone(kind: str, tmp_path: Path) -> None:
    """In float32 and 16 bits a batch rounds too little for other words, save now and then."""
    from runtime.text.corpus import SHIPPED, read_moses
    from runtime.text.pairs import Pair

    model = Path(__file__).parents[2] / "models" / "default"
    if kind == "gguf":
        artefact = slimmoe.export_gguf(model, tmp_path / "model.gguf", "F16")
    else:
        artefact = slimmoe.export_onnx(model, tmp_path / "model", "none")
    texts = [source for source, _ in read_moses(SHIPPED / "test", Pair("en", "de"))]
    exact, batched = (list(slimmoe.translate(artefact, texts, "en-de", exact=each)) for each in (True, False))
    assert len(batched) == len(texts) and all(batched)
    assert sum(one != other for one, other in zip(exact, batched)) <= 3
