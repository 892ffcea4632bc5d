"""Fetch the packages of packages.toml with apt, as the machine has it configured (Debian 12)."""

import glob
import re
import subprocess
import tomllib
from pathlib import Path

PACKAGES = tomllib.loads((Path(__file__).parent / "packages.toml").read_text(encoding="utf-8"))


def _apt(state: Path, *arguments: str, cwd: Path | None = None) -> str:
    """Run apt-get with package lists of its own, so that the machine's stay as they are; returns its output."""
    (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    options = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": state / "sources.d",
        "Dir::State::lists": state / "lists",
        "Dir::Cache::srcpkgcache": state / "src.bin",
        "Dir::Cache::pkgcache": state / "pkg.bin",
        "Acquire::Languages": ",".join(PACKAGES["descriptions"]),
    }
    command = ["apt-get", "-q", *(f"-o{key}={value}" for key, value in options.items()), *arguments]
    return subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True).stdout


def _source_lists(state: Path) -> None:
    """Copy the machine's Debian sources and ask for source packages as well."""
    (state / "sources.d").mkdir(parents=True, exist_ok=True)
    for path in glob.glob("/etc/apt/sources.list.d/*.sources"):
        text = re.sub(r"^Types: deb$", "Types: deb deb-src", Path(path).read_text(), flags=re.M)
        (state / "sources.d" / Path(path).name).write_text(text)
    plain = Path("/etc/apt/sources.list")
    if plain.exists() and plain.stat().st_size:
        lines = plain.read_text().splitlines()
        lines += [line.replace("deb ", "deb-src ", 1) for line in lines if line.startswith("deb ")]
        (state / "sources.d" / "machine.list").write_text("\n".join(lines) + "\n")


def binary_packages() -> list[str]:
    """Every binary package that packages.toml names."""
    names = {PACKAGES["dictionary"]["package"], PACKAGES["entities"]["package"], *PACKAGES["messages"]}
    for rule in (PACKAGES["catalogues"], PACKAGES["help"], PACKAGES["code"], *PACKAGES["manuals"].values()):
        names.update(rule["packages"])
    return sorted(names)


def download(work: Path) -> Path:
    """Fetch everything into ``work/packages`` and return that folder; files already there are kept."""
    state, packages = work / "apt", work / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    _source_lists(state)
    _apt(state, "update")
    missing = [name for name in binary_packages() if not glob.glob(str(packages / f"{name}_*.deb"))]
    if missing:
        _apt(state, "download", *missing, cwd=packages)
    for name, spec in PACKAGES["sources"].items():
        for line in _apt(state, "--print-uris", "source", "--download-only", name).splitlines():
            if not line.startswith("'"):
                continue
            address, file, _, checksum = line.split()
            wanted = re.search(spec["archive"], file) and not re.search(r"\.(asc|dsc)$|\.debian\.tar", file)
            if wanted and not (packages / file).exists():
                fetch = [
                    "/usr/lib/apt/apt-helper",
                    "-q",
                    "download-file",
                    address.strip("'"),
                    packages / file,
                    checksum,
                ]
                subprocess.run(fetch, check=True, stdout=subprocess.DEVNULL)
    return packages
