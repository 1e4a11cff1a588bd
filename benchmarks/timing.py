"""Time, arithmetic rate, memory and machine."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

SGEMM_SIZE = 768


def interleaved(candidates: dict[str, Callable[[], object]], *, rounds: int, repeats: dict[str, int] | None = None) -> dict[str, list[float]]:
    """Seconds of every call, measured in turns, so that whatever else the machine does falls on all alike.

    Args:
        candidates: what to time, by name; each is called once before.
        rounds: how often each has its turn.
        repeats: calls a turn, where not 1.
    """
    for call in candidates.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, call in candidates.items():
            for _ in range((repeats or {}).get(name, 1)):
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
    return times


def sgemm() -> Callable[[], object]:
    """A float32 matrix product of this size, to be timed beside what it is the floor of."""
    a = np.random.default_rng(0).random((SGEMM_SIZE, SGEMM_SIZE), dtype=np.float32)
    out = np.empty_like(a)
    return lambda: np.matmul(a, a, out=out)


def flop_rate(seconds: list[float]) -> float:
    """FLOP/s from the times of `sgemm`."""
    return 2 * SGEMM_SIZE**3 / statistics.median(seconds)


def percentile(seconds: list[float], percent: float) -> float:
    """In the unit of `seconds`."""
    return float(np.percentile(seconds, percent))


def vm_hwm_mb(pid: int | str = "self") -> float:
    """Peak resident memory of a running process in MB (10^6 bytes)."""
    return peak_mb(Path(f"/proc/{pid}/status").read_text(encoding="ascii"))


def peak_mb(status: str) -> float:
    """VmHWM in the text of a /proc/PID/status, in MB."""
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024 / 1e6


def machine_text() -> str:
    """Processor, cores, system and versions."""
    libraries = ("numpy", "onnxruntime", "keras", "tf2onnx", "paho-mqtt")
    versions = ", ".join(f"{name} {version(name)}" for name in libraries)
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{cpu_model()}, {os.cpu_count()} cores, {system}, {tensorflow()}, {versions}"


def cpu_model() -> str:
    """As the kernel names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))), platform.machine())


def tensorflow() -> str:
    """Name and version of the TensorFlow distribution."""
    for name in ("tensorflow-cpu", "tensorflow"):
        try:
            return f"{name} {version(name)}"
        except ImportError:  # PackageNotFoundError is one
            continue
    return "no TensorFlow"
