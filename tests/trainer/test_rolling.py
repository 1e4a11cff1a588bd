from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_agent.contract.bundle import read_bundle
from edge_agent.contract.errors import DataError
from edge_agent.contract.schema import parse_house
from edge_agent.contract.series import Series
from edge_agent.forecaster import Forecaster, Model
from trainer.baselines import CLIMATOLOGY
from trainer.rolling import Home, forecasts

DAY_S = 86_400
LEVELS = tuple(np.arange(1, 10) / 10)


@pytest.fixture(scope="module")
def model():
    return Model(read_bundle(Path(__file__).parents[1] / "fixtures" / "tiny", allow_unsigned=True))


def home(model, site="h", *, step_s=3600, n_origins=10, gap=None, seed=0):
    house = parse_house(
        f"""
        site = "{site}"
        time_zone = "Europe/Berlin"
        step = {step_s}
        targets = [{{ name = "energy", sensor = "mains" }}]
        sensors = [{{ name = "mains", role = "energy", column = "wh" }}]
        """,
        source="test",
    )
    values = np.random.default_rng(seed).gamma(2.0, 40.0, 70 * DAY_S // step_s)
    if gap:
        values[gap] = np.nan
    series = Series(0, step_s, house.features, values[:, None])
    return Home(Forecaster(house, model, target="energy"), series, 60 * DAY_S + 3600 * np.arange(n_origins))


def by_home(parts):
    out = {}
    for part in parts:
        out.setdefault(part.home.name, []).append(part)
    return out


@pytest.mark.parametrize("block", [1, 7, 256])
def test_forecasts_do_not_depend_on_the_batches_they_were_made_in(model, block):
    homes = [home(model, "a", n_origins=20), home(model, "b", n_origins=3, seed=1), home(model, "c", step_s=1800, n_origins=5)]
    parts = by_home(forecasts(homes, block=block))
    assert list(parts) == ["a:energy", "b:energy", "c:energy"]
    for one in homes:
        found = parts[one.name]
        assert [part.is_last for part in found] == [False] * (len(found) - 1) + [True]
        np.testing.assert_array_equal(np.concatenate([p.predictions[one.method].origins for p in found]), one.origins)
        quantiles, mean = one.forecaster.batch(one.forecaster.builder(one.series), one.origins)
        np.testing.assert_allclose(np.concatenate([p.predictions[one.method].quantiles for p in found]), quantiles, rtol=1e-5)
        np.testing.assert_allclose(np.concatenate([p.predictions[one.method].mean for p in found]), mean, rtol=1e-5)


def test_homes_of_one_step_share_the_runs_of_the_graph(model, monkeypatch):
    sizes = []
    run = Model.run
    monkeypatch.setattr(Model, "run", lambda self, inputs: (sizes.append(len(inputs.origins)), run(self, inputs))[1])
    homes = [home(model, f"h{i}", n_origins=3) for i in range(4)] + [home(model, "other", step_s=1800, n_origins=2)]
    list(forecasts(homes, block=8))
    assert sizes == [8, 4, 2]


def test_where_the_target_is_unknown_the_climatology_steps_in_as_on_the_gateway(model):
    gappy = home(model, n_origins=30, gap=slice(59 * 24 + 8, 60 * 24))  # 16 of the 24 hours before the first origin
    (part,) = forecasts([gappy])
    own, climatology = part.predictions[gappy.method], part.predictions[CLIMATOLOGY]
    fallback = np.array([grade == "baseline" for grade in part.grades])
    assert 0 < fallback.sum() < 30
    np.testing.assert_array_equal(own.quantiles[fallback], climatology.quantiles[fallback])
    assert (own.quantiles[~fallback] != climatology.quantiles[~fallback]).any(axis=(1, 2)).all()


def test_a_graph_that_fails_to_be_finite_falls_back_too(model, monkeypatch):
    run = Model.run

    def broken(self, inputs):
        quantiles, mean = run(self, inputs)
        quantiles[1, 5, 3] = np.nan
        return quantiles, mean

    monkeypatch.setattr(Model, "run", broken)
    one = home(model, n_origins=3)
    (part,) = forecasts([one])
    assert part.grades[1] == "baseline"
    np.testing.assert_array_equal(part.predictions[one.method].quantiles[1], part.predictions[CLIMATOLOGY].quantiles[1])


def test_without_a_model_the_climatology_is_the_forecast_and_order_is_kept(model):
    bare = replace(home(model, "bare"), forecaster=Forecaster(home(model, "bare").forecaster.house, None))
    parts = list(forecasts([home(model, "a"), bare, home(model, "b")]))
    assert [part.home.name for part in parts] == ["a:energy", "bare:energy", "b:energy"]
    assert bare.method == CLIMATOLOGY
    assert CLIMATOLOGY in parts[1].predictions
    assert set(parts[1].grades) == {"baseline"}


def test_only_one_home_is_open_at_a_time(model):
    """What bounds the memory: the next home is asked for when the one before is through."""
    asked, seen = [], []

    def homes():
        for i in range(4):
            asked.append(i)
            yield home(model, f"h{i}", n_origins=16)

    for part in forecasts(homes(), block=4):
        seen.append(part.home.name)
        assert len(asked) - len(set(seen)) <= 1


def test_a_home_without_origins_is_refused(model):
    with pytest.raises(DataError, match="widen --from and --to"):
        list(forecasts([home(model, n_origins=0)]))
