from dataclasses import replace

import keras
import numpy as np
import onnxruntime
import pytest

from edge_agent.contract.errors import ConfigError
from export.convert import convert
from export.graph import operators
from trainer.model import Scaling, build_base, build_seed, forecast_loss, scaling_of, standard, steady_homes_weigh_more
from trainer.presets import HyperParameters, hyper_parameters, plan_for
from trainer.windows import Span

TINY = HyperParameters(units=4)
HOUR = 3600


def inputs_at(builder, n=3):
    return builder.inputs(builder.series.start + HOUR * np.arange(30 * 24, 30 * 24 + n)).arrays


def base(builder, hyper=TINY):
    keras.utils.set_random_seed(1)
    return build_base(builder.plan, hyper)


def seed(builder, hyper=TINY):
    keras.utils.set_random_seed(1)
    span = Span(builder.series.start, builder.series.start + 40 * 24 * HOUR, np.array([]))
    return build_seed(builder.plan, hyper, scaling_of(builder, span))


def stirred(network):
    """The network with random weights everywhere, so that nothing is still zero; smaller ones where many inputs meet, lest the values explode."""
    rng = np.random.default_rng(0)
    spread = [0.3 / max(1.0, np.prod(w.shape[:-1]) / 96) for w in network.core.get_weights()]
    network.core.set_weights([w + rng.normal(0, s, w.shape).astype(w.dtype) for w, s in zip(network.core.get_weights(), spread, strict=True)])
    return network


@pytest.mark.parametrize(("target", "covariates"), [("energy", ()), ("energy", ("outdoor_temperature", "indoor_humidity")), ("living_room", ())])
def test_the_untrained_base_network_is_the_climatology(small_builder, target, covariates):
    builder = small_builder("base", target, covariates)
    inputs = inputs_at(builder)
    quantiles, mean = base(builder).model.predict_on_batch(inputs)
    np.testing.assert_allclose(quantiles, inputs["anchor"][:, :, :-1], rtol=1e-5)
    np.testing.assert_allclose(mean, inputs["anchor"][:, :, -1], rtol=1e-5)


def test_quantiles_ascend_and_energy_is_not_below_zero_whatever_the_weights(small_builder):
    builder = small_builder("base")
    quantiles, mean = stirred(base(builder)).model.predict_on_batch(inputs_at(builder))
    assert (np.diff(quantiles, axis=-1) >= 0).all()
    assert (quantiles >= 0).all()
    assert (quantiles == 0).any()
    assert (mean >= 0).all()


def test_a_temperature_may_fall_below_zero(small_builder):
    builder = small_builder("base", "living_room")
    inputs = inputs_at(builder)
    inputs["anchor"] -= 40
    assert (base(builder).model.predict_on_batch(inputs)[0] < 0).all()


def test_forecasts_stay_finite_when_nothing_of_the_past_is_known(small_builder):
    builder = small_builder("base", covariates=("outdoor_temperature",))
    inputs = inputs_at(builder)
    inputs["context"][:, :, [0, -1]] = np.nan
    inputs["future"][:, :, 6:] = np.nan
    inputs["daily"][:] = np.nan
    assert all(np.isfinite(out).all() for out in stirred(base(builder)).model.predict_on_batch(inputs))


def test_a_covariate_matters_where_it_is_known(small_builder):
    builder = small_builder("base", covariates=("outdoor_temperature",))
    model, inputs = stirred(base(builder)).model, inputs_at(builder)
    warmer = {**inputs, "context": inputs["context"] + np.eye(7, dtype=np.float32)[6] * 5}
    assert not np.allclose(model.predict_on_batch(inputs)[0], model.predict_on_batch(warmer)[0], rtol=1e-3)


def test_the_weather_ahead_matters_at_its_step_and_beside_it_where_it_is_known(small_builder):
    builder = small_builder("base", weather=("outdoor_temperature", "wind_speed"))
    model, inputs = stirred(base(builder)).model, inputs_at(builder)
    assert np.isnan(inputs["weather"][:, :, 1]).all()  # the small house measures no wind
    warmer = inputs["weather"].copy()
    warmer[:, 12, 0] += 5
    before, after = (model.predict_on_batch({**inputs, "weather": weather})[1] for weather in (inputs["weather"], warmer))
    differs = np.abs(after - before).max(axis=0) > 1e-3
    assert differs[12]
    assert differs[8:17].sum() > 1
    assert not differs[:8].any()
    assert not differs[17:].any()
    unknown = model.predict_on_batch({**inputs, "weather": np.full_like(warmer, np.nan)})
    assert all(np.isfinite(out).all() for out in unknown)


def test_in_training_the_weather_is_dropped_as_a_whole_as_often_as_asked(small_builder):
    builder = small_builder("base", weather=("outdoor_temperature",))
    network = stirred(base(builder, replace(TINY, dropout=0.0, channel_dropout=0.0, weather_dropout=0.5)))
    inputs = {name: np.repeat(array[:1], 400, axis=0) for name, array in inputs_at(builder).items()}
    means = np.round(np.asarray(network.core(inputs, training=True))[:, :, -1].sum(axis=1), 3)
    values, counts = np.unique(means, return_counts=True)
    assert len(values) == 2
    assert 150 < counts[0] < 250


def test_skewed_roles_enter_as_logarithms():
    wind = np.array([[[0.0, 10.0], [3.0, 20.0]]], np.float32)
    scaled = np.asarray(standard(wind, ("wind_speed", "outdoor_temperature")))
    np.testing.assert_allclose(scaled, [[[0, 0], [np.log(2), 1]]], rtol=1e-6)


def test_the_days_before_matter(small_builder):
    builder = small_builder("base")
    model, inputs = stirred(base(builder)).model, inputs_at(builder)
    quieter = {**inputs, "daily": inputs["daily"] / 2}
    assert not np.allclose(model.predict_on_batch(inputs)[0], model.predict_on_batch(quieter)[0], rtol=1e-3)


def repeated(inputs, times):
    """The same day in steps so many times shorter."""
    return {**inputs, **{name: np.repeat(inputs[name], times, axis=1) for name in ("future", "anchor")}}


@pytest.mark.parametrize("times", [2, 3, 6])
def test_steps_shorter_than_half_an_hour_are_forecast_as_half_hours_are(small_builder, times):
    half_hours = repeated(inputs_at(small_builder("base")), 2)
    model = stirred(base(small_builder("base"))).model
    expected, finer = (model.predict_on_batch(values)[1] for values in (half_hours, repeated(half_hours, times)))
    np.testing.assert_allclose(finer, np.repeat(expected, times, axis=1), rtol=1e-4)


def test_within_a_half_hour_each_step_has_its_own_forecast_and_one_effect_on_the_hours_around(small_builder):
    inputs = repeated(inputs_at(small_builder("base")), 6)
    raised = inputs["future"].copy()
    raised[:, 3 * 24 + 1, -1] += 500
    model = stirred(base(small_builder("base"))).model
    before, after = (model.predict_on_batch({**inputs, "future": future})[1] for future in (inputs["future"], raised))
    differs = np.abs(after - before).max(axis=0) > 1e-3
    assert differs[3 * 24 : 3 * 25].all()
    assert (after - before)[0, 3 * 24 + 1] != pytest.approx((after - before)[0, 3 * 24])
    assert differs.sum() > 3
    assert not differs[: 3 * 20].any()
    assert not differs[3 * 29 :].any()


def test_steps_of_half_an_hour_or_more_are_served_as_they_are_trained(small_builder):
    network, hourly = stirred(base(small_builder("base"))), inputs_at(small_builder("base"))
    for inputs in (hourly, repeated(hourly, 2)):
        trained = network.core.predict_on_batch(inputs)[:, :, -1] * inputs["scale"]
        np.testing.assert_allclose(network.model.predict_on_batch(inputs)[1], np.maximum(trained, 0), rtol=1e-4, atol=1e-2)


def test_a_house_twice_as_hungry_gets_twice_the_forecast(small_builder):
    builder = small_builder("base")
    inputs = inputs_at(builder)
    twice = {"context": [2.0] + [1.0] * 5, "future": [1.0] * 6 + [2.0] * 13, "daily": [2.0], "anchor": [2.0], "scale": [2.0]}
    doubled = {name: values * np.array(twice[name], np.float32) for name, values in inputs.items()}
    model = stirred(base(builder)).model
    np.testing.assert_allclose(model.predict_on_batch(doubled)[0], 2 * model.predict_on_batch(inputs)[0], rtol=1e-4)


def test_seed_is_the_articles_network(reference_house):
    plan, hyper = plan_for("seed", reference_house, "energy"), hyper_parameters("seed", {})
    model = build_seed(plan, hyper, Scaling((0.0,) * 28, (1.0,) * 28, 0.0, 1.0)).model
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["InputLayer", "Normalization", "LSTM", "LeakyReLU", "Dropout", "Dense", "Normalization", "Activation"]
    # 4 gates of 128 units on 28 inputs, 128 states and a bias; 144 outputs on 128 states and a bias
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == 4 * 128 * (28 + 128 + 1) + 144 * 129


def test_seed_takes_the_training_mean_for_an_unknown_value(small_builder):
    builder = small_builder("seed")
    mean = builder.series.values[: 40 * 24].mean(axis=0)
    inputs = inputs_at(builder)["context"]
    unknown, filled = inputs.copy(), inputs.copy()
    unknown[:, -9:], filled[:, -9:] = np.nan, mean
    model = stirred(seed(builder)).model
    np.testing.assert_allclose(model.predict_on_batch({"context": unknown}), model.predict_on_batch({"context": filled}), rtol=1e-4)


def test_seed_puts_out_physical_units(small_builder):
    builder = small_builder("seed")
    network = seed(builder)
    inputs = inputs_at(builder)
    relative, physical = network.core.predict_on_batch(inputs)[:, :, 0], network.model.predict_on_batch(inputs)
    known = builder.target[: 40 * 24]
    np.testing.assert_allclose(physical, np.maximum(relative * known.std() + known.mean(), 0), rtol=1e-4)
    np.testing.assert_allclose(network.relative(inputs, relative * known.std() + known.mean()), relative, atol=1e-5)


def test_scaling_knows_the_training_span_only(small_builder, small_series):
    values = small_series.values.copy()
    values[40 * 24 :] = 1e6
    span = Span(small_series.start, small_series.start + 40 * 24 * HOUR, np.array([]))
    assert scaling_of(small_builder("seed", series=replace(small_series, values=values)), span) == scaling_of(small_builder("seed"), span)


def test_a_channel_that_never_changes_is_left_as_it_is(small_builder, small_series):
    values = small_series.values.copy()
    values[:, 1], values[:, 2] = 21.0, np.nan
    span = Span(small_series.start, small_series.end, np.array([]))
    scaling = scaling_of(small_builder("seed", series=replace(small_series, values=values)), span)
    assert (scaling.mean[1:], scaling.std[1:]) == ((21.0, 0.0), (1.0, 1.0))


def test_the_loss_worked_out_by_hand():
    # error 2 at level 0.1, 1 at 0.9, mean off by 3: 2 * (0.2 + 0.9) / 2 + 0.5 * 9
    actual, predicted = np.array([[[5.0]]], np.float32), np.array([[[3.0, 4.0, 2.0]]], np.float32)
    assert float(forecast_loss((0.1, 0.9), mean_weight=0.5)(actual, predicted)[0]) == pytest.approx(1.1 + 4.5)


def test_the_loss_without_levels_is_the_squared_error():
    actual, predicted = np.array([[[5.0], [1.0]]], np.float32), np.array([[[3.0], [1.0]]], np.float32)
    assert float(forecast_loss((), mean_weight=1.0)(actual, predicted)[0]) == pytest.approx(2.0)


def test_unknown_steps_count_nowhere_in_the_loss():
    loss = forecast_loss((0.5,), mean_weight=1.0)
    known, predicted = np.array([[[5.0]]], np.float32), np.array([[[3.0, 3.0], [7.0, 7.0]]], np.float32)
    some = np.array([[[5.0], [np.nan]]], np.float32)
    assert float(loss(some, predicted)[0]) == pytest.approx(float(loss(known, predicted[:, :1])[0]))
    assert float(loss(np.full((1, 2, 1), np.nan, np.float32), predicted)[0]) == 0.0


@pytest.mark.parametrize(("preset", "build"), [("base", base), ("seed", seed)])
def test_a_saved_model_loads_with_nothing_but_keras(small_builder, tmp_path, preset, build):
    builder = small_builder(preset)
    model = stirred(build(builder)).model
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    modules = {item["module"] for item in model.get_config()["layers"]}
    assert all(module.split(".")[0] == "keras" for module in modules)
    assert not any(isinstance(layer, keras.layers.Lambda) for layer in model.layers)
    assert [i.name for i in loaded.inputs] == list(builder.plan.input_shapes())
    np.testing.assert_array_equal(loaded.predict_on_batch(inputs_at(builder))[0], model.predict_on_batch(inputs_at(builder))[0])


def test_output_names_and_order(small_builder):
    assert base(small_builder("base")).model.output_names == ["quantiles", "mean"]
    assert seed(small_builder("seed")).model.output_names == ["mean"]


@pytest.mark.parametrize(("preset", "build"), [("base", base), ("seed", seed)])
def test_mixed_precision_changes_no_weight_and_keeps_scaling_exact(small_builder, preset, build):
    builder = small_builder(preset)
    mixed, plain = build(builder, replace(TINY, mixed_precision=True)), build(builder)
    plain.core.set_weights(mixed.core.get_weights())
    ours, theirs = mixed.model.predict_on_batch(inputs_at(builder)), plain.model.predict_on_batch(inputs_at(builder))
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-2)


def test_a_plan_in_another_order_is_refused(small_builder):
    plan = small_builder("base").plan
    with pytest.raises(ConfigError, match="target, calendar, role"):
        build_base(replace(plan, context=plan.context[::-1]), TINY)
    with pytest.raises(ConfigError, match="end with its lags"):
        build_base(replace(plan, future=plan.future[::-1]), TINY)


@pytest.mark.parametrize(
    ("preset", "build", "options"),
    [("base", base, {}), ("base", base, {"target": "living_room", "covariates": ("outdoor_temperature",)}), ("seed", seed, {})],
)
def test_a_model_becomes_a_graph_with_one_fused_lstm_that_agrees(small_builder, preset, build, options):
    builder = small_builder(preset, **options)
    model, inputs = stirred(build(builder)).model, inputs_at(builder)
    inputs["context"][:, 5:60, :1] = np.nan
    graph = convert(model, builder.plan, tuple(model.output_names)).graph.SerializeToString()
    assert operators(graph)["LSTM"] == 1
    ours = onnxruntime.InferenceSession(graph).run(model.output_names, inputs)
    for graphs, keras_s in zip(ours, model.predict(inputs, verbose=0) if len(ours) > 1 else [model.predict(inputs, verbose=0)], strict=True):
        np.testing.assert_allclose(graphs, keras_s, rtol=1e-4, atol=1e-3)


def test_an_ensemble_is_the_mean_of_its_members_in_one_graph(small_builder):
    builder = small_builder("base")
    inputs = inputs_at(builder)
    network = stirred(base(builder, replace(TINY, members=3)))
    apart = [member.core.predict_on_batch(inputs) for member in network.members]
    assert not np.allclose(apart[0], apart[1], rtol=1e-2)
    np.testing.assert_allclose(network.core.predict_on_batch(inputs), np.mean(apart, axis=0), rtol=1e-4, atol=1e-5)
    graph = convert(network.model, builder.plan, tuple(network.model.output_names))
    assert [node.op_type for node in graph.graph.graph.node].count("LSTM") == 3


def test_the_days_total_counts_in_the_loss():
    actual, predicted = np.array([[[1.0], [3.0], [np.nan]]], np.float32), np.zeros((1, 3, 2), np.float32)
    without, with_total = (float(forecast_loss((0.5,), mean_weight=0.0, total_weight=weight)(actual, predicted)[0]) for weight in (0.0, 0.5))
    assert with_total - without == pytest.approx(0.5 * 4 / 2)


def test_a_patch_must_divide_the_context(small_builder):
    with pytest.raises(ConfigError, match="--patch 5: a divisor of the 168 steps"):
        base(small_builder("base"), replace(TINY, patch=5))


def test_a_steady_home_weighs_more_than_an_erratic_one_whatever_its_size():
    shape = np.array([0.9, 1.1, 1.0])  # two quantiles and the mean
    steady, erratic = np.tile(shape, (1, 4, 1)), np.tile([0.2, 1.8, 1.0], (1, 4, 1))
    anchors = np.concatenate([steady, 7 * steady, erratic])
    weight = steady_homes_weigh_more({"anchor": anchors, "scale": np.array([[1.0], [7.0], [1.0]])})
    np.testing.assert_allclose(weight, [4.0, 4.0, 0.5], rtol=1e-6)
