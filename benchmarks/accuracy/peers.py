"""What a home could use instead: programs around other people's libraries, run in an environment of their own on the same origins."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.accuracy.cases import Case
from benchmarks.accuracy.houses import ROOT
from benchmarks.accuracy.material import Prepared
from benchmarks.accuracy.store import hash_of
from benchmarks.accuracy.yardsticks import past_origins
from benchmarks.section import ONE_THREAD
from edge_agent.contract.baseline import QUANTILE_LEVELS
from edge_agent.contract.errors import TrainingError
from edge_agent.contract.localtime import utc_offsets_s
from edge_agent.contract.series import Series
from trainer.augment import disaggregate
from trainer.scores import Predictions

Floats = npt.NDArray[np.float64]

HERE: Final = Path(__file__).parent
REQUIREMENTS: Final = HERE / "peers.txt"
SHARED: Final = HERE / "peer_case.py"


@dataclass(frozen=True)
class Peer:
    """Another method, as one program."""

    label: str
    program: str
    """Module of this package that the peers' own Python runs."""
    note: str
    """How it was run, for the reader of the table."""
    settings: dict[str, Any] = field(default_factory=dict)
    homes: tuple[str, ...] = ()
    """Homes that it is meant for; empty: every home's energy."""
    few: bool = False
    """Whether it is asked at few origins only."""
    seed: int | None = None
    kind: str = "peer"
    python: Path = Path("python")
    training: tuple[Prepared, ...] = field(default=(), compare=False)
    """Homes to be trained on instead of the case's own, each of their energy targets."""

    def takes(self, case: Case) -> bool:
        """Energy, with nothing taken away."""
        return case.is_energy and case.variant == "full" and (not self.homes or case.home in self.homes)

    def identity(self, case: Case) -> dict[str, Any]:  # noqa: ARG002
        """Program, settings and library versions."""
        return {
            "code": hash_of(HERE / f"{self.program}.py", SHARED, REQUIREMENTS),
            "settings": {name: value for name, value in self.settings.items() if name != "folder"},
            "training": [home.sha256 for home in self.training],
        }

    def predict(self, case: Case) -> Predictions:
        """Run the program on a file that holds the case.

        Raises:
            TrainingError: it failed.
        """
        with tempfile.TemporaryDirectory(prefix="hearthcast-peer-") as work:
            given, found = Path(work) / "case.npz", Path(work) / "forecasts.npz"
            with given.open("wb") as file:
                np.savez(file, **case_arrays(case), **self._training(case.spec.step_s))
            self._run(given, found, case.home)
            with np.load(found) as data:
                quantiles, mean = data["quantiles"].astype(np.float64), data["mean"].astype(np.float64)
        return case.predictions(np.sort(np.maximum(quantiles, 0.0), axis=2), np.maximum(mean, 0.0), QUANTILE_LEVELS)

    def _run(self, given: Path, found: Path, home: str) -> None:
        settings = json.dumps({**self.settings, "seed": self.seed or 0})
        command = [str(self.python), "-m", f"benchmarks.accuracy.{self.program}", str(given), str(found), settings]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | ONE_THREAD | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
        if done.returncode:
            raise TrainingError(f"{self.label} failed on {home}: {done.stderr[-2000:]}")

    def _training(self, step_s: int) -> dict[str, Any]:
        """Energy `home…` of each training home at the case's step and its wall time `clock…`, `(n_steps,)` each."""
        out: dict[str, Any] = {}
        dice = np.random.default_rng(0)
        for home in self.training:
            for target in home.spec.targets:
                series = at_step(home.series.select((target.sensor,)), target.sensor, step_s, dice)
                times = series.times
                out[f"home{len(out) // 2:03d}"] = series.values[:, 0]
                out[f"clock{len(out) // 2:03d}"] = times + utc_offsets_s(times, home.spec.zone)
        return out


def at_step(series: Series, sensor: str, step_s: int, dice: np.random.Generator) -> Series:
    """A training home at another step: summed, or cut into finer steps as spiky as Hearthcast's own trainer makes them."""
    return disaggregate(series, sensor, step_s, dice) if step_s < series.step_s else series.resample(step_s)


def case_arrays(case: Case) -> dict[str, Any]:
    """What a peer's program reads, as arrays; see `peer_case`."""
    rows = (case.origins - case.series.start) // case.spec.step_s
    times = case.series.start + case.spec.step_s * np.arange(len(case.series) + case.horizon, dtype=np.int64)
    train_rows = (case.train_end - case.series.start) // case.spec.step_s
    past = (past_origins(case) - case.series.start) // case.spec.step_s
    return {
        "energy": case.values,
        "wall_s": times + utc_offsets_s(times, case.spec.zone),
        "step_s": case.spec.step_s,
        "horizon": case.horizon,
        "train_rows": train_rows,
        "origins": rows,
        "past_origins": past,
        "levels": np.array(QUANTILE_LEVELS),
    }
