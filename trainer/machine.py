"""What a run was made with and on: library versions, git commit, machine."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

PACKAGES: Final = ("hearthcast", "keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy", "pandas", "mlflow")


def made_with() -> dict[str, Any]:
    """What a run's record says of all this."""
    return {"versions": library_versions(), "git_commit": git_commit(), "machine": machine()}


def library_versions() -> dict[str, str]:
    """Version by package, of those installed, and of Python."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def git_commit() -> str:
    """Commit of the checkout that this code runs from, with `-dirty` when it has changes; empty where it is no checkout."""
    here = Path(__file__).resolve()
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:  # installed, perhaps inside somebody else's repository
        return ""
    commit = _git(here.parent, "rev-parse", "HEAD") or ""
    return f"{commit}-dirty" if commit and _git(here.parent, "status", "--porcelain", "--untracked-files=no") else commit


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def machine() -> dict[str, Any]:
    """What the run was made on; no names, so that a run can be handed on."""
    return {"system": platform.system(), "architecture": platform.machine(), "cores": os.cpu_count()}


def peak_memory_mb() -> float:
    """Most memory this process has held at once, in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
