"""Forecaster: always a forecast, with the reason why it is no better; totals by hand; a bundle's graph is checked before it is believed.

Graphs are made by hand here: `echo` answers with its anchor times a factor, so that what comes out is known.
"""

import re
from dataclasses import replace
from datetime import date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edge_agent.contract.baseline import QUANTILE_LEVELS
from edge_agent.contract.bundle import Bundle, Golden, read_bundle
from edge_agent.contract.calibration import Calibration, identity
from edge_agent.contract.errors import BundleError, ConfigError, DataError
from edge_agent.contract.localtime import day_bounds, day_totals
from edge_agent.contract.manifest import Manifest, Tensor
from edge_agent.contract.mixture import NaiveMixture
from edge_agent.contract.plan import FeaturePlan
from edge_agent.contract.schema import WeatherTopic, parse_house
from edge_agent.contract.series import Series
from edge_agent.contract.weather import WeatherForecast, WeatherForecasts
from edge_agent.forecaster import Forecaster, Model, golden_run

HOUR, DAY = 3600, 86_400
NAN = float("nan")
MONDAY = int(datetime.fromisoformat("2026-03-02T00:00Z").timestamp())
ANCHORED = FeaturePlan("energy", "energy", HOUR, 24, 1800, 48, ("target", "role:indoor_temperature"), ("lead", "lag_1d"), anchored=True)
RAW = FeaturePlan("energy", "energy", HOUR, 24, HOUR, 48, ("sensor:meter", "sensor:kitchen"))


def house(zone="UTC", step_s=HOUR):
    return parse_house(
        f"""
        site = "home"
        time_zone = "{zone}"
        step = {step_s}
        targets = [{{name = "energy", sensor = "meter"}}, {{name = "warmth", sensor = "kitchen"}}]
        sensors = [
            {{name = "kitchen", role = "indoor_temperature", column = "k"}},
            {{name = "meter", role = "energy", column = "m"}},
            {{name = "bed", role = "indoor_temperature", column = "b"}},
            {{name = "dial", role = "co2", column = "d"}},
        ]
        """,
        source="house.toml",
    )


def history(energy, *, step_s=HOUR, start=MONDAY):
    """A series of the house: `energy`, and 20 degrees or ppm of everything else."""
    energy = np.asarray(energy, float)
    values = np.full((len(energy), 4), 20.0)
    values[:, 1] = energy
    return Series(start, step_s, house().features, values)


def constant(value, days, *, step_s=HOUR, start=MONDAY):
    return history(np.full(days * DAY // step_s, value), step_s=step_s, start=start)


def lively(days=60, *, step_s=HOUR, seed=0):
    return history(np.random.default_rng(seed).gamma(1.0, 60.0, days * DAY // step_s), step_s=step_s)


def value_info(name, shape, kind=TensorProto.FLOAT, batch="batch"):
    return helper.make_tensor_value_info(name, kind, [batch, *shape])


def serialized(nodes, inputs, outputs, initializers):
    graph = helper.make_graph(nodes, "hand_made", inputs, outputs, [numpy_helper.from_array(np.asarray(v), n) for n, v in initializers.items()])
    # the opset and IR version of an exported bundle
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def echo(factor=1.0, *, plan=ANCHORED, horizon="horizon", batch="batch", kind=TensorProto.FLOAT, names=("quantiles", "mean")):
    """A graph of an anchored plan: quantiles and mean are the anchor's times `factor`."""
    shapes = plan.input_shapes() | {"future": (horizon, len(plan.future)), "anchor": (horizon, 10)}
    nodes = [
        helper.make_node("Mul", ["anchor", "factor"], ["scaled"]),
        helper.make_node("Split", ["scaled", "parts"], [names[0], "last"], axis=2),
        helper.make_node("Squeeze", ["last", "axis"], [names[1]]),
    ]
    inputs = [value_info(name, shape, kind, batch) for name, shape in shapes.items()]
    outputs = [value_info(names[0], (horizon, 9), kind, batch), value_info(names[1], (horizon,), kind, batch)]
    number = np.float32 if kind == TensorProto.FLOAT else np.float64
    return serialized(nodes, inputs, outputs, {"factor": number(factor), "parts": np.array([9, 1]), "axis": np.array([2])})


def failing():
    """A graph that loads and fails on every input: 24 steps of an anchor cannot be cut into sevens."""
    nodes = [
        helper.make_node("Reshape", ["anchor", "shape"], ["sevens"]),
        helper.make_node("Concat", ["sevens", "anchor"], ["both"], axis=1),
        helper.make_node("Split", ["both", "parts"], ["quantiles", "last"], axis=2),
        helper.make_node("Squeeze", ["last", "axis"], ["mean"]),
    ]
    shapes = ANCHORED.input_shapes() | {"future": ("horizon", 2), "anchor": ("horizon", 10)}
    outputs = [value_info("quantiles", ("steps", 9)), value_info("mean", ("steps",))]
    constants = {"shape": np.array([-1, 7, 10]), "parts": np.array([9, 1]), "axis": np.array([2])}
    return serialized(nodes, [value_info(n, s) for n, s in shapes.items()], outputs, constants)


def yesterday(plan=RAW):
    """A graph of raw sensors with a mean alone: the first channel's last day."""
    nodes = [helper.make_node("Slice", ["context", "from", "to", "axes"], ["day"]), helper.make_node("Squeeze", ["day", "last"], ["mean"])]
    constants = {"from": np.array([-24, 0]), "to": np.array([10**9, 1]), "axes": np.array([1, 2]), "last": np.array([2])}
    return serialized(nodes, [value_info("context", plan.input_shapes()["context"])], [value_info("mean", (24,))], constants)


def a_model(graph=None, *, plan=ANCHORED, calibration=None):
    """A bundle in memory around a graph, loaded."""
    outputs = {"quantiles": (plan.horizon, 9), "mean": (plan.horizon,)} if plan.anchored else {"mean": (plan.horizon,)}
    manifest = Manifest(
        name="test",
        version="7",
        created_at="2026-11-23T00:00:00Z",
        plan=plan,
        calibration=calibration or identity(QUANTILE_LEVELS),
        inputs=tuple(Tensor(name, shape, "float32") for name, shape in plan.input_shapes().items()),
        outputs=tuple(Tensor(name, shape, "float32") for name, shape in outputs.items()),
        training={},
        scores={},
        versions={},
        git_commit="",
        mlflow_run_id="",
        features=tuple(plan.describe()),
        files={},
    )
    series = lively(10).select(("meter", "kitchen", "bed"))
    golden = Golden(series, "meter", "Europe/Brussels", series.end, np.zeros((24, 9)), np.zeros(24))
    return Model(Bundle("test bundle", manifest, echo() if graph is None else graph, golden, None))


def forecast(series, origin=None, *, model=None, zone="UTC", target=None):
    forecaster = Forecaster(house(zone, series.step_s), model, target=target)
    return forecaster.forecast(series, series.end if origin is None else origin, issued_at=(series.end if origin is None else origin) + 5)


def test_with_everything_known_the_grade_is_full():
    series = lively()
    made = forecast(series, model=a_model(echo(2.0)))
    anchor = Forecaster(house(), None).builder(series).anchors(np.array([series.end]))[0]
    np.testing.assert_allclose(made.quantiles, 2 * anchor[:, :9], rtol=1e-6)
    np.testing.assert_allclose(made.mean, 2 * anchor[:, 9], rtol=1e-6)
    assert (made.grade, made.reasons, made.model) == ("full", (), {"name": "test", "version": "7"})
    assert (made.site, made.target, made.unit, made.step_s) == ("home", "energy", "Wh", HOUR)
    assert (made.origin, made.issued_at) == (series.end, series.end + 5)


def test_a_dead_sensor_costs_no_forecast_and_is_named():
    series = lively()
    series.values[-5:, 2] = NAN  # the bedroom, for 5 of the last 24 hours
    made = forecast(series, model=a_model())
    assert (made.grade, made.reasons) == ("masked", ("bed is known for 79% of the last 1 days",))


def test_a_sensor_that_the_model_does_not_read_does_not_matter():
    series = lively()
    series.values[:, 3] = NAN
    assert forecast(series, model=a_model()).grade == "full"


WEATHER = replace(ANCHORED, weather=("outdoor_temperature", "wind_speed"))


def by_the_weather():
    """A graph whose mean and quantiles are the anchor's plus the forecast temperature where it is known."""
    nodes = [
        helper.make_node("Split", ["weather", "roles"], ["temperature", "wind"], axis=2),
        helper.make_node("IsNaN", ["temperature"], ["unknown"]),
        helper.make_node("Where", ["unknown", "nothing", "temperature"], ["known"]),
        helper.make_node("Add", ["anchor", "known"], ["warmed"]),
        helper.make_node("Split", ["warmed", "parts"], ["quantiles", "last"], axis=2),
        helper.make_node("Squeeze", ["last", "axis"], ["mean"]),
    ]
    shapes = WEATHER.input_shapes() | {"future": ("horizon", 2), "anchor": ("horizon", 10), "weather": ("horizon", 2)}
    outputs = [value_info("quantiles", ("horizon", 9)), value_info("mean", ("horizon",))]
    constants = {"roles": np.array([1, 1]), "nothing": np.float32(0), "parts": np.array([9, 1]), "axis": np.array([2])}
    return serialized(nodes, [value_info(n, s) for n, s in shapes.items()], outputs, constants)


def test_the_weather_forecast_reaches_the_model_and_its_lack_is_told_where_the_house_promises_it():
    series, model = lively(), a_model(by_the_weather(), plan=WEATHER)
    promising = replace(house(), weather=(WeatherTopic("outdoor_temperature", "weather/home", "t", "degC"),))
    issue = WeatherForecast("outdoor_temperature", series.end - HOUR, series.end + HOUR * np.arange(-1, 30), np.full(31, 5.0))

    def made(spec, *forecasts):
        forecaster = Forecaster(spec, model)
        return forecaster.forecast(series, series.end, issued_at=series.end, weather=WeatherForecasts(forecasts) if forecasts else None)

    warm, bare = made(promising, issue), made(promising)
    np.testing.assert_allclose(warm.mean - bare.mean, 5.0, rtol=1e-4)
    assert (warm.grade, warm.reasons) == ("full", ())  # it promises no wind
    assert (bare.grade, bare.reasons) == ("masked", ("no forecast of outdoor_temperature has come yet",))
    old = made(promising, replace(issue, issued_at=series.end - 20 * HOUR))
    assert old.reasons == ("the last forecast of outdoor_temperature is 20 h old, 12 h at most are expected",)
    np.testing.assert_array_equal(old.mean, bare.mean)
    assert made(house()).grade == "full"  # a house without a forecast lacks none


def test_too_little_of_the_target_makes_it_a_baseline():
    series = lively()
    series.values[-13:, 1] = NAN
    made = forecast(series, model=a_model(echo(2.0)))
    assert (made.grade, made.model["name"]) == ("baseline", "climatology")
    assert made.reasons == ("meter is known for 46% of the last 1 days, the model needs 50%, waiting until 2026-05-01T01:00:00Z at the earliest",)
    np.testing.assert_array_equal(made.quantiles, forecast(series).quantiles)


def test_without_a_model_it_is_a_baseline():
    made = forecast(lively())
    assert (made.grade, made.reasons) == ("baseline", ("no model is installed: rolling climatology",))


def test_a_room_without_a_model_is_forecast_by_mixed_naive_forecasts():
    series = lively()
    series.values[:, 0] = 20 + np.cumsum(np.random.default_rng(3).normal(0, 0.1, len(series)))
    made = forecast(series, target="warmth")
    assert (made.unit, made.totals, made.grade, made.model["name"]) == ("degC", {}, "baseline", "naive-mixture")
    assert made.reasons == ("no model is installed: mixture of naive forecasts",)
    quantiles, mean = NaiveMixture(series.values[:, 0], step_s=HOUR).at(np.array([len(series)]), 24, QUANTILE_LEVELS)
    np.testing.assert_allclose(made.mean, mean[0], rtol=1e-6)
    np.testing.assert_allclose(made.quantiles, quantiles[0], rtol=1e-6)


def test_a_room_known_for_a_day_and_no_longer_is_forecast_by_that_day():
    made = forecast(lively().between(MONDAY, MONDAY + DAY), target="warmth")
    np.testing.assert_array_equal(made.quantiles, np.full((24, 9), 20.0))


@pytest.mark.parametrize(("graph", "reason"), [(echo(NAN), "is not finite"), (failing(), "model.onnx fails")], ids=["not finite", "failing"])
def test_a_fault_of_the_model_does_not_cost_the_forecast(graph, reason):
    made = forecast(lively(), model=a_model(graph))
    assert made.grade == "baseline"
    assert reason in made.reasons[0]
    np.testing.assert_array_equal(made.quantiles, forecast(lively()).quantiles)


@pytest.mark.parametrize(
    ("factor", "why"),
    [(4.0, "the most in 56 days was"), (0.05, "the least in 56 days was"), (1e6, "it reaches .* W, meter")],
)
def test_an_absurd_forecast_of_the_model_is_held_back_and_the_climatology_stands_in(factor, why):
    series = constant(100.0, 60)
    made = forecast(series, model=a_model(echo(factor)))
    assert (made.grade, made.model["name"]) == ("baseline", "climatology")
    np.testing.assert_allclose(made.mean, np.full(24, 100.0), rtol=1e-6)
    assert re.search(f"^the forecast of test is held back: .*{why}", made.reasons[0])


@pytest.mark.parametrize("factor", [2.9, 0.11])
def test_an_unusual_forecast_is_not_absurd(factor):
    assert forecast(constant(100.0, 60), model=a_model(echo(factor))).grade == "full"


def test_of_fewer_than_seven_known_days_no_total_is_absurd():
    assert forecast(constant(100.0, 6), model=a_model(echo(4.0))).grade == "full"


def test_an_absurd_climatology_falls_to_the_last_resort():
    made = forecast(history(np.full(48, 1e9)))
    assert made.grade == "baseline"
    assert "the forecast of climatology is held back: it reaches 1e+09 W, meter measures 0 to 50000" in made.reasons
    assert made.quantiles.max() == 50_000.0


def test_one_known_step_is_enough_and_none_is_not():
    series = history([NAN, 12.0, NAN])
    made = forecast(series, model=a_model())
    assert made.grade == "baseline"
    np.testing.assert_allclose(made.at_level(0.1), np.full(24, 2.4))
    np.testing.assert_allclose(made.at_level(0.9), np.full(24, 30.0))
    np.testing.assert_array_equal(made.mean, np.full(24, 12.0))
    assert made.reasons[-1] == "only 1 full steps of meter are known: their mean with a wide band, waiting until 2026-03-03T02:00:00Z"
    with pytest.raises(DataError, match="nothing is known of 'meter' yet"):
        forecast(history([NAN, NAN]), model=a_model())


@settings(max_examples=40)
@given(st.data())
def test_whatever_the_house_quantiles_ascend_and_energy_is_not_negative(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    n = 24 * data.draw(st.integers(1, 62))
    energy = {
        "nothing used": lambda: np.zeros(n),
        "constant": lambda: np.full(n, 7.7),
        "huge": lambda: rng.choice([0.0, 1e9], n),
        "feeding in": lambda: rng.normal(0.0, 100.0, n),
        "lively": lambda: rng.gamma(1.0, 60.0, n),
    }[data.draw(st.sampled_from(("nothing used", "constant", "huge", "feeding in", "lively")))]()
    energy[rng.random(n) < data.draw(st.sampled_from((0.0, 0.3, 0.9)))] = NAN
    energy[-1] = 0.0 if np.isnan(energy[-1]) else energy[-1]
    levels = np.sort(rng.uniform(-1, 2, (8, 9)), axis=-1)
    model = a_model(calibration=Calibration(levels, np.sort(rng.uniform(0, 2, 9)), None, 30))
    made = forecast(history(energy), model=data.draw(st.sampled_from((None, model))))
    assert np.isfinite(made.quantiles).all()
    assert (np.diff(made.quantiles, axis=-1) >= 0).all()
    assert (made.quantiles >= 0).all()
    assert (made.mean >= 0).all()
    total = made.totals["tomorrow"]
    assert 0 <= total.p10 <= total.value <= total.p90 < np.inf
    assert 0 <= total.model_share <= 1


@pytest.mark.parametrize("row", [24 * 5, 24 * 30 + 7, 24 * 60])
@pytest.mark.parametrize("with_model", [True, False])
def test_a_forecast_is_that_of_a_batch_and_reads_nothing_after_its_origin(tiny_bundle, reference_house, row, with_model):
    model = Model(read_bundle(tiny_bundle, allow_unsigned=True)) if with_model else None
    values = np.random.default_rng(0).gamma(1.0, 60.0, (24 * 61, 28))
    series = Series(MONDAY, HOUR, reference_house.features, values)
    forecaster = Forecaster(replace(reference_house, step_s=HOUR), model)
    origins = MONDAY + HOUR * np.array([24 * 4, row, 24 * 8])
    quantiles, mean = forecaster.batch(forecaster.builder(series), origins)
    values[row:] = NAN
    made = forecaster.forecast(series, int(origins[1]), issued_at=0)
    assert made.grade == ("full" if with_model else "baseline")
    np.testing.assert_allclose(made.quantiles, quantiles[1], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(made.mean, mean[1], rtol=1e-5, atol=1e-4)


def test_more_origins_than_a_run_takes_are_answered_all():
    series = lively(10)
    forecaster = Forecaster(house(), a_model())
    origins = series.start + HOUR * np.arange(100, 177)
    quantiles, mean = forecaster.batch(forecaster.builder(series), origins)
    assert (quantiles.shape, mean.shape) == ((77, 24, 9), (77, 24))
    np.testing.assert_array_equal(quantiles[40], forecaster.batch(forecaster.builder(series), origins[40:41])[0][0])


def test_the_model_answers_for_its_part_of_tomorrow_and_climatology_for_the_rest():
    # 10 Wh an hour always; the model says twice as much. At noon, 12 of tomorrow's 24 hours lie within the horizon
    series = constant(10.0, 30)
    total = forecast(series.between(series.start, series.end - 12 * HOUR), model=a_model(echo(2.0))).totals["tomorrow"]
    assert total.date == date(2026, 4, 1)
    assert (total.value, total.p10, total.p90) == pytest.approx((12 * 20 + 12 * 10,) * 3)
    assert total.model_share == 0.5


def test_the_band_of_a_total_is_the_calibrations():
    ratio = np.linspace(0.6, 1.4, 9)
    model = a_model(echo(2.0), calibration=Calibration(np.array([QUANTILE_LEVELS]), ratio, None, 30))
    total = forecast(constant(10.0, 30), model=model).totals["tomorrow"]
    assert (total.p10, total.value, total.p90) == pytest.approx((0.6 * 480, 480, 1.4 * 480))


def test_the_band_of_a_baselines_total_is_that_of_past_days():
    days = np.repeat([8.0, 12.0] * 15, 24)  # 192 and 288 Wh a day, half each
    total = forecast(history(days)).totals["tomorrow"]
    mean = forecast(history(days)).mean.sum()
    assert (total.p10, total.value, total.p90) == pytest.approx((0.8 * mean, mean, 1.2 * mean))
    assert total.model_share == 0.0


@pytest.mark.parametrize(
    ("zone", "origin", "tomorrow", "hours", "share"),
    [
        ("UTC", "2026-03-31T00:00Z", date(2026, 3, 31), 24, 1.0),  # the last closed step is yesterday's
        ("UTC", "2026-03-31T01:00Z", date(2026, 4, 1), 24, 1 / 24),
        ("Europe/Brussels", "2026-03-28T11:00Z", date(2026, 3, 29), 23, 12 / 23),
        ("Europe/Brussels", "2026-03-28T23:00Z", date(2026, 3, 29), 23, 1.0),
        ("Europe/Brussels", "2026-10-24T10:00Z", date(2026, 10, 25), 25, 12 / 25),
        ("Europe/Brussels", "2026-10-24T22:00Z", date(2026, 10, 25), 25, 24 / 25),
        ("Europe/Brussels", "2026-10-24T23:00Z", date(2026, 10, 26), 24, 0.0),  # tomorrow begins 24 hours after the origin
        ("Africa/Cairo", "2026-04-23T10:00Z", date(2026, 4, 24), 23, 12 / 23),  # that day begins at 01:00
        ("America/St_Johns", "2026-06-01T02:00Z", date(2026, 6, 1), 24, 23 / 24),  # -2:30: its first full hour begins at 03:00 UTC
    ],
)
def test_tomorrow_has_as_many_hours_as_the_clock_gives_it(zone, origin, tomorrow, hours, share):
    origin = int(datetime.fromisoformat(origin).timestamp())
    total = forecast(constant(10.0, 30, start=origin - 30 * DAY), model=a_model(), zone=zone).totals["tomorrow"]
    assert total.date == tomorrow
    assert total.value == pytest.approx(10.0 * hours)
    assert total.model_share == pytest.approx(share)


@settings(max_examples=30)
@given(
    st.sampled_from(("Europe/Brussels", "Australia/Lord_Howe", "America/St_Johns", "Asia/Kathmandu")),
    st.sampled_from((600, 1800, 3600)),
    st.integers(0, 400),
)
def test_a_total_is_the_sum_of_the_steps_that_begin_on_its_day(zone, step_s, row):
    series = lively(20, step_s=step_s, seed=3)
    origin = series.end - row * step_s
    forecaster = Forecaster(house(zone, step_s), a_model(echo(1.5)))
    made = forecaster.forecast(series, origin, issued_at=origin)
    builder = forecaster.builder(series.between(origin - forecaster.history_s, origin), first_origin=origin)
    _, rest = builder.climatology.filled(builder.series.index(origin), 50 * HOUR // step_s, skip=DAY // step_s)
    steps = np.concatenate([made.mean, rest])
    total = made.totals["tomorrow"]
    assert total.value == pytest.approx(day_totals(origin + step_s * np.arange(len(steps)), steps, ZoneInfo(zone))[total.date])
    assert day_bounds(total.date, ZoneInfo(zone))[0] >= origin


def test_a_model_of_means_gets_its_band_from_its_residuals():
    residuals = np.tile(np.linspace(-8.0, 8.0, 9), (8, 1))
    model = a_model(yesterday(), plan=RAW, calibration=Calibration(np.array([QUANTILE_LEVELS] * 8), np.ones(9), residuals, 30))
    series = lively()
    made = forecast(series, model=model)
    np.testing.assert_allclose(made.mean, series.column("meter")[-24:], rtol=1e-6)
    np.testing.assert_allclose(made.quantiles, np.maximum(made.mean[:, None] + residuals[0], 0.0), rtol=1e-6)
    assert made.totals["tomorrow"].model_share == 1.0


@pytest.mark.parametrize("step_s", [600, 900])
def test_an_open_graph_serves_houses_of_other_steps(step_s):
    made = forecast(lively(20, step_s=step_s), model=a_model(echo(2.0)))
    assert (made.grade, made.mean.shape, made.step_s) == ("full", (DAY // step_s,), step_s)


def test_a_graph_that_is_fixed_to_its_step_says_so():
    for model in (
        a_model(echo(horizon=24)),
        a_model(yesterday(), plan=RAW, calibration=Calibration(np.array([QUANTILE_LEVELS]), np.ones(9), np.zeros((1, 9)), 0)),
    ):
        assert forecast(lively(), model=model).grade == "full"
        with pytest.raises(ConfigError, match=r"3600 s, the house has 600 s: set step = 3600"):
            Forecaster(house(step_s=600), model)


def test_a_house_must_have_what_the_model_names():
    with pytest.raises(ConfigError, match="no sensor 'attic'"):
        Forecaster(house(), a_model(plan=replace(ANCHORED, context=("target", "sensor:attic"))))
    with pytest.raises(ConfigError, match="the model forecasts energy: use a model for indoor_temperature"):
        Forecaster(house(), a_model(plan=replace(ANCHORED, target="warmth")))
    with pytest.raises(ConfigError, match="target 'warmth' of house 'home' is indoor_temperature"):
        Forecaster(house(), a_model(), target="warmth")
    with pytest.raises(ConfigError, match="no target 'enery'"):
        Forecaster(house(), None, target="enery")


def test_a_role_that_the_house_lacks_is_masked_inside_the_graph():
    assert forecast(lively(), model=a_model(plan=replace(ANCHORED, context=("target", "role:pressure")))).grade == "full"


def test_the_forecaster_says_how_far_it_looks_back():
    assert Forecaster(house(), a_model()).history_s == 57 * DAY
    assert Forecaster(house(), a_model(yesterday(), plan=RAW)).history_s == 57 * DAY  # its totals and its fallback need the climatology
    assert [f.name for f in Forecaster(house(), a_model()).features] == ["meter", "kitchen", "bed"]


@pytest.mark.parametrize(
    "graph",
    [
        pytest.param(b"", id="empty"),
        pytest.param(echo()[:-40], id="cut off"),
        pytest.param(yesterday(), id="other inputs"),
        pytest.param(echo(names=("quantile", "mean")), id="other outputs"),
        pytest.param(echo(batch=1), id="one origin at a time"),
        pytest.param(echo(horizon=23), id="another horizon"),
        pytest.param(echo(plan=replace(ANCHORED, context_length=96)), id="another context"),
        pytest.param(echo(kind=TensorProto.DOUBLE), id="other numbers"),
    ],
)
def test_a_graph_that_is_not_what_the_manifest_says_is_refused(graph):
    with pytest.raises(BundleError, match=r"test bundle: model\.onnx (is no ONNX model|cannot be loaded|has tensors)"):
        a_model(graph)


def with_golden():
    """A bundle with its model's own answer as golden sample."""
    model = a_model()
    quantiles, mean = golden_run(model, model.bundle.golden)
    return replace(model.bundle, model=echo(), golden=replace(model.bundle.golden, quantiles=quantiles, mean=mean))


def test_the_golden_sample_knows_its_model():
    bundle = with_golden()
    Model(bundle).check_golden()
    Model(replace(bundle, model=echo(1.0005))).check_golden()  # another processor's rounding, at its worst


@pytest.mark.parametrize("factor", [1.01, 0.0, -1.0, NAN])
def test_the_golden_sample_catches_a_swapped_model(factor):
    bundle = with_golden()
    with pytest.raises(BundleError, match="test bundle: the golden sample differs by"):
        Model(replace(bundle, model=echo(factor))).check_golden()


def test_the_golden_sample_catches_another_calibration():
    bundle = with_golden()
    moved = replace(bundle.manifest, calibration=Calibration(np.array([QUANTILE_LEVELS]) + 0.05, np.ones(9), None, 0))
    with pytest.raises(BundleError, match="differs"):
        Model(replace(bundle, manifest=moved)).check_golden()


def test_the_tiny_bundle_passes_its_own_check(tiny_bundle):
    Model(read_bundle(tiny_bundle, allow_unsigned=True)).check_golden()


def test_weights_in_another_file_are_refused_although_the_file_is_there(tmp_path, monkeypatch):
    """ONNX Runtime (1.28) would look for them in the working folder."""
    monkeypatch.chdir(tmp_path)
    np.ones(1, np.float32).tofile("factor.bin")
    graph = ModelProto.FromString(echo())
    factor = next(t for t in graph.graph.initializer if t.name == "factor")
    factor.CopyFrom(TensorProto(name="factor", data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL))
    factor.external_data.add(key="location", value="factor.bin")
    with pytest.raises(BundleError, match=r"test bundle: model\.onnx takes weights from another file"):
        a_model(graph.SerializeToString())


def test_a_total_without_whole_days_to_tell_its_band_is_as_uncertain_as_its_steps():
    series = lively(40)
    series.values[23::24] = np.nan
    total = forecast(series).totals["tomorrow"]
    assert total.p10 < 0.8 * total.value
    assert total.p90 > 1.2 * total.value
