from dataclasses import asdict, replace
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from edge_agent.contract.errors import DataError
from trainer.scores import Predictions, coverage_by_level, day_types, hours, leads, score, score_groups
from trainer.tally import Tally, slots

BERLIN = ZoneInfo("Europe/Berlin")
LEVELS = (0.1, 0.5, 0.9)


@pytest.fixture
def predictions():
    """Forty origins, three hours apart, over a weekend and a clock change; some values unknown."""
    rng = np.random.default_rng(2)
    actual = rng.gamma(2.0, 50.0, (40, 24))
    actual[rng.random(actual.shape) < 0.05] = np.nan
    origins = 1774569600 + 10_800 * np.arange(40)  # 2026-03-27T00:00Z
    return Predictions(origins, 3600, LEVELS, np.sort(rng.gamma(2.0, 50.0, (40, 24, 3)), axis=2), rng.gamma(2.0, 50.0, (40, 24)), actual)


def part(predictions, rows):
    names = ("origins", "quantiles", "mean", "actual")
    return replace(predictions, **{name: getattr(predictions, name)[rows] for name in names})


def tally_of(predictions, *, size=40):
    tally = Tally(horizon=24, quantile_levels=LEVELS)
    for first in range(0, 40, size):
        one = part(predictions, slice(first, first + size))
        tally.add(one, slots(one, BERLIN))
    return tally


def same(found, expected):
    assert list(found) == list(expected)
    for group in expected:
        assert asdict(found[group]) == pytest.approx(asdict(expected[group]), nan_ok=True)


@pytest.mark.parametrize("size", [40, 7])
def test_sums_give_the_scores_that_all_forecasts_together_give(predictions, size):
    tally = tally_of(predictions, size=size)
    same({0: tally.whole()}, {0: score(predictions)})
    same(tally.leads(), score_groups(predictions, leads(predictions)))
    same(tally.hours(), score_groups(predictions, hours(predictions, BERLIN)))
    same(tally.day_types(), score_groups(predictions, day_types(predictions, BERLIN)))
    np.testing.assert_allclose(tally.coverage_by_level(), coverage_by_level(predictions))
    assert tally.mean_actual == pytest.approx(np.nanmean(predictions.actual))


def test_another_unit_changes_errors_and_no_shares(predictions):
    tally, tenth = tally_of(predictions), tally_of(predictions).scaled(0.1)
    same(
        {0: tenth.whole()},
        {0: score(part(replace(predictions, **{n: getattr(predictions, n) / 10 for n in ("quantiles", "mean", "actual")}), slice(40)))},
    )
    assert tenth.mean_actual == pytest.approx(tally.mean_actual / 10)


def test_homes_add_up(predictions):
    halves = [Tally(horizon=24, quantile_levels=LEVELS) for _ in range(2)]
    for tally, rows in zip(halves, (slice(0, 20), slice(20, 40)), strict=True):
        tally.add(part(predictions, rows), slots(part(predictions, rows), BERLIN))
    same({0: (halves[0] + halves[1]).whole()}, {0: score(predictions)})


def test_a_missing_forecast_is_refused_and_nothing_known_is_no_score(predictions):
    silent = replace(predictions, mean=np.full((40, 24), np.nan))
    with pytest.raises(DataError, match="NaN where the actual value is known"):
        tally_of(silent)
    with pytest.raises(DataError, match="no actual value is known"):
        tally_of(replace(predictions, actual=np.full((40, 24), np.nan))).whole()
