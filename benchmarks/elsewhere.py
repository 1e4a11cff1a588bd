"""The same forecasts on another kind of machine: run it here, copy the file there, run it there on the same file.

    python -m benchmarks.elsewhere forecasts.npz

Needs nothing but the agent's own libraries: `pip install ".[edge]"`, in a clone.
"""

from __future__ import annotations

import argparse
import platform
import resource
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.material import house, series
from edge_agent.contract.series import Series
from edge_agent.forecaster import base_forecaster

ALLOWED: Final = 1e-5
"""Largest difference, relative to the largest value of a forecast."""
EVERY_S: Final = 25 * 3600
"""Between two origins: all hours of the day come."""
FIRST_S: Final = 12 * 3600
"""History of the first origin: the climatology forecasts it, then comes the masked model, then the whole one."""


def forecasts() -> dict[str, np.ndarray[Any, Any]]:
    """What the shipped base model makes of a made-up house, in one array a kind, the first axis the origins."""
    spec, past = house(), series()
    forecaster = base_forecaster(spec, spec.targets[0].name)
    read = past.select(forecaster.sensors)
    padded = np.full((forecaster.history_s // spec.step_s, len(forecaster.sensors)), np.nan)
    whole = Series(read.start - forecaster.history_s, spec.step_s, read.features, np.concatenate([padded, read.values]))
    origins = range(past.start + FIRST_S, past.end, EVERY_S)
    made = [forecaster.forecast(whole, origin, issued_at=origin) for origin in origins]
    totals = [forecast.totals["tomorrow"] for forecast in made]
    return {
        "quantiles": np.stack([forecast.quantiles for forecast in made]),
        "mean": np.stack([forecast.mean for forecast in made]),
        "totals": np.array([(total.value, total.p10, total.p90) for total in totals]),
        "grades": np.array([forecast.grade for forecast in made]),
    }


def difference(here: dict[str, np.ndarray[Any, Any]], there: dict[str, np.ndarray[Any, Any]]) -> float:
    """Largest difference of a value, relative to the largest one of its forecast; infinite where grades or shapes differ."""
    if here["grades"].tolist() != there["grades"].tolist() or here["quantiles"].shape != there["quantiles"].shape:
        return float("inf")
    worst = 0.0
    for kind in ("quantiles", "mean", "totals"):
        axes = tuple(range(1, here[kind].ndim))
        scale = np.abs(there[kind]).max(axis=axes)
        worst = max(worst, float((np.abs(here[kind] - there[kind]).max(axis=axes) / scale).max()))
    return worst


def main() -> int:
    """Write the file where there is none, else compare with it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.elsewhere", description=__doc__.split("\n", 1)[0])
    parser.add_argument("file", type=Path, help="forecasts of the other machine (.npz); written when there is none")
    path = parser.parse_args().file
    begun = time.perf_counter()
    made = forecasts()
    seconds, peak_mb = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    grades = ", ".join(f"{n} {grade}" for grade, n in Counter(made["grades"].tolist()).items())
    versions = f"Python {platform.python_version()}, numpy {np.__version__}, ONNX Runtime {version('onnxruntime')}"
    print(f"{platform.machine()}, {versions}: {len(made['grades'])} forecasts ({grades}) in {seconds:.1f} s, peak {peak_mb:.0f} MB")
    if not path.exists():
        np.savez(path, **made)
        print(f"written to {path}: copy it to the other machine, and run this there")
        return 0
    with np.load(path) as kept:
        worst = difference(made, dict(kept))
    print(f"largest difference {worst:.2g} of a forecast's largest value; allowed {ALLOWED:g}")
    return 0 if worst <= ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main())
