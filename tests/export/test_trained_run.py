"""What the trainer leaves is what the exporter reads: a small house trained, exported and forecast, with nothing in between."""

import json

import keras
import make_tiny_bundle as tiny
import numpy as np
import pytest

from edge_agent.config import read_settings
from edge_agent.contract.bundle import read_bundle
from edge_agent.contract.localtime import iso_utc
from edge_agent.contract.schema import Feature, parse_house
from edge_agent.contract.series import Series
from edge_agent.contract.weather import PerfectWeather
from edge_agent.forecaster import Forecaster, Model
from edge_agent.lineup import Lineup
from export.assemble import export_run
from trainer.__main__ import main as train

HOUSE = """
site = "small"
time_zone = "Europe/Brussels"
step = 3600
table_clock = "utc"
targets = [{ name = "energy", sensor = "Appliances" }, { name = "hall", sensor = "T1" }, { name = "attic", sensor = "T2" }]
[[sensors]]
name = "Appliances"
role = "energy"
column = "Appliances"
[[sensors]]
name = "T1"
role = "indoor_temperature"
column = "T1"
[[sensors]]
name = "T2"
role = "indoor_temperature"
column = "T1"
[[sensors]]
name = "outdoor"
role = "outdoor_temperature"
column = "T1"
"""
WEATHER = ["base", "--covariates", "outdoor_temperature", "--weather", "outdoor_temperature", "wind_speed"]


def stir(path):
    """Change all weights, because the epoch that was kept may be the untrained network, to which nothing but its anchor matters."""
    model, rng = keras.models.load_model(path, compile=False), np.random.default_rng(0)
    model.set_weights([w + rng.normal(0, 0.1, w.shape).astype(w.dtype) for w in model.get_weights()])
    model.save(path)


def fit(files, out, preset):
    folder, _ = files
    flags = ["--epochs", "1", "--units", "4", "--stride-s", "43200", "--batch-size", "16", "--tracking-uri", "off"]
    data = ["--house", str(folder / "house.toml"), "--data", str(folder / "house.csv")]
    return train(["fit", *data, "--out", str(out), "--preset", *preset, *flags])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """House, table and series of a small house."""
    folder, series = tmp_path_factory.mktemp("house"), tiny.tiny_series(days=90)
    (folder / "house.toml").write_text(HOUSE, encoding="utf-8")
    times = np.datetime_as_string(series.times.astype("datetime64[s]"))
    rows = [f"{time},{energy:.6g},{state:.6g}" for time, (energy, state) in zip(times, series.values, strict=True)]
    (folder / "house.csv").write_text("\n".join(["time,Appliances,T1", *rows]).replace("nan", "") + "\n", encoding="utf-8")
    further = (Feature("T2", "indoor_temperature"), Feature("outdoor", "outdoor_temperature"))
    return folder, Series(series.start, series.step_s, (*series.features, *further), series.values[:, [0, 1, 1, 1]])


@pytest.mark.parametrize("preset", [["base", "--covariates", "indoor_temperature"], ["seed"]], ids=["base", "seed"])
def test_trained_model_exports_and_forecasts(files, tmp_path, capsys, preset):
    _, series = files
    assert fit(files, tmp_path / "run", preset) == 0, capsys.readouterr().err
    report = export_run(tmp_path / "run", tmp_path / "bundle", sign_key=None, even_if_worse=True)
    assert report.operators["LSTM"] == 1
    forecaster = Forecaster(parse_house(HOUSE, source="house.toml"), Model(read_bundle(tmp_path / "bundle", allow_unsigned=True)))
    forecast = forecaster.forecast(series, series.end, issued_at=series.end)
    assert forecast.grade in ("full", "masked")
    assert 20 < forecast.mean.mean() < 300


@pytest.fixture(scope="module")
def weather_bundle(files, tmp_path_factory):
    """The bundle of a model that reads a weather forecast."""
    folder = tmp_path_factory.mktemp("weather")
    assert fit(files, folder / "run", WEATHER) == 0
    stir(folder / "run" / "model.keras")
    export_run(folder / "run", folder / "bundle", sign_key=None, even_if_worse=True)
    return folder / "bundle"


def test_a_model_that_reads_the_weather_exports_with_it_and_forecasts_with_and_without(files, weather_bundle):
    _, series = files
    bundle = read_bundle(weather_bundle, allow_unsigned=True)
    assert bundle.manifest.plan.weather == ("outdoor_temperature", "wind_speed")
    assert np.isfinite(bundle.golden.weather[:, 0]).all()
    assert np.isnan(bundle.golden.weather[:, 1]).all()
    model = Model(bundle)
    model.check_golden()
    forecaster = Forecaster(parse_house(HOUSE, source="house.toml"), model)
    origins, means = np.array([series.end - 86_400]), {}
    for name, source in (("none", None), ("perfect", PerfectWeather(series))):
        means[name] = forecaster.batch(forecaster.builder(series, weather=source), origins)[1]
        assert np.isfinite(means[name]).all()
    assert not np.array_equal(means["none"], means["perfect"])


@pytest.mark.parametrize(("options", "label"), [(["--perfect-weather"], "perfect weather forecast"), ([], "no weather forecast")])
def test_a_backtest_says_which_weather_the_model_was_given(files, weather_bundle, tmp_path, capsys, options, label):
    folder, _ = files
    data = ["--house", str(folder / "house.toml"), "--data", str(folder / "house.csv"), "--every", "1d", "--bundle", str(weather_bundle)]
    out = ["--json", str(tmp_path / "scores.json"), "--predictions", str(tmp_path / "forecasts.npz")]
    assert train(["backtest", *data, *out, "--allow-unsigned", *options]) == 0, capsys.readouterr().err
    assert json.loads((tmp_path / "scores.json").read_text())["weather"] == label
    assert str(np.load(tmp_path / "forecasts.npz")["weather"]) == label
    assert ("perfect weather forecast" in " ".join(capsys.readouterr().out.split())) == bool(options)


def test_archived_forecasts_reach_the_model(files, weather_bundle, tmp_path, capsys):
    folder, series = files
    lines = [f"{iso_utc(o)},{iso_utc(o + 3600 * h)},{5 + h % 7}" for o in range(series.end - 10 * 86_400, series.end, 21_600) for h in range(49)]
    (tmp_path / "archive.csv").write_text("issued,time,outdoor_temperature\n" + "\n".join(lines) + "\n")
    data = ["--house", str(folder / "house.toml"), "--data", str(folder / "house.csv"), "--every", "1d", "--bundle", str(weather_bundle)]
    command = ["backtest", *data, "--allow-unsigned", "--json", str(tmp_path / "scores.json")]
    assert train([*command, "--weather", str(tmp_path / "archive.csv")]) == 0, capsys.readouterr().err
    with_archive = json.loads((tmp_path / "scores.json").read_text())
    assert with_archive["weather"] == "weather forecasts of archive.csv, at 10 of 18 origins"
    assert train(command) == 0
    without = json.loads((tmp_path / "scores.json").read_text())
    assert with_archive["scores"][with_archive["model"]]["crps"] != without["scores"][without["model"]]["crps"]


def test_a_model_that_reads_no_weather_takes_none(files, tmp_path, capsys):
    folder, _ = files
    (tmp_path / "house.toml").write_text(HOUSE.replace('{ name = "energy", sensor = "Appliances" }', '{ name = "outdoors", sensor = "outdoor" }'))
    data = ["--house", str(tmp_path / "house.toml"), "--data", str(folder / "house.csv")]
    assert train(["backtest", *data, "--perfect-weather", "--target", "outdoors"]) == 2
    assert "reads no weather forecast" in capsys.readouterr().err


def test_one_bundle_serves_every_room_of_the_house_as_the_agent_publishes_it(files, tmp_path, capsys):
    folder, series = files
    data = ["--house", str(folder / "house.toml"), "--data", str(folder / "house.csv"), "--role", "indoor_temperature"]
    flags = ["--epochs", "1", "--stride-s", "21600", "--tracking-uri", "off"]
    assert train(["fit", *data, "--out", str(tmp_path / "run"), *flags]) == 0, capsys.readouterr().err
    export_run(tmp_path / "run", tmp_path / "bundle", sign_key=None, even_if_worse=True)
    house = parse_house(HOUSE, source="house.toml")
    settings = read_settings(None, flags={"state_dir": tmp_path, "bundles": (tmp_path / "bundle",), "allow_unsigned": True})
    energy, *rooms = Lineup(house, settings).live
    assert energy.plan.target == "energy"
    assert [room.plan.target for room in rooms] == ["hall", "attic"]
    for room in rooms:
        forecast = room.forecast(series, series.end, issued_at=series.end, weather=PerfectWeather(series))
        payload = forecast.to_payload()
        assert (payload["target"], payload["unit"], payload["model"]["name"]) == (room.plan.target, "degC", "rooms-indoor_temperature")
        assert len(payload["forecast"]) == 24
        assert all(point["p10"] <= point["value"] <= point["p90"] for point in payload["forecast"])
        assert payload["totals"] == {}
        assert 15 < payload["forecast"][0]["value"] < 25
