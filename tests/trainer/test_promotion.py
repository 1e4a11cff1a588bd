"""Models that are the climatology, one of them spoilt, on the small house: which is compared where, and which wins."""

import keras
import numpy as np
import pytest
from rich.console import Console

from edge_agent.contract.calibration import identity
from edge_agent.contract.errors import DataError
from edge_agent.contract.localtime import DAY_S
from trainer.model import build_base
from trainer.presets import HyperParameters, plan_for
from trainer.promotion import Contender, Ground, compare, is_won, unseen_origins

HOUR = 3600


@pytest.fixture(scope="module")
def ground(small_house, small_series):
    return Ground("small:energy", small_series, "meter", small_house.zone)


@pytest.fixture(scope="module")
def contender(small_house):
    """`contender("a", seen=…, bias=0.2)`: the climatology, its quantiles shifted by a share of the house's mean."""
    plan = plan_for("base", small_house, "energy")

    def make(label, seen, bias=0.0):
        keras.utils.set_random_seed(0)
        model = build_base(plan, HyperParameters(units=3)).model
        model.get_layer("shift").bias.assign(np.full(10, bias, np.float32))
        record = {"plan": plan.to_dict(), "calibration": identity(plan.quantile_levels).to_dict(), "training": {"looked_at_until": seen}}
        return Contender(label, record, model)

    return make


def after(series, days):
    return series.start + days * DAY_S


def test_origins_lie_a_horizon_after_what_any_contender_has_seen(contender, ground, small_series):
    one, other = contender("one", {"small:energy": after(small_series, 60)}), contender("other", {"small:energy": after(small_series, 65)})
    origins = unseen_origins([one, other], ground)
    assert origins[0] == after(small_series, 66)
    assert origins[-1] == small_series.end - DAY_S
    assert (np.diff(origins) == HOUR).all()


def test_another_target_of_the_same_site_counts_as_seen_and_another_site_does_not(contender, ground, small_series):
    others = {"small:living_room": after(small_series, 70), "smaller:energy": after(small_series, 79)}
    assert contender("one", others).seen_until(ground.name) == after(small_series, 70)
    assert contender("one", {"cottage:energy": 5}).seen_until(ground.name) == 0


def test_the_better_one_wins(contender, ground, small_series):
    seen = {"small:energy": after(small_series, 60)}
    champion, challenger = contender("champion", seen, bias=0.3), contender("challenger", seen)
    comparison = compare([challenger, champion], [ground], Console(quiet=True))
    assert comparison.ratios["challenger"] == pytest.approx(1.0, abs=1e-4)
    assert comparison.ratios["champion"] > 1.1
    assert is_won(comparison, "challenger")
    assert not is_won(comparison, "champion")
    assert comparison.n_origins == 18 * 24 + 1
    assert "challenger +0.00%" in comparison.said or "challenger -0.00%" in comparison.said


def test_without_a_champion_the_climatology_has_to_be_beaten(contender, ground, small_series):
    comparison = compare([contender("challenger", {"small:energy": after(small_series, 60)}, bias=0.3)], [ground], Console(quiet=True))
    assert not is_won(comparison, "challenger")


def test_nothing_is_compared_where_the_champion_has_seen_it_all(contender, ground, small_series):
    seen = {"small:energy": after(small_series, 60)}
    champion = contender("champion", {"small:energy": after(small_series, 74)})
    with pytest.raises(DataError, match=r"only 5 days have an origin .* at least 7 are expected: give newer --data"):
        compare([contender("challenger", seen), champion], [ground], Console(quiet=True))


def test_a_record_that_does_not_say_what_was_seen_is_not_compared(contender, ground):
    with pytest.raises(DataError, match="the old one does not say what it was trained on"):
        unseen_origins([contender("old one", None)], ground)
