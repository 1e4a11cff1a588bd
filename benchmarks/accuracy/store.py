"""Forecasts on disk: what was computed once for the same method, code and data is not computed again."""

from __future__ import annotations

import hashlib
import json
import resource
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.accuracy.cases import Case
from trainer.scores import Predictions


class Method(Protocol):
    """Anything that forecasts a case."""

    label: str
    """The row that it stands in; methods that differ by their seed alone share one."""
    kind: str
    """`yardstick`, `hearthcast` or `peer`."""
    seed: int | None

    def takes(self, case: Case) -> bool:
        """Whether the method is meant for this case."""

    def identity(self, case: Case) -> dict[str, Any]:
        """All that its forecasts depend on beside the case: parameters, hashes of code and of models. JSON-able."""

    def predict(self, case: Case) -> Predictions:
        """Its forecasts at the case's origins."""


@dataclass(frozen=True, eq=False)
class Result:
    """What a method forecast, and what that cost."""

    predictions: Predictions
    cpu_s: float
    """Training and forecasting."""


class Store:
    """A folder of results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, method: Method, case: Case) -> Path:
        """Where the result lies, or will."""
        whole = json.dumps([method.label, method.seed, method.identity(case), case.fingerprint], sort_keys=True)
        key = hashlib.sha256(whole.encode()).hexdigest()[:16]
        words = f"{method.label}-{method.seed}" if method.seed is not None else method.label
        slug = "".join(c if c.isalnum() else "-" for c in words.lower())[:60]
        return self.folder / f"{case.home}-{case.target}-{case.variant}-{len(case.origins)}" / f"{slug}-{key}.npz"

    def get(self, method: Method, case: Case) -> Result | None:
        """The result, if it is there."""
        path = self.path(method, case)
        if not path.is_file():
            return None
        with np.load(path) as data:
            quantiles, mean = data["quantiles"].astype(np.float64), data["mean"].astype(np.float64)
            levels = tuple(data["quantile_levels"].tolist())
            return Result(case.predictions(quantiles, mean, levels), float(data["cpu_s"]))

    def make(self, method: Method, case: Case) -> Result:
        """The result; computed, and kept, when it is not there yet."""
        known = self.get(method, case)
        if known is not None:
            return known
        started = _cpu_s()
        predictions = method.predict(case)
        cpu_s = _cpu_s() - started
        path = self.path(method, case)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("wb") as file:  # a run that is stopped must not leave half a result under the final name
            np.savez_compressed(
                file,
                origins=predictions.origins,
                quantile_levels=np.array(predictions.quantile_levels),
                quantiles=predictions.quantiles.astype(np.float32),
                mean=predictions.mean.astype(np.float32),
                cpu_s=cpu_s,
            )
        part.replace(path)
        return self.get(method, case) or Result(predictions, cpu_s)


def _cpu_s() -> float:
    """Processor time of this process and of the programs that it has run: wall time says more about what else the machine does."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


@cache
def hash_of(*paths: Path) -> str:
    """sha256 over the contents of files, and of all files in folders, as they were when first asked for, as code is that runs."""
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
