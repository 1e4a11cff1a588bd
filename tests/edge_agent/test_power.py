"""Energy from power readings beside a counter. 3600 W are 1 Wh a second."""

import json

import pytest

from edge_agent.power import PowerTrace


def trace(*readings, hold_s=7200):
    power = PowerTrace(step_s=600, hold_s=hold_s)
    for time, watts in readings:
        power.add(float(time), watts)
    return power


def test_a_reading_holds_until_the_next():
    assert trace((0, 3600.0), (100, 0.0), (200, 7200.0)).energy(50, 250) == pytest.approx(50 + 0 + 100)


def test_what_is_not_covered_is_not_known():
    power = trace((0, 3600.0), hold_s=100)
    assert power.energy(0, 100) == 100.0
    assert power.energy(0, 110) is None
    assert trace().energy(0, 10) is None


def test_old_readings_change_nothing():
    power = trace((0, 3600.0), (100, 0.0))
    assert not power.add(50.0, 1e6)
    assert power.energy(0, 100) == 100.0


def test_energy_since_the_mark_survives_forgetting_and_a_restart():
    power, again = trace(*((10 * i, 3600.0) for i in range(101))), PowerTrace(step_s=600, hold_s=7200)
    power.mark(200.0)
    power.forget(600.0)
    again.restore(json.loads(json.dumps(power.state())))
    for each in (power, again):
        assert each.since_mark(1000) == pytest.approx(800.0)
        assert each.energy(700, 800) == pytest.approx(100.0)
        assert each.since_mark(100) is None


def test_the_longest_time_without_a_reading():
    assert trace((0, 1.0), (100, 1.0), (400, 1.0)).longest_gap_s(0, 500) == 300.0
