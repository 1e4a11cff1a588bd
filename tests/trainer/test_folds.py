import numpy as np
import pytest

from trainer.folds import forward_folds

HOUR, DAY = 3600, 86_400
START = 1_767_225_600


def hourly(days):
    return START + HOUR * np.arange(24 * days)


def test_the_last_half_is_held_out_in_blocks_after_what_is_trained_on():
    origins = hourly(40)
    first, second = forward_folds(origins, horizon_s=DAY)  # 20 days are held out: two folds of at least seven
    assert (origins[first.held_out[0]] - START) / DAY == 20
    assert (origins[second.held_out[0]] - START) / DAY == 30
    assert origins[first.held_out[-1]] == START + 29 * DAY  # its outcomes end where the second's begin
    assert second.held_out[-1] == len(origins) - 1
    for fold in (first, second):
        last_outcome = origins[fold.train[-1]] + DAY
        assert origins[fold.held_out[0]] - last_outcome == DAY
        assert fold.train[0] == 0


@pytest.mark.parametrize(("days", "expected"), [(10, 0), (26, 0), (28, 2), (44, 3), (56, 4), (1000, 4)])
def test_folds_are_as_many_as_weeks_allow(days, expected):
    assert len(forward_folds(hourly(days), horizon_s=DAY)) == expected


def test_days_without_origins_do_not_count():
    origins = hourly(40)
    gap = (origins >= START + 25 * DAY) & (origins < START + 33 * DAY)
    assert forward_folds(origins[~gap], horizon_s=DAY)
    assert not forward_folds(origins[~gap][:-200], horizon_s=DAY)
    assert forward_folds(origins[:0], horizon_s=DAY) == []
