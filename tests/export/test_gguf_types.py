"""Types: every one that llama.cpp writes has advice that is true, and none depends on the number of experts."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from export.gguf import export_gguf
from export.gguf.convert import run_tool
from export.gguf.imatrix import write_imatrix
from export.gguf.quantise import _restore_count, find_type, options_of, quantise, type_names
from export.gguf.types import ALIASES, TYPES, list_types
from prune.calibrate.imatrix import Entry, ImportanceMatrix
from runtime import llama_paths
from runtime.errors import RequestError, WorkError
from runtime.formats.gguf_file import GgufFile
from tests.tiny import write_tiny_checkpoint

KEY, ORDINARY = "qwen3moe.expert_count", 12


def types_of(path: Path) -> dict[str, str]:
    return {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(path).tensors}


@pytest.fixture(scope="module")
def plain(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bf16 file of 8 experts."""
    return export_gguf(tiny_checkpoint, tmp_path_factory.mktemp("plain") / "model.gguf", "BF16")


@pytest.fixture(scope="module")
def imatrix(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ones for every weight: the types depend on its being there, not on its numbers."""
    entries = {}
    for name, tensor in GgufFile(plain).tensors.items():
        if name.endswith(".weight") and len(tensor.shape) > 1:
            matrices = tensor.shape[0] if len(tensor.shape) == 3 else 1
            entries[name] = Entry(np.ones((matrices, tensor.shape[-1]), np.float32), np.ones(matrices, np.float32))
    path = tmp_path_factory.mktemp("imatrix") / "en-de.gguf"
    write_imatrix(ImportanceMatrix(entries), path)
    return path


def planned(plain: Path, quant: str, imatrix: Path | None = None) -> tuple[list[str], bool]:
    """Tensors with the types that llama-quantize would give them, and whether it would ask for an importance matrix."""
    options = ["--dry-run", *options_of(GgufFile(plain), quant, imatrix)]
    command = [str(llama_paths.HOME / "bin" / "llama-quantize"), *options, str(plain), quant]
    status, lines = run_tool(command, folder=imatrix.parent if imatrix else None)
    assert status == 0, lines[-1]
    found = [re.sub(r"^\[.*?\]|size = .*->", "", line) for line in lines if line.startswith("[")]
    assert len(found) == len(GgufFile(plain).tensors)
    return found, any("will require an imatrix" in line for line in lines)


def test_the_table_has_the_types_of_the_built_tool_and_no_others() -> None:
    assert set(TYPES) | set(ALIASES) == set(type_names())


def test_every_line_of_advice_fits_a_terminal() -> None:
    lines = list_types().splitlines()
    assert len(lines) == 1 + len(TYPES) and max(map(len, lines)) <= 80


@pytest.mark.parametrize("quant", [name for name in TYPES if name not in ("F32", "F16", "BF16")])
def test_no_type_depends_on_the_number_of_experts(quant: str, plain: Path, imatrix: Path, tmp_path: Path) -> None:
    types: dict[int, list[list[str]]] = {}
    for count in (ORDINARY, 8, 3, 1):
        source = tmp_path / f"{count}.gguf"
        shutil.copyfile(plain, source)
        _restore_count(source, KEY, 8, count)
        without, needed = planned(source, quant)
        assert needed == (TYPES[quant].imatrix == "needed")
        types[count] = [without, planned(source, quant, imatrix)[0]]
    assert types[8] == types[3] == types[1] == types[ORDINARY]


def test_the_files_themselves_are_equal_but_for_the_number(plain: Path, tmp_path: Path) -> None:
    other, written = tmp_path / "other.gguf", []
    shutil.copyfile(plain, other)
    _restore_count(other, KEY, 8, ORDINARY)
    for source in (plain, other):
        quantise(source, tmp_path / "x.gguf", "Q3_K_M")
        tensors = GGUFReader(tmp_path / "x.gguf").tensors
        written.append({tensor.name: (tensor.tensor_type, tensor.data.tobytes()) for tensor in tensors})
        assert GgufFile(tmp_path / "x.gguf").get(KEY) == GgufFile(source).get(KEY)
    assert written[0] == written[1]


def test_a_type_that_needs_an_importance_matrix_says_how_to_get_one(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkError, match=r"requires an imatrix.*\n.*--pair"):
        quantise(plain, tmp_path / "x.gguf", "IQ2_XXS")


def test_a_single_expert_is_mxfp4_too(tmp_path: Path) -> None:
    one = write_tiny_checkpoint(tmp_path / "one", num_experts=1, num_experts_per_tok=1)
    path = export_gguf(one, tmp_path / "one.gguf", "MXFP4_MOE")
    types = types_of(path)
    assert {kind for name, kind in types.items() if "_exps" in name} == {"MXFP4"}
    assert types["blk.0.attn_q.weight"] == "Q8_0"
    tool = llama_paths.HOME / "bin" / "llama-bench"
    assert subprocess.run([tool, "-m", path, "-p", "8", "-n", "2", "-r", "1"], capture_output=True).returncode == 0


def test_rows_that_a_type_cannot_hold_are_told_with_their_cost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, plain: Path
) -> None:
    narrow = write_tiny_checkpoint(tmp_path / "narrow", moe_intermediate_size=96)
    export_gguf(narrow, tmp_path / "narrow.gguf", "Q4_K_M")
    # down projections, some of them Q6_K: 2 layers x 8 experts x 256 rows x 96 columns
    found = [record.message for record in caplog.records]
    assert len(found) == 2
    for message in found:
        assert "rows of 96 weights, not a multiple of 256" in message and "MB (" in message
        assert message.endswith("ffn_down_exps.weight.")
    assert "as Q8_0 instead of Q6_K" in caplog.text and "as Q5_0 instead of Q4_K" in caplog.text
    caplog.clear()
    quantise(plain, tmp_path / "wide.gguf", "Q4_K_M")
    assert not caplog.text


def test_names_are_found_in_any_case_and_by_their_alias() -> None:
    assert (find_type("iq4_xs"), find_type("q4_k")) == ("IQ4_XS", "Q4_K_M")
    with pytest.raises(RequestError, match=r"(?s)Q5_K_M.*--help"):
        find_type("Q99")
