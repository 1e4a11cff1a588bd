"""What the trainer leaves is what the exporter reads: a small house trained, exported and forecast, with nothing in between."""

import make_tiny_bundle as tiny
import numpy as np
import pytest

from edge_agent.contract.bundle import read_bundle
from edge_agent.contract.schema import parse_house
from edge_agent.forecaster import Forecaster, Model
from export.assemble import export_run
from trainer.__main__ import main as train

HOUSE = """
site = "small"
time_zone = "Europe/Brussels"
step = 3600
table_clock = "utc"
targets = [{ name = "energy", sensor = "Appliances" }]
[[sensors]]
name = "Appliances"
role = "energy"
column = "Appliances"
[[sensors]]
name = "T1"
role = "indoor_temperature"
column = "T1"
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """House, table and series of a small house."""
    folder, series = tmp_path_factory.mktemp("house"), tiny.tiny_series(days=90)
    (folder / "house.toml").write_text(HOUSE, encoding="utf-8")
    times = np.datetime_as_string(series.times.astype("datetime64[s]"))
    rows = [f"{time},{energy:.6g},{state:.6g}" for time, (energy, state) in zip(times, series.values, strict=True)]
    (folder / "house.csv").write_text("\n".join(["time,Appliances,T1", *rows]).replace("nan", "") + "\n", encoding="utf-8")
    return folder, series


@pytest.mark.parametrize("preset", [["base", "--covariates", "indoor_temperature"], ["seed"]], ids=["base", "seed"])
def test_trained_model_exports_and_forecasts(files, tmp_path, capsys, preset):
    folder, series = files
    flags = ["--epochs", "1", "--units", "4", "--stride-s", "43200", "--batch-size", "16", "--tracking-uri", "off"]
    data = ["--house", str(folder / "house.toml"), "--data", str(folder / "house.csv")]
    assert train(["fit", *data, "--out", str(tmp_path / "run"), "--preset", *preset, *flags]) == 0, capsys.readouterr().err
    report = export_run(tmp_path / "run", tmp_path / "bundle", sign_key=None)
    assert report.operators["LSTM"] == 1
    forecaster = Forecaster(parse_house(HOUSE, source="house.toml"), Model(read_bundle(tmp_path / "bundle", allow_unsigned=True)))
    forecast = forecaster.forecast(series, series.end, issued_at=series.end)
    assert forecast.grade in ("full", "masked")
    assert 20 < forecast.mean.mean() < 300
