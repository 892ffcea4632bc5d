"""Everything that a variant was written as, held against what it was written from: one verify.json."""

from dataclasses import replace
from pathlib import Path

from runtime.errors import WorkError
from runtime.formats.onnx_folder import FILES as ONNX_FILES
from slimmoe.variants import Variant


def verify_all(variant: Variant, cut: Path, folder: Path, artefacts: dict[str, Path], dev: Path, output: Path) -> None:
    """Verify the cut against the masked model, and each format, exact and as it was written, against the checkpoint.

    The exact artefacts (F32, none) lie beside ``output`` while they are needed.

    Args:
        cut: the checkpoint as it was cut.
        folder: the checkpoint that the artefacts were written from, which may be recovered.
        artefacts: by type.
        dev: text that both sides get.

    Raises:
        WorkError: one of them differs; names it.
    """
    from export.gguf import export_gguf
    from export.onnx import export_onnx
    from export.verification import Verification, add_to_record
    from export.verify import verify

    def check(artefact: Path, against: Path, name: str) -> None:
        found: Verification = verify(artefact, against, dev, variant.pair)
        found = replace(found, artefact=name)
        add_to_record(output, found)
        if not found.passed:
            raise WorkError(found.sentence())

    check(cut, variant.model, str(cut))
    formats = {"ONNX" if kind in ONNX_FILES else "GGUF" for kind in artefacts}
    if "GGUF" in formats:
        exact = export_gguf(folder, output.with_name(".exact.gguf"), "F32")
        check(exact, folder, "the same checkpoint as GGUF F32")
        exact.unlink()
        exact.with_suffix(".Modelfile").unlink(missing_ok=True)
    if "ONNX" in formats:
        exact = export_onnx(folder, output.with_name(".exact-onnx"), "none")
        check(exact, folder, "the same checkpoint as ONNX float32")
    for path in artefacts.values():
        check(path, folder, str(path))
