"""A run: the folder that the trainer leaves and the exporter reads.

`model.keras`   built of Keras layers and keras.ops only; outputs in the order of `run.json`'s `outputs`
`run.json`      see `Run`; the trainer may write more keys, they are its own
`samples.npz`   real stretches of house data, numbered i = 0, 1, …:
                `values_i` float64 (n_steps, n_features), `grid_i` int64 [start, step_s], `features_i` [[name, role], …],
                `names_i` [target sensor, IANA time zone], `origins_i` int64 (n,), unix s.
                A stretch reaches `plan.history_s` before its first origin (NaN where nothing is known) and a horizon past its last: what really
                happened is what an int8 graph is judged by.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from edge_agent.contract.calibration import Calibration
from edge_agent.contract.errors import ConfigError, DataError, ExportError
from edge_agent.contract.features import FeatureBuilder, ModelInputs
from edge_agent.contract.plan import FeaturePlan
from edge_agent.contract.schema import ROLES, Feature
from edge_agent.contract.series import Series
from edge_agent.contract.weather import PerfectWeather

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MODEL, RECORD, SAMPLES = "model.keras", "run.json", "samples.npz"
OUTPUTS: Final = (["quantiles", "mean"], ["mean"])
TYPES: Final[dict[str, type]] = {
    "name": str,
    "plan": dict,
    "outputs": list,
    "calibration": dict,
    "training": dict,
    "scores": dict,
    "versions": dict,
    "git_commit": str,
    "mlflow_run_id": str,
}
"""Keys of run.json that the exporter reads."""


@dataclass(frozen=True, eq=False)
class Sample:
    """A stretch of real house data and origins within it."""

    series: Series
    target: str
    """Sensor that holds the target."""
    time_zone: str
    origins: Ints

    def inputs(self, plan: FeaturePlan, origins: Ints) -> ModelInputs:
        """What the model reads at `origins`; the weather ahead is what was measured later."""
        weather = PerfectWeather(self.series)
        builder = FeatureBuilder(plan.at_step(self.series.step_s), self.series, target=self.target, zone=ZoneInfo(self.time_zone), weather=weather)
        return builder.inputs(origins)

    def actual(self, plan: FeaturePlan, origins: Ints) -> Floats:
        """What happened after each of `origins`, `(n, horizon)`, NaN unknown."""
        horizon_s = plan.horizon * plan.step_s
        return np.stack([self.series.between(int(o), int(o) + horizon_s).column(self.target) for o in origins])


@dataclass(frozen=True, eq=False)
class Run:
    """What a training run says of its model."""

    path: Path
    name: str
    plan: FeaturePlan
    outputs: tuple[str, ...]
    """Names of the model's outputs, in order: `quantiles` (n, horizon, n_levels) and `mean` (n, horizon), or `mean` alone."""
    calibration: Calibration
    training: dict[str, Any]
    scores: dict[str, Any]
    versions: dict[str, str]
    git_commit: str
    mlflow_run_id: str
    samples: tuple[Sample, ...]


def read_run(path: Path) -> Run:
    """The run at `path`.

    Raises:
        ExportError: a file or key is missing or not of the expected form.
    """
    if not path.is_dir():
        raise ExportError(f"{path} is no run: the folder that hearthcast-train fit --out wrote is expected")
    for name in (MODEL, RECORD, SAMPLES):
        if not (path / name).is_file():
            raise ExportError(f"{path}: {name} is missing: the run is not finished; let hearthcast-train fit end, or resume it")
    record = _read_record(path / RECORD)
    try:
        plan, calibration = FeaturePlan.from_dict(record["plan"]), Calibration.from_dict(record["calibration"])
    except (ConfigError, KeyError, TypeError, ValueError) as err:
        raise ExportError(f"{path / RECORD}: plan or calibration cannot be used ({err}): train again with this version") from err
    if record["outputs"] not in OUTPUTS:
        raise ExportError(f"{path / RECORD}: outputs {record['outputs']!r}: {' or '.join(map(str, OUTPUTS))} is expected")
    if record["outputs"] == ["mean"] and calibration.residuals is None:
        raise ExportError(f"{path / RECORD}: a model that outputs a mean only needs residuals in its calibration: train again")
    others = {key: record[key] for key in TYPES if key not in ("plan", "outputs", "calibration")}
    return Run(path=path, plan=plan, outputs=tuple(record["outputs"]), calibration=calibration, samples=_read_samples(path / SAMPLES, plan), **others)


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)  # NaN has no place in a manifest
    except (OSError, ValueError) as err:
        raise ExportError(f"{path}: cannot be read ({err}): train again") from err
    for key, kind in TYPES.items():
        if not isinstance(record.get(key), kind):
            raise ExportError(f"{path}: key {key!r} is {record.get(key)!r}: a {kind.__name__} is expected; train again with this version")
    return dict(record)


def _read_samples(path: Path, plan: FeaturePlan) -> tuple[Sample, ...]:
    try:
        with np.load(path, allow_pickle=False) as file:
            count = sum(name.startswith("origins_") for name in file.files)
            samples = tuple(_sample(file, i) for i in range(count))
        for sample in samples:
            plan.at_step(sample.series.step_s)
            sample.series.position(sample.target)
    except (OSError, ValueError, KeyError, EOFError, DataError, ConfigError) as err:
        raise ExportError(f"{path}: cannot be used ({err}): train again with this version") from err
    samples = tuple(sample for sample in samples if len(sample.origins))
    if not samples:
        raise ExportError(f"{path}: holds no origin: an export is proven on real windows; train again with more data")
    return samples


def _sample(file: Any, i: int) -> Sample:
    start, step_s = (int(v) for v in file[f"grid_{i}"])
    features = tuple(Feature(str(name), str(role)) for name, role in file[f"features_{i}"])
    unknown = {f.role for f in features} - set(ROLES)
    if unknown:
        raise DataError(f"unknown roles {sorted(unknown)}")
    target, zone = (str(v) for v in file[f"names_{i}"])
    return Sample(Series(start, step_s, features, file[f"values_{i}"].astype(np.float64)), target, zone, file[f"origins_{i}"].astype(np.int64))
