"""The MLflow pyfunc model: a table of raw sensor rows in, the forecast out. MLflow keeps a copy of this file and runs it to load the model.

Where it is loaded (a notebook, a server, a Spark worker) only the packages named in `requirements` are needed; our own code travels with the model.
A model of one house knows its columns. A model over many homes is asked with a row for each home: the text of its `house.toml`, and its readings as
arrays. Under Spark a forecast needs days of readings at once, so both forms take whole tables as the cells of one row; `fleet.py` makes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import mlflow.pyfunc
import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.models import ModelSignature, set_model
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType, Array

from edge_agent.contract.calibration import Calibration, publish
from edge_agent.contract.errors import ConfigError, DataError, HearthcastError
from edge_agent.contract.features import FeatureBuilder
from edge_agent.contract.plan import FeaturePlan
from edge_agent.contract.schema import HouseSpec, parse_house
from edge_agent.contract.series import Series
from trainer.datasets import columns_of, series_of_rows
from trainer.findings import Findings
from trainer.quiet import without_native_stderr
from trainer.readings import SENSOR, TIME, VALUE, series_of_readings
from trainer.table_files import rows_of

PROBLEM: Final = "problem"
MIN_KNOWN_SHARE: Final = 0.5
"""As on the gateway: a model whose target is known for less of its context is not asked."""
MODEL, RECORD, HOUSE = "model.keras", "run.json", "house.toml"
REQUIREMENTS: Final = ("mlflow", "keras", "numpy", "pandas", "tzdata")


class HouseForecaster(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """One run's model, with everything between raw rows and published quantiles."""

    def load_context(self, context: Any) -> None:
        """Read the run folder."""
        with without_native_stderr():
            import keras

        files = {name: Path(path) for name, path in context.artifacts.items()}
        record = json.loads(files[RECORD].read_text(encoding="utf-8"))
        # a model over many homes has none of its own
        self.house = parse_house(files[HOUSE].read_text(encoding="utf-8"), source=HOUSE) if HOUSE in files else None
        self.plan = FeaturePlan.from_dict(record["plan"])
        self.calibration = Calibration.from_dict(record["calibration"])
        self.outputs = list(record["outputs"])
        self.model = keras.models.load_model(files[MODEL], compile=False)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002 (MLflow's names)
        """The forecast for the steps after the last row in which the target is known.

        Args:
            context: unused.
            model_input: raw rows, ascending: `time` (ISO text or timestamps, on the house's table clock or with an offset) and the columns of the
                house's tables in their units. Columns but the target's may be missing, values may be; more days than the context are better.
                Or one row for each of many such tables, each cell the array of a column.
                A model over many homes takes a row for each home instead: `house` (the text of its house.toml) and the arrays `time`, `sensor` and
                `value` of its readings (`readings.py`).
            params: unused.

        Returns:
            A row for each step of the horizon: `time` (start of the step, house's zone), `mean`, `p10` … `p90`, in the target's canonical unit
            (energy: Wh in the step). Of many tables: a row for each, each cell an array over the horizon, `time` as ISO text. Of many homes the same
            with `problem`, which says of a home that has no forecast why, and is else empty.

        Raises:
            DataError: times cannot be read, or the target is known for less than half of what the model looks at (not for many homes).
        """
        if self.house is None:
            return pd.DataFrame([self._answer(row) for _, row in model_input.iterrows()])
        if len(model_input) and TIME in model_input and isinstance(model_input[TIME].iloc[0], (list, tuple, np.ndarray)):
            return pd.DataFrame([as_arrays(self._forecast(raw_series(self.house, table), self.house, self.plan)) for table in tables_in(model_input)])
        return self._forecast(raw_series(self.house, model_input), self.house, self.plan)

    def _answer(self, row: pd.Series) -> dict[str, Any]:
        """The forecast of one of many homes as the cells of one row; the fault of a home must not cost the others theirs."""
        try:
            house = parse_house(str(row["house"]), source=HOUSE)
            # a few days, to forecast from: as raw rows, they are repaired and their units believed
            series = series_of_readings(house, row, Findings("readings", repair=True), judge_units=False)
            return {**as_arrays(self._forecast(series, house, plan_in(house, self.plan))), PROBLEM: ""}
        except Exception as err:  # noqa: BLE001 (one home must not end the others' work; its fault is told)
            names = (TIME, "mean", *level_names(self.plan))
            return {**{name: [] for name in names}, PROBLEM: str(err) if isinstance(err, HearthcastError) else f"{type(err).__name__}: {err}"}

    def _forecast(self, series: Series, house: HouseSpec, plan: FeaturePlan) -> pd.DataFrame:
        sensor = house.target(plan.target).sensor
        builder = FeatureBuilder(plan, series, target=sensor, zone=house.zone)
        origin = end_of_known(builder, sensor)
        outputs = dict(zip(self.outputs, self._run(builder, origin), strict=True))
        quantiles, mean = publish(outputs.get("quantiles"), outputs["mean"], self.calibration, plan)
        return forecast_table(origin, quantiles[0], mean[0], plan=plan, house=house)

    def _run(self, builder: FeatureBuilder, origin: int) -> list[npt.NDArray[np.float64]]:
        outputs = self.model.predict_on_batch(builder.inputs(np.array([origin], np.int64)).arrays)
        return [np.asarray(value, np.float64) for value in (outputs if isinstance(outputs, (list, tuple)) else [outputs])]


def tables_in(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The table that each row holds as arrays; a column that is null is left out."""
    for _, row in rows.iterrows():
        yield pd.DataFrame({name: list(cell) for name, cell in row.items() if isinstance(cell, (list, tuple, np.ndarray))})


def plan_in(house: HouseSpec, plan: FeaturePlan) -> FeaturePlan:
    """The plan of a model over many homes at the house's step, for its first target that the model can forecast.

    Raises:
        ConfigError: it has none, or its step does not fit.
    """
    fitting = [target.name for target in house.targets if house.sensor(target.sensor).role == plan.role]
    if not fitting:
        raise ConfigError(f"house {house.site!r} has no target of role {plan.role}, which the model forecasts: add one to [[targets]]")
    return replace(plan.at_step(house.step_s), target=fitting[0])


def level_names(plan: FeaturePlan) -> list[str]:
    """Columns of the quantiles: `p10` and so on."""
    return [f"p{100 * level:g}" for level in plan.quantile_levels]


def as_arrays(forecast: pd.DataFrame) -> dict[str, Any]:
    """One forecast as the cells of one row."""
    cells = {name: column.to_numpy() for name, column in forecast.items()}
    return {**cells, TIME: [time.isoformat() for time in forecast[TIME]]}


def raw_series(house: HouseSpec, rows: pd.DataFrame) -> Series:
    """The house's series from raw rows; what a table would be repaired for is repaired.

    Raises:
        DataError: there is no time column, or times cannot be read.
    """
    if TIME not in rows.columns:
        raise DataError(f"the rows have no column {TIME!r}, only {', '.join(map(str, rows.columns))}: name the time column {TIME!r}")
    columns = columns_of(house)
    findings = Findings("rows", repair=True)
    table = rows_of(rows.reindex(columns=[TIME, *columns]), columns, findings)
    return series_of_rows(house, table, findings, judge_units=False)


def end_of_known(builder: FeatureBuilder, target: str) -> int:
    """Unix s just after the last step whose `target` sensor is known: the origin.

    Raises:
        DataError: nothing is known, or too little of the model's context.
    """
    known = np.flatnonzero(np.isfinite(builder.target))
    if not len(known):
        raise DataError(f"no value of {target!r} is known: give rows of the last {builder.plan.context_s / 86_400:g} days with its column")
    origin = builder.series.start + (int(known[-1]) + 1) * builder.series.step_s
    share = builder.known_share(origin, target, builder.plan.context_s)
    if share < MIN_KNOWN_SHARE:
        days = builder.plan.context_s / 86_400
        raise DataError(f"{target!r} is known for {share:.0%} of the last {days:g} days, the model needs {MIN_KNOWN_SHARE:.0%}: give more rows")
    return origin


def forecast_table(
    origin: int, quantiles: npt.NDArray[np.float64], mean: npt.NDArray[np.float64], *, plan: FeaturePlan, house: HouseSpec
) -> pd.DataFrame:
    """One row for each step of the horizon."""
    times = pd.to_datetime(origin + plan.step_s * np.arange(len(mean)), unit="s", utc=True).tz_convert(house.time_zone)
    levels = {name: quantiles[:, i] for i, name in enumerate(level_names(plan))}
    return pd.DataFrame({TIME: times, "mean": mean, **levels})


def signature(house: HouseSpec | None, plan: FeaturePlan) -> ModelSignature:
    """Raw rows in, forecast out; only the time and the target's column are required.

    The columns are of any type, because MLflow would refuse times that are not text, and whole numbers where it expects fractions: a table read by
    pandas has both. `metadata` says what they mean.
    """
    if house is None:
        # arrays of any type: checking each of their values would take longer than the forecast
        inputs = [ColSpec(DataType.string, "house"), *(ColSpec(AnyType(), name) for name in (TIME, SENSOR, VALUE))]
        arrays = [ColSpec(Array(DataType.double), name) for name in ("mean", *level_names(plan))]
        return ModelSignature(Schema(inputs), Schema([ColSpec(Array(DataType.string), TIME), *arrays, ColSpec(DataType.string, PROBLEM)]))
    target = house.sensor(house.target(plan.target).sensor).column
    columns = [ColSpec(AnyType(), name, required=name == target) for name in columns_of(house)]
    levels = [ColSpec(DataType.double, name) for name in level_names(plan)]
    outputs = [ColSpec(DataType.datetime, TIME), ColSpec(DataType.double, "mean"), *levels]
    return ModelSignature(Schema([ColSpec(AnyType(), TIME), *columns]), Schema(outputs))


def metadata(house: HouseSpec | None, plan: FeaturePlan) -> dict[str, Any]:
    """What the columns mean, for whoever reads the model's page in MLflow."""
    if house is None:
        return {"target": plan.role, "unit": plan.unit, "horizon_s": plan.horizon * plan.step_s, "quantile_levels": list(plan.quantile_levels)}
    meaning = {s.column: f"{s.role}, {s.unit}" + (f" ({s.column_form})" if s.feature.kind == "energy" else "") for s in house.sensors if s.column}
    return {
        "site": house.site,
        "target": plan.target,
        "unit": plan.unit,
        "step_s": plan.step_s,
        "time_zone": house.time_zone,
        "table_clock": house.table_clock,
        "columns": meaning,
    }


def requirements() -> list[str]:
    """Packages that the model needs, at the versions it was made with. Left to guess them, MLflow takes 7 to 18 s to run the model once more."""
    import keras

    backend = {"tensorflow": ("tensorflow-cpu", "tensorflow"), "jax": ("jax",), "torch": ("torch",)}[keras.backend.backend()]
    return [f"{name}=={found}" for name in (*REQUIREMENTS, *backend) if (found := _installed(name))]


def _installed(package: str) -> str:
    from importlib.metadata import PackageNotFoundError

    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def log_forecaster(folder: Path, *, name: str) -> str:
    """Log the run folder's model to the open MLflow run; returns its URI.

    Raises:
        OSError, MlflowException: a file is missing, or the store refuses.
    """
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    plan, house = FeaturePlan.from_dict(record["plan"]), None
    if (folder / HOUSE).exists():
        house = parse_house((folder / HOUSE).read_text(encoding="utf-8"), source=HOUSE)
        if plan.target not in {target.name for target in house.targets}:  # of all rooms of a role: it takes any home's
            house = None
    files = (MODEL, RECORD, *(() if house is None else (HOUSE,)))
    here = Path(__file__).resolve()
    info = mlflow.pyfunc.log_model(
        name=name,
        python_model=str(here),
        artifacts={file: str(folder / file) for file in files},
        code_paths=[str(here.parent), str(here.parents[1] / "edge_agent")],
        signature=signature(house, plan),
        metadata=metadata(house, plan),
        pip_requirements=requirements(),
    )
    return str(info.model_uri)


set_model(HouseForecaster())
