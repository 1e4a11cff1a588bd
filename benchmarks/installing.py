"""Install size: the gateway's environment, made afresh, beside the trainer's and the exporter's."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from benchmarks import material
from benchmarks.section import Claim, Section, run_group

WANTED_MB = 150.0
EDGE = material.BUILD / "edge-environment"
LARGEST = 5


def measure(_quick: bool) -> list[Section]:
    """Install the extra `edge` into a fresh environment and weigh it."""
    site = edge_environment()
    edge_mb = folder_mb(site)
    parts = sorted(((folder_mb(p), p.name) for p in site.iterdir() if not p.name.endswith(".dist-info")), reverse=True)[:LARGEST]
    trainer_mb, count = closure_mb("hearthcast", {"train", "export"})
    rows = [
        ["extra `edge`, fresh environment", f"{edge_mb:.0f}", "1"],
        *([f"- of these {name}", f"{size:.0f}", f"{size / edge_mb:.2f}"] for size, name in parts),
        [f"extras `train` and `export` ({count} packages)", f"{trainer_mb:.0f}", f"{trainer_mb / edge_mb:.0f}"],
    ]
    text = "site-packages in MB (10^6 bytes), without pip and without compiled bytecode. The floor is what onnxruntime and numpy weigh."
    claim = Claim("edge install", f"< {WANTED_MB:.0f} MB", f"{edge_mb:.0f} MB", edge_mb < WANTED_MB)
    return [Section("Install size", text, ["", "MB", "ratio"], rows, [claim])]


def edge_environment() -> Path:
    """site-packages of an environment of its own with the extra `edge` alone; made when missing."""
    python = EDGE / "bin" / "python"
    if not python.exists():
        shutil.rmtree(EDGE, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(EDGE)], check=True)
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python), "--constraint", "constraints.txt"]
    # the code as it is now, and compiled as pip does it: else the first start of every module is slow
    as_it_is = ["--refresh-package", "hearthcast", "--reinstall-package", "hearthcast", "--compile-bytecode"]
    subprocess.run([*install, *as_it_is, ".[edge]"], check=True, cwd=material.ROOT)
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.run([str(python), "-c", script], check=True, capture_output=True, text=True).stdout.strip())


def folder_mb(path: Path) -> float:
    """Size of a file or folder without compiled bytecode."""
    files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    return sum(f.stat().st_size for f in files) / 1e6


def closure_mb(name: str, extras: set[str]) -> tuple[float, int]:
    """Size and number of the installed packages that `name[extras]` needs, itself left out."""
    todo, seen = [(name, frozenset(extras))], set[tuple[str, frozenset[str]]]()
    while todo:
        item = todo.pop()
        if item in seen:
            continue
        seen.add(item)
        todo += [(r.name, frozenset(r.extras)) for r in _requirements(*item)]
    packages = {re.sub(r"[-_.]+", "-", package).lower() for package, _ in seen} - {name}
    sizes = [size for package in packages if (size := _installed_mb(package)) is not None]
    return sum(sizes), len(sizes)


def _requirements(name: str, extras: frozenset[str]) -> list[Requirement]:
    try:
        needed = [Requirement(text) for text in distribution(name).requires or []]
    except PackageNotFoundError:  # for another platform
        return []
    return [r for r in needed if r.marker is None or any(r.marker.evaluate({"extra": extra}) for extra in extras | {""})]


def _installed_mb(name: str) -> float | None:
    try:
        files = distribution(name).files or []
    except PackageNotFoundError:
        return None
    paths = [Path(str(f.locate())) for f in files if "__pycache__" not in f.parts]
    return sum(p.stat().st_size for p in paths if p.is_file()) / 1e6


if __name__ == "__main__":
    sys.exit(run_group(measure))
