"""Build llama.cpp once, from the source that the pinned llama-cpp-python carries: library, tools and converter.

One build serves everything, so that the converter, the quantiser, the benchmark and the engine are of one version.
Run as ``python -m tools.build_llama``; it installs into ``<environment>/llama.cpp``:

- ``bin/``  libllama and the tools (llama-quantize, llama-imatrix, llama-bench), and ggml-rpc-server, by which tests have
  a device beside the processor
- ``source/``  the converter ``convert_hf_to_gguf.py`` with its ``conversion`` package and ``gguf-py``

It is for an Nvidia card where CUDA's compiler is found, on macOS for Metal, and for the processor elsewhere. ``CMAKE_ARGS``, as
llama-cpp-python takes it, says otherwise: ``CMAKE_ARGS=-DGGML_VULKAN=ON``.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from runtime.errors import SlimmoeError, WorkError
from runtime.llama_paths import HOME, TOOLS, VERSION

SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"  # of that version's source package
_OFF = (
    "LLAMA_BUILD_TESTS",
    "LLAMA_BUILD_EXAMPLES",
    "LLAMA_BUILD_SERVER",
    "LLAMA_BUILD_APP",
    "LLAMA_CURL",
    "LLAMA_OPENSSL",
)


def _run(step: str, command: list[str], log: Path, environment: dict[str, str] | None = None) -> None:
    """Run a command with its output in a log; of a build, each tenth that is done is told.

    Raises:
        WorkError: it failed; the end of the log says why.
    """
    print(f"llama.cpp: {step}", flush=True)
    told = 0
    with log.open("a", encoding="utf-8") as file:
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True, errors="replace"
        )
        assert child.stdout
        for line in child.stdout:
            file.write(line)
            if (progress := re.match(r"\[(\d+)/(\d+)\]", line)) and 10 * int(progress[1]) // int(progress[2]) > told:
                told = 10 * int(progress[1]) // int(progress[2])
                print(f"llama.cpp: {10 * told} %", flush=True)
        status = child.wait()
    if status:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
        raise WorkError(f"llama.cpp: {step} failed; the end of {log}:\n{tail}", next_command="make setup")


def require_compiler() -> None:
    """Refuse at once where nothing can be compiled."""
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    if compiler is None or shutil.which(compiler.split()[0]) is None:
        raise WorkError(
            "No C++ compiler was found, and llama.cpp is built from source.",
            next_command="sudo apt-get install g++   (macOS: xcode-select --install), then make setup",
        )


def options(given: str, found: Callable[[str], str | None] = shutil.which) -> tuple[list[str], str]:
    """CMake's options, and a sentence where the machine has a card for which they are not; ``given``: what the user adds."""
    chosen = ["-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=ON", "-DCMAKE_BUILD_RPATH_USE_ORIGIN=ON"]
    chosen += [f"-D{name}=OFF" for name in _OFF] + ["-DLLAMA_BUILD_TOOLS=ON", "-DGGML_RPC=ON"]
    # Backends that are loaded at run time (GGML_BACKEND_DL) refuse this: the processor's would have to be compiled for every
    # kind of processor, fourteen times what takes a third of the set-up.
    chosen.append("-DGGML_NATIVE=ON")
    note = ""
    if found("nvidia-smi") and found("nvcc"):
        chosen.append("-DGGML_CUDA=ON")
    elif found("nvidia-smi") and not given:
        note = "an Nvidia card, but no nvcc: built for the processor (install the CUDA toolkit, then make setup)"
    elif found("vulkaninfo") and found("glslc") and not given:
        note = "built for the processor; for a card by Vulkan, which takes 25 minutes: CMAKE_ARGS=-DGGML_VULKAN=ON make setup"
    return chosen + shlex.split(given), note


def build() -> Path:
    """Download, compile and install; returns the folder of the installation. Does nothing where it is already there."""
    given = os.environ.get("CMAKE_ARGS", "")
    built = (HOME / "version").read_text().strip() if (HOME / "version").exists() else ""
    same = built.partition(" ")[0] == VERSION and (not given or built == f"{VERSION} {given}")
    if same and all((HOME / "bin" / tool).exists() for tool in TOOLS):  # older builds have fewer of them
        return HOME
    require_compiler()
    bare = os.environ | {"PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))}
    if missing := [name for name in ("cmake", "ninja") if shutil.which(name, path=bare["PATH"]) is None]:
        raise WorkError(f"{missing[0]} was not found.", next_command="pip install cmake ninja, then the same again")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    jobs = str(os.cpu_count() or 2)
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    log = HOME / "build.log"
    with tempfile.TemporaryDirectory(dir=HOME) as temporary:
        work = Path(temporary)
        wanted = work / "wanted.txt"
        wanted.write_text(f"llama-cpp-python=={VERSION} --hash=sha256:{SHA256}\n")
        source_only = ["--no-deps", "--no-binary", "llama-cpp-python", "--require-hashes", "-r", str(wanted)]
        _run("download", [*pip, "download", "-q", "-d", str(work), *source_only], log)
        with tarfile.open(next(work.glob("llama_cpp_python-*.tar.gz"))) as archive:
            archive.extractall(work, filter="data")
        package = next(path for path in work.glob("llama_cpp_python-*") if path.is_dir())
        source, objects = package / "vendor" / "llama.cpp", work / "objects"
        chosen, note = options(given)
        if note:
            print(f"llama.cpp: {note}", flush=True)
        _run("configure", ["cmake", "-G", "Ninja", "-S", str(source), "-B", str(objects), *chosen], log, bare)
        targets = ["llama", *TOOLS]
        _run(
            "compile (about 5 minutes on 2 cores)",
            ["cmake", "--build", str(objects), "-j", jobs, "-t", *targets],
            log,
            bare,
        )
        binding = bare | {"CMAKE_ARGS": "-DLLAMA_BUILD=OFF -DLLAVA_BUILD=OFF"}
        _run("install the Python binding", [*pip, "install", "-q", "--no-deps", str(package)], log, binding)
        shutil.copytree(objects / "bin", HOME / "bin", symlinks=True)
        (HOME / "source").mkdir()
        shutil.copy2(source / "convert_hf_to_gguf.py", HOME / "source")
        for folder in ("conversion", "gguf-py"):
            shutil.copytree(source / folder, HOME / "source" / folder)
    (HOME / "version").write_text(f"{VERSION} {given}".strip() + "\n")
    return HOME


if __name__ == "__main__":
    try:
        print(f"llama.cpp: ready in {build()}")
    except SlimmoeError as error:
        sys.exit(f"slimmoe: {error}")
