"""The folder that a training run leaves: nothing in it looks finished before it is.

`checkpoint/started.json` says what was started, `checkpoint/state.npz` how far it came. `run.json` is written last, and only for a run that can be
exported: its `status` is `finished`, or `interrupted` when training was stopped by hand and the best epoch so far was kept.
"""

from __future__ import annotations

import csv
import fcntl
import json
import math
import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np

from edge_agent.contract.errors import ConfigError
from edge_agent.contract.schema import HouseSpec
from trainer.loop import Epoch
from trainer.tracking import flat
from trainer.windows import Windows

SCHEMA_VERSION: Final = 1
MODEL, RECORD, SAMPLES, HISTORY, HOUSE = "model.keras", "run.json", "samples.npz", "history.csv", "house.toml"
CHECKPOINT, STARTED, LOCK = "checkpoint", "started.json", "lock"
N_SAMPLES: Final = 64
"""Real windows left for the exporter: enough to judge an int8 graph by."""


class RunFolder:
    """One run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def state(self) -> Path:
        """The training loop's checkpoint."""
        return self.path / CHECKPOINT / "state.npz"

    @property
    def is_started(self) -> bool:
        """Whether it holds a run, however far that came."""
        return self._started.exists()

    @property
    def is_empty(self) -> bool:
        """Whether nothing was learnt in it yet: a run that failed before its first epoch was complete leaves nothing worth going on with."""
        return not (self.path / RECORD).exists() and not any(self.state.parent.glob("*.npz"))

    def start(self, started: dict[str, Any], *, resume: bool) -> None:
        """Take the folder for a new run, or check that it holds this very run and may go on.

        Args:
            started: all that decides the run's result, JSON values.
            resume: go on with what is there.

        Raises:
            ConfigError: the folder holds another run, a finished run, or nothing to resume. The message says which, and what to do.
        """
        if resume:
            self._check_same(started)
            self._take()
            (self.path / RECORD).unlink(missing_ok=True)
            return
        if not self.is_empty:
            raise ConfigError(f"{self.path} holds a run already: go on with it by --resume, or choose another folder with --out")
        self._take()
        write_json(self._started, started)

    def _take(self) -> None:
        """Keep other processes out as long as this object, or the process, lives."""
        self.state.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.state.parent / LOCK, os.O_RDWR | os.O_CREAT)
        weakref.finalize(self, os.close, lock)
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{self.path}: another run is at work here: wait for its end, or choose another folder with --out") from None

    def write_record(self, record: dict[str, Any]) -> None:
        """Write `run.json`, which makes the run usable."""
        write_json(self.path / RECORD, {"schema_version": SCHEMA_VERSION, **record})

    def write_model(self, model: keras.Model) -> None:
        """Write `model.keras`, whole or not at all."""
        partial = self.path / "partial.keras"
        model.save(partial)
        partial.replace(self.path / MODEL)

    def write_house(self, text: str) -> None:
        """Write the house description that the run was made with."""
        (self.path / HOUSE).write_text(text, encoding="utf-8")

    def write_history(self, history: Iterable[Epoch]) -> None:
        """Write one row per epoch."""
        with (self.path / HISTORY).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [f.name for f in fields(Epoch)])
            writer.writeheader()
            writer.writerows(asdict(row) for row in history)

    def write_samples(self, windows: Windows, house: HouseSpec, sensor: str) -> None:
        """Write real windows for the exporter's checks: one stretch of the sensors that the plan reads, and origins in it."""
        self._write_samples([_stretch(windows, windows.plan.training_sensors(house), sensor, n_samples=N_SAMPLES)])

    def write_samples_of_homes(self, parts: Sequence[Windows]) -> None:
        """The same of several homes, whose series hold what the plan reads and nothing else, the target's sensor first."""
        n_samples = max(N_SAMPLES // len(parts), 1)
        self._write_samples([_stretch(part, names := part.builder.series.names, names[0], n_samples=n_samples) for part in parts])

    def _write_samples(self, stretches: Sequence[dict[str, Any]]) -> None:
        np.savez_compressed(self.path / SAMPLES, **{f"{name}_{i}": value for i, stretch in enumerate(stretches) for name, value in stretch.items()})

    @property
    def _started(self) -> Path:
        return self.path / CHECKPOINT / STARTED

    def _check_same(self, started: dict[str, Any]) -> None:
        if not self.is_started:
            raise ConfigError(f"{self.path} holds no run to resume: start it without --resume")
        if (self.path / RECORD).exists() and _read_json(self.path / RECORD).get("status") == "finished":
            raise ConfigError(f"{self.path} holds a finished run, there is nothing to resume: choose another folder with --out")
        said = differences(_read_json(self._started), started)
        if said:
            way_out = "start it without --resume" if self.is_empty else "resume with the flags and data it was started with"
            raise ConfigError(f"{self.path} was started differently: {said}; {way_out}")


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two nested mappings, key by key; empty where nothing does."""
    before, now = flat(before, "."), flat(now, ".")
    other = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    return "; ".join(f"{key} was {before.get(key)!r} and is now {now.get(key)!r}" for key in other)


def _stretch(windows: Windows, sensors: tuple[str, ...], target: str, *, n_samples: int) -> dict[str, Any]:
    """Origins spread over the windows, and the series from `plan.history_s` before the first (NaN where it has none) to a horizon past the last."""
    plan, builder = windows.plan, windows.builder
    picked = windows.origins[np.unique(np.linspace(0, len(windows) - 1, min(n_samples, len(windows))).astype(int))]
    stretch = builder.series.select(sensors).between(int(picked[0]) - plan.history_s, int(picked[-1]) + plan.horizon * plan.step_s)
    return {
        "values": stretch.values,
        "grid": np.array([stretch.start, stretch.step_s], np.int64),
        "features": np.array([[f.name, f.role] for f in stretch.features]),
        "names": np.array([target, builder.zone.key]),
        "origins": picked,
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as err:
        raise ConfigError(f"{path} is damaged ({err}): start anew in another folder with --out") from err


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write `data` so that a reader, or a crash, sees the old file or the new one and nothing between. NaN becomes null."""
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(_without_nan(data), file, indent=2, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
