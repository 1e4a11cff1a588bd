import numpy as np
import pytest

from edge_agent.contract.localtime import DAY_S
from trainer.seen import Seen, looked_at_until, seen_days, together

NOON = 1_767_265_200  # 2026-01-01 12:00 in Berlin


@pytest.mark.parametrize(
    ("until", "n_seen"), [({}, 0), ({"small:energy": NOON + 2 * DAY_S}, 3), ({"small:heating": NOON}, 1), ({"smaller:energy": 9e9}, 0)]
)
def test_a_day_is_seen_when_any_of_its_forecasts_began_before_the_end_of_training(small_house, until, n_seen):
    origins = np.arange(NOON - 6 * 3600, NOON + 10 * DAY_S, 3600)
    assert seen_days(origins, small_house, until) == Seen(11, n_seen)


def test_a_model_that_does_not_say_what_it_learnt_from_has_seen_nothing():
    assert looked_at_until({"houses": ["small"]}) == {}


def test_the_note_is_there_only_when_something_was_seen():
    assert Seen(40, 0).note("a house called small") == ""
    assert Seen(1040, 12).note("a house called small") == (
        "the model has seen 12 of the 1,040 scored days: it learnt from a house called small, so these scores flatter it"
    )
    assert together([Seen(40, 12), Seen(5, 5)]) == Seen(45, 17)
