from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np

from demo.grid import Grid, blocks, lag, wander
from edge_agent.contract.localtime import DAY_S

BERLIN = ZoneInfo("Europe/Berlin")


def utc(*parts):
    return int(datetime(*parts, tzinfo=UTC).timestamp())


def test_blocks_add_up_and_are_cut_off_at_the_ends():
    total = blocks(6, np.array([-2, 1, 4]), np.array([4, 2, 9]), np.array([1.0, 10.0, 100.0]))
    assert total.tolist() == [1, 11, 10, 0, 100, 100]


def test_lag_comes_closer_by_the_same_share_each_step():
    states = lag(np.array([0.0, 1.0, 1.0]), steps=1 / np.log(2))
    np.testing.assert_allclose(states, [0.0, 0.5, 0.75])


def test_wander_has_variance_one_and_remembers():
    noise = wander(np.random.default_rng(0), 200_000, steps=10)
    assert abs(noise.std() - 1.0) < 0.05
    assert abs(np.corrcoef(noise[:-10], noise[10:])[0, 1] - np.exp(-1)) < 0.05


def test_wall_time_keeps_its_place_in_the_day_across_the_clock_change():
    grid = Grid(utc(2026, 3, 27, 23), 4, 600, BERLIN)  # from 28 March 00:00; clocks go forward on the 29th at 02:00
    days = np.array([utc(2026, 3, 28), utc(2026, 3, 29)]) // DAY_S
    assert grid.minute(days, np.array([9.0, 9.0])).tolist() == [9 * 60, 24 * 60 + 8 * 60]


def test_evening_may_end_after_midnight():
    grid = Grid(utc(2026, 5, 31, 22), 2, 600, BERLIN)
    assert grid.minute(np.array([utc(2026, 6, 1) // DAY_S]), np.array([24.5])).tolist() == [24 * 60 + 30]


def test_free_days_are_weekends_and_public_holidays():
    grid = Grid(utc(2026, 4, 29, 22), 4, 600, BERLIN)  # Thursday 30 April to Sunday 3 May 2026, and Wednesday before
    assert grid.is_free.tolist() == [False, False, True, True, True]


def test_spans_count_people_minute_by_minute():
    grid = Grid(utc(2026, 5, 31, 22), 1, 600, BERLIN)
    day = np.array([utc(2026, 6, 1) // DAY_S])
    present = grid.spans(np.repeat(day, 2), np.array([0.0, 0.05]), np.array([0.1, 0.1]))
    assert present[:7].tolist() == [1, 1, 1, 2, 2, 2, 0]
