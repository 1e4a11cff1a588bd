"""The network for rooms: what it is before training, by hand, and what must hold whatever the weights."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from edge_agent.contract.errors import ConfigError
from trainer.climate import WALLS_H, RoomUnits, _Features, build_climate, plan_inputs
from trainer.presets import ROOMS, plan_for

HOUR = 3600


def inputs_at(builder, n=3):
    return builder.inputs(builder.series.start + HOUR * np.arange(30 * 24, 30 * 24 + n)).arrays


def network(builder, **changes):
    keras.utils.set_random_seed(1)
    return build_climate(builder.plan, replace(ROOMS, **changes))


def asked(built, inputs):
    """Without a compiled function, which takes seconds to make."""
    return [np.asarray(output) for output in built.model(inputs)]


def stirred(built):
    rng = np.random.default_rng(0)
    built.core.set_weights([w + rng.normal(0, 0.1, w.shape).astype(w.dtype) for w in built.core.get_weights()])
    return built


@pytest.fixture
def room(small_builder, small_series):
    """A builder whose living room has this temperature at each hour of the day, and outdoors a constant one."""

    def build(by_hour, days=80):
        values = small_series.values.copy()
        values[:, 1], values[:, 2] = np.resize(by_hour, len(values)), 5.0
        return small_builder("base", "living_room", series=replace(small_series, values=values))

    return build


@pytest.mark.parametrize("unknown", [[], ["weather", "context"]])
def test_untrained_it_is_the_mixture_of_naive_forecasts(small_builder, unknown):
    builder = small_builder("base", "living_room")
    inputs = inputs_at(builder)
    for name in unknown:
        inputs[name][:] = np.nan
    quantiles, mean = asked(network(builder), inputs)
    np.testing.assert_allclose(quantiles, inputs["anchor"][..., :-1], atol=1e-4)
    np.testing.assert_allclose(mean, inputs["anchor"][..., -1], atol=1e-4)


def test_it_reads_what_the_house_measures_and_its_forecast(small_house):
    plan = plan_for("base", small_house, "living_room")
    assert plan.context[-2:] == ("role:indoor_temperature", "role:outdoor_temperature")
    assert (plan.weather, plan.future[-1]) == (("outdoor_temperature",), "lead")


def test_degrees_more_everywhere_are_as_many_more_in_the_forecast(small_builder):
    builder = small_builder("base", "living_room", ("outdoor_temperature",), weather=("outdoor_temperature",))
    built, inputs = stirred(network(builder)), inputs_at(builder)
    warmer = {name: array.copy() for name, array in inputs.items()}
    warmer["context"][:, :, 0] += 7
    warmer["anchor"] += 7
    for before, after in zip(asked(built, inputs), asked(built, warmer), strict=True):
        np.testing.assert_allclose(after, before + 7, atol=1e-3)


def test_quantiles_ascend_and_all_is_finite_whatever_is_unknown(small_builder):
    builder = small_builder("base", "living_room")
    built, inputs = stirred(network(builder)), inputs_at(builder)
    for unknown in ([], ["weather"], ["context"], ["weather", "context"]):
        arrays = {name: array.copy() for name, array in inputs.items()}
        for name in unknown:
            arrays[name][:, :, {"weather": slice(None), "context": [0, -2, -1]}[name]] = np.nan
        quantiles, mean = asked(built, arrays)
        assert np.isfinite(mean).all()
        assert (np.diff(quantiles, axis=-1) >= 0).all()


def test_a_gap_in_the_past_leaves_the_other_days(room):
    builder = room(20 + np.arange(24) / 8)
    inputs = inputs_at(builder, 1)
    gappy = {**inputs, "context": inputs["context"].copy()}
    gappy["context"][:, 24:48, 0] = np.nan  # one of seven days like the others
    built = stirred(network(builder))
    for whole, parts in zip(asked(built, inputs), asked(built, gappy), strict=True):
        np.testing.assert_allclose(parts, whole, atol=1e-3)


def test_the_weather_is_felt_from_its_hour_on(small_builder):
    builder = small_builder("base", "living_room")
    built, inputs = stirred(network(builder)), inputs_at(builder)
    warmer = inputs["weather"].copy()
    warmer[:, 12, 0] += 5
    before, after = (asked(built, {**inputs, "weather": weather})[1] for weather in (inputs["weather"], warmer))
    assert (np.abs(after - before).max(axis=0) > 1e-4).tolist() == [step >= 12 for step in range(24)]


@pytest.mark.parametrize("step_s", [600, 3600])
def test_walls_follow_a_lasting_change_as_first_order_filters_do(small_house, small_series, small_builder, step_s):
    house = replace(small_house, step_s=step_s)
    plan = plan_for("base", house, "living_room")
    tensors = plan_inputs(plan)
    features = _Features(plan, tensors, RoomUnits(plan, tensors["anchor"]), replace(ROOMS, channel_dropout=0.0, weather_dropout=0.0))
    felt = keras.Model(tensors["future"], [features._felt(keras.ops.ones_like(tensors["future"][:, :, :1]), hours) for hours in WALLS_H])
    future = np.zeros((1, plan.horizon, len(plan.future)), np.float32)
    future[:, :, plan.future.index("lead")] = (np.arange(plan.horizon) + 0.5) / plan.horizon
    hours = 24 * (np.arange(plan.horizon) + 1) / plan.horizon
    for tau, answer in zip(WALLS_H, felt(future), strict=True):
        np.testing.assert_allclose(np.asarray(answer)[0, :, 0], 1 - np.exp(-hours / tau), atol=0.2 * step_s / HOUR)


def test_relative_outcomes_and_forecasts_have_the_same_units(small_builder):
    builder = small_builder("base", "living_room")
    built = stirred(network(builder))
    inputs = inputs_at(builder)
    relative, physical = np.asarray(built.core(inputs))[:, :, -1], asked(built, inputs)[1]
    np.testing.assert_allclose(built.relative(inputs, physical), relative, atol=1e-3)


def test_it_serves_any_step(small_builder, small_series):
    coarse = small_builder("base", "living_room")
    built = network(coarse)
    inputs = inputs_at(coarse, 2)
    fine = {name: np.repeat(array, 6, axis=1) if name in ("future", "weather", "anchor") else array for name, array in inputs.items()}
    fine["future"][:, :, -1] = (np.arange(144) + 0.5) / 144
    assert asked(built, fine)[0].shape == (2, 144, 9)


def test_a_forecast_of_what_is_not_measured_is_refused(small_house):
    with pytest.raises(ConfigError, match="add it to --covariates"):
        build_climate(plan_for("base", small_house, "living_room", ("indoor_humidity",), ("outdoor_temperature",)), ROOMS)


def test_members_are_averaged(small_builder):
    builder = small_builder("base", "living_room")
    built = stirred(network(builder, members=2))
    inputs = inputs_at(builder)
    outcomes = [np.asarray(member.core(inputs)) for member in built.members]
    np.testing.assert_allclose(np.asarray(built.core(inputs)), np.mean(outcomes, axis=0), atol=1e-5)
