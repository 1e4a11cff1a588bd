"""The base model that ships: trusted, whole, and able to serve any energy target at any step."""

import numpy as np
import pytest

from edge_agent.contract.bundle import read_shipped_bundle, shipped_bundle
from edge_agent.contract.schema import STEPS_S, Feature, parse_house
from edge_agent.contract.series import Series
from edge_agent.contract.weather import WeatherForecast, WeatherForecasts
from edge_agent.forecaster import Forecaster, Model, base_forecaster

DAY_S = 86_400
TEXT = """
site = "h"
time_zone = "Europe/Berlin"
step = STEP
targets = [{ name = "mains", sensor = "meter" }, { name = "living", sensor = "living" }]
sensors = [{ name = "meter", role = "energy", column = "wh" }, { name = "living", role = "indoor_temperature", column = "t" }]
"""


def house(step_s):
    return parse_house(TEXT.replace("STEP", str(step_s)), source="test")


def two_months(step_s):
    hours = np.arange(0, 62 * 24, step_s / 3600)
    watts = 200 + 150 * np.sin(2 * np.pi * (hours - 10) / 24) + 400 * (hours % 24 >= 18)
    features = (Feature("meter", "energy"), Feature("living", "indoor_temperature"))
    return Series(1_767_225_600, step_s, features, np.stack([watts * step_s / 3600, np.full(len(hours), 20.0)], axis=1))


def test_the_shipped_model_is_trusted_by_the_key_beside_it_and_reproduces_its_golden_sample():
    bundle = read_shipped_bundle()
    Model(bundle).check_golden()
    assert bundle.signer.endswith("base-energy.pub")


def test_the_shipped_bundle_is_under_three_megabytes():
    assert sum(file.stat().st_size for file in shipped_bundle().iterdir()) < 3e6


@pytest.mark.parametrize("step_s", STEPS_S)
def test_it_forecasts_a_day_of_any_energy_target_at_any_step(step_s):
    series = two_months(step_s)
    forecast = base_forecaster(house(step_s), "mains").forecast(series, series.end, issued_at=series.end)
    assert forecast.grade == "full"
    assert forecast.target == "mains"
    assert len(forecast.mean) == DAY_S // step_s
    # the house repeats itself: 200 W + a third of the day at 400 W more, less what the wave takes away, which is nothing over a day
    assert forecast.mean.sum() == pytest.approx(24 * 200 + 6 * 400, rel=0.1)
    assert (np.diff(forecast.quantiles, axis=1) >= 0).all()
    assert forecast.quantiles.min() >= 0


def test_a_home_without_a_thermometer_is_forecast_as_one_whose_thermometer_shows_what_was_forecast():
    series, hour = two_months(3600), 3600
    rng = np.random.default_rng(0)
    degrees = (20 + np.repeat(rng.uniform(-6, 10, 64), 24) + rng.normal(0, 1, 64 * 24)).astype(np.float32)  # the last two days are ahead
    energy = series.values[:, 0] + 60 * np.maximum(degrees[: len(series)] - 19, 0)  # an air conditioner
    issued = [*series.times.tolist(), series.end]
    weather = WeatherForecasts(
        WeatherForecast("outdoor_temperature", at, at + hour // 2 + hour * np.arange(30), degrees[i : i + 30].astype(float))
        for i, at in enumerate(issued)
    )
    meter, thermometer = Feature("meter", "energy"), Feature("balcony", "outdoor_temperature")
    balcony = '{ name = "balcony", role = "outdoor_temperature", column = "o" }, { name = "living"'
    without = parse_house(TEXT.replace("STEP", "3600"), source="test")
    measuring = parse_house(TEXT.replace("STEP", "3600").replace('{ name = "living", role', f"{balcony}, role"), source="test")
    living = np.full((len(series), 1), np.nan)

    def mean(spec, sensors, *columns, weather):
        features = (meter, *sensors, Feature("living", "indoor_temperature"))
        known = Series(series.start, hour, features, np.column_stack([energy, *columns, living]))
        return base_forecaster(spec, "mains").forecast(known, series.end, issued_at=series.end, weather=weather).mean

    both = mean(measuring, (thermometer,), degrees[: len(series)], weather=weather)
    np.testing.assert_allclose(mean(without, (), weather=weather), both, rtol=1e-5)
    only_ahead = WeatherForecasts(forecast for forecast in [weather.newest("outdoor_temperature", series.end)] if forecast)
    assert np.abs(mean(without, (), weather=only_ahead) / both - 1).max() > 0.02


def test_other_roles_are_forecast_by_the_climatology():
    assert base_forecaster(house(600), "living").model is None


def test_a_model_for_one_role_serves_no_other():
    with pytest.raises(Exception, match="the model forecasts energy"):
        Forecaster(house(600), Model(read_shipped_bundle()), target="living")


def test_a_changed_shipped_model_is_refused(tmp_path, monkeypatch):
    import shutil

    from edge_agent.contract import bundle as module

    shutil.copytree(shipped_bundle().parent, tmp_path / "models")
    model = tmp_path / "models" / "base-energy" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    monkeypatch.setattr(module, "shipped_bundle", lambda: model.parent)
    with pytest.raises(module.BundleError, match=r"model\.onnx"):
        read_shipped_bundle()


def test_its_golden_sample_is_a_simulated_house():
    from demo.simulate import simulated_house

    golden, simulated = read_shipped_bundle().golden, simulated_house()
    assert (golden.target, golden.time_zone) == (simulated.targets[0].sensor, simulated.time_zone)
