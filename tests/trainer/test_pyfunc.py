import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from edge_agent.contract.calibration import Calibration, publish
from edge_agent.contract.errors import DataError
from edge_agent.contract.features import FeatureBuilder
from edge_agent.contract.localtime import iso_utc
from edge_agent.contract.series import Series
from trainer.presets import HyperParameters, plan_for
from trainer.tracking import RunStart, track

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow warns about itself

# levels are read a little wider than published, as a calibration that found the model too sure would
CALIBRATION = Calibration(np.array([[0.05, 0.15, 0.25, 0.4, 0.5, 0.6, 0.75, 0.85, 0.95]]), np.ones(9), None, 50)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, small_house, small_run):
    """What a training run leaves, with a network that has learnt nothing."""
    import keras

    from trainer.model import build_base

    keras.utils.set_random_seed(1)
    plan = plan_for("base", small_house, "energy", ("indoor_temperature",))
    model = build_base(plan, HyperParameters(units=4)).model
    model.set_weights([w + np.random.default_rng(0).normal(0, 0.1, w.shape) for w in model.get_weights()])
    folder = tmp_path_factory.mktemp("run")
    model.save(folder / "model.keras")
    record = {"plan": plan.to_dict(), "outputs": list(model.output_names), "calibration": CALIBRATION.to_dict()}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "house.toml").write_text(small_run[0].read_text())
    return folder


@pytest.fixture(scope="module")
def logged(run_folder):
    """URI of the model and of its store."""
    store = f"sqlite:///{run_folder.parent}/pyfunc.db"
    start = RunStart(folder=run_folder, experiment="pyfunc", name="small", parameters={}, tags={}, tracking_uri=store)
    with track(start) as run:
        return run.log_forecaster(run_folder), store


@pytest.fixture(scope="module")
def model(logged):
    import mlflow

    mlflow.set_tracking_uri(logged[1])
    return mlflow.pyfunc.load_model(logged[0])


@pytest.fixture
def rows(small_run):
    """The table as pandas reads it."""
    return pd.read_csv(small_run[1])


def expected(run_folder, small_house, small_series, origin):
    """The same forecast from the contract's parts, in numpy."""
    import keras

    plan = plan_for("base", small_house, "energy", ("indoor_temperature",))
    keras_model = keras.models.load_model(run_folder / "model.keras", compile=False)
    builder = FeatureBuilder(plan, small_series, target="meter", zone=small_house.zone)
    quantiles, mean = (np.asarray(x, np.float64) for x in keras_model.predict_on_batch(builder.inputs(np.array([origin])).arrays))
    published, mean = publish(quantiles, mean, CALIBRATION, plan)
    return published[0], mean[0]


def test_forecast_is_the_one_of_the_contract(model, rows, run_folder, small_house, small_series):
    origin = small_series.start + 70 * 86_400
    forecast = model.predict(rows[rows["time"] < iso_utc(origin).rstrip("Z")])
    quantiles, mean = expected(run_folder, small_house, small_series, origin)
    assert forecast["mean"].to_numpy() == pytest.approx(mean, rel=1e-4, abs=1e-3)  # the CSV has three decimals
    assert forecast[[f"p{level}0" for level in range(1, 10)]].to_numpy() == pytest.approx(quantiles, rel=1e-4, abs=1e-3)
    assert [int(t.timestamp()) for t in forecast["time"]] == [origin + 3600 * step for step in range(24)]
    assert str(forecast["time"].dtype.tz) == "Europe/Berlin"


def test_times_and_numbers_of_any_type_give_the_same(model, rows):
    wanted = model.predict(rows)
    utc = pd.to_datetime(rows["time"])
    variants = [
        rows.assign(time=utc),
        rows.assign(time=utc.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")),
        rows.assign(use=rows["use"].astype(str)),
        rows.assign(voltage=230)[["voltage", "outdoor", "living", "use", "time"]],
    ]
    for variant in variants:
        pd.testing.assert_frame_equal(model.predict(variant), wanted)
    assert len(model.predict(rows.assign(use=rows["use"].round().astype(int)))) == 24


def test_many_tables_come_as_arrays_and_so_do_their_forecasts(model, rows):
    shorter = rows.iloc[:-5]
    cells = [{name: table[name].to_numpy() for name in ("time", "use", "living")} | {"outdoor": None} for table in (rows, shorter)]
    forecasts = model.predict(pd.DataFrame(cells))
    assert len(forecasts) == 2
    alone = model.predict(shorter[["time", "use", "living"]])
    assert forecasts["p90"].iloc[1].tolist() == pytest.approx(alone["p90"].tolist())
    assert forecasts["time"].iloc[1][0] == alone["time"].iloc[0].isoformat()


def test_missing_sensor_column_is_masked(model, rows):
    forecast = model.predict(rows[["time", "use"]])
    assert np.isfinite(forecast.drop(columns="time").to_numpy()).all()
    assert not np.allclose(forecast["mean"], model.predict(rows)["mean"])


def test_missing_target_column_is_refused_by_the_signature(model, rows):
    import mlflow

    with pytest.raises(mlflow.exceptions.MlflowException, match="use"):
        model.predict(rows[["time", "living"]])


def test_forecast_starts_after_the_last_known_target(model, rows):
    late = rows.copy()
    late.loc[len(late) - 3 :, "use"] = np.nan
    first = model.predict(late)["time"].iloc[0]
    assert first.tz_convert("UTC").isoformat() == pd.Timestamp(rows["time"].iloc[-3], tz="UTC").isoformat()


def test_faulty_rows_are_repaired_as_a_table_would_be(model, rows):
    shuffled = pd.concat([rows.sample(frac=1.0, random_state=0), rows.iloc[:5]]).assign(living=lambda r: r["living"].where(r.index != 7, 999.0))
    pd.testing.assert_frame_equal(model.predict(shuffled), model.predict(rows.assign(living=rows["living"].where(rows.index != 7))))


def test_too_little_history_says_how_much_is_needed(model, rows):
    with pytest.raises(DataError, match=r"'meter' is known for 14% of the last 7 days, the model needs 50%: give more rows"):
        model.predict(rows.tail(24))


def test_model_says_what_it_takes(model):
    signature = model.metadata.signature
    assert [(c.name, c.required) for c in signature.inputs] == [("time", True), ("use", True), ("living", False), ("outdoor", False)]
    assert [c.name for c in signature.outputs] == ["time", "mean", *(f"p{level}0" for level in range(1, 10))]
    assert model.metadata.metadata["columns"]["use"] == "energy, Wh (interval)"
    assert model.metadata.metadata["unit"] == "Wh"


def test_model_loads_where_hearthcast_is_not_installed(logged, small_run, tmp_path):
    code = f"""
import sys
sys.path = [p for p in sys.path if "{"/".join(__file__.split("/")[:-3])}" not in p or "site-packages" in p]
sys.meta_path = [f for f in sys.meta_path if "editable" not in repr(f)]
import mlflow, pandas
mlflow.set_tracking_uri({logged[1]!r})
model = mlflow.pyfunc.load_model({logged[0]!r})
import trainer
print(trainer.__file__)
print(len(model.predict(pandas.read_csv({str(small_run[1])!r}))))
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    path, count = done.stdout.split()[-2:]
    assert "/artifacts/code/trainer/" in path
    assert count == "24"


def test_counter_without_a_last_difference_is_forecast_from_there(small_house, small_series):
    from trainer.pyfunc import end_of_known, raw_series

    house = replace(small_house, sensors=tuple(replace(s, column_form="counter") if s.name == "meter" else s for s in small_house.sensors))
    times = small_series.times[:400]
    counter = np.concatenate([[0.0], np.cumsum(small_series.column("meter")[:399])])
    table = pd.DataFrame({"time": pd.to_datetime(times, unit="s"), "use": counter})
    series = raw_series(house, table)
    builder = FeatureBuilder(plan_for("base", house, "energy"), series, target="meter", zone=house.zone)
    assert end_of_known(builder, "meter") == times[-1]
    assert series.column("meter")[:399] == pytest.approx(small_series.column("meter")[:399])


def test_rows_without_a_time_column_say_so(small_house):
    from trainer.pyfunc import raw_series

    with pytest.raises(DataError, match="no column 'time', only date, use: name the time column 'time'"):
        raw_series(small_house, pd.DataFrame({"date": ["2026-01-01"], "use": [1.0]}))


def test_nothing_known_says_so(small_house):
    from trainer.pyfunc import end_of_known

    series = Series(0, 3600, small_house.features, np.full((48, 3), np.nan))
    builder = FeatureBuilder(plan_for("base", small_house, "energy"), series, target="meter", zone=small_house.zone)
    with pytest.raises(DataError, match="no value of 'meter' is known: give rows of the last 7 days"):
        end_of_known(builder, "meter")


@pytest.fixture(scope="module")
def of_any_house(run_folder):
    """The same network as one over many homes: without a house of its own."""
    from types import SimpleNamespace

    from trainer.pyfunc import HouseForecaster

    forecaster = HouseForecaster()
    forecaster.load_context(SimpleNamespace(artifacts={name: str(run_folder / name) for name in ("model.keras", "run.json")}))
    return forecaster


def readings(series, names):
    """The cells of one home's row."""
    columns = [(name, np.flatnonzero(np.isfinite(series.column(name)))) for name in names]
    return {
        "time": np.concatenate([series.times[rows] for _, rows in columns]),
        "sensor": np.concatenate([np.full(len(rows), name) for name, rows in columns]),
        "value": np.concatenate([series.column(name)[rows] for name, rows in columns]),
    }


def test_a_model_over_many_homes_forecasts_each_and_says_what_is_wrong_with_one(of_any_house, small_run, small_house, small_series, run_folder):
    toml = small_run[0].read_text()
    part = small_series.between(small_series.start, small_series.start + 70 * 86_400)
    good = {"house": toml, **readings(part, ("living", "meter"))}
    other_clock = {**good, "house": toml.replace("Europe/Berlin", "Asia/Tokyo").replace('name = "energy"', 'name = "use"')}
    strange = {"house": toml, "time": [1800], "sensor": ["meter"], "value": [1.0]}
    short = {"house": toml, **readings(part.between(part.end - 86_400, part.end), ("meter",))}
    broken = {**good, "time": [None, *good["time"][1:]]}
    worse = {**good, "value": ["much", *good["value"][1:]]}
    homes = [good, other_clock, strange, short, {**good, "house": "site ="}, {**good, "sensor": ["x"] * len(good["time"])}, broken, worse]
    answers = of_any_house.predict(None, pd.DataFrame(homes))
    quantiles, mean = expected(run_folder, small_house, small_series, part.end)
    assert answers["mean"].iloc[0] == pytest.approx(mean, rel=1e-5)
    assert answers["p90"].iloc[0] == pytest.approx(quantiles[:, 8], rel=1e-5)
    assert answers["time"].iloc[1][0].endswith("+09:00")
    assert [len(cells) for cells in answers["mean"]] == [24, 24, 0, 0, 0, 0, 0, 0]
    said = answers["problem"].tolist()
    assert said[:2] == ["", ""]
    for text, expected_text in zip(
        said[2:],
        ["between its steps of 3600 s", "known for 14%", "house.toml", "no readings of the sensors", "readings without a time", "ValueError"],
        strict=True,
    ):
        assert expected_text in text
