"""The usual interval of a sensor, learnt from the times of its messages."""

import json

import pytest

from edge_agent.cadence import LEARNT_INTERVALS, Cadence


def after(*intervals_s, start=1_000_000.0):
    cadence, time = Cadence(), start
    cadence.add(time)
    for interval_s in intervals_s:
        time += interval_s
        cadence.add(time)
    return cadence


@pytest.mark.parametrize("interval_s", [1, 10, 60, 200, 3600, 7000])
def test_a_steady_sensor_is_known_within_a_factor_of_one_and_a_half(interval_s):
    usual_s = after(*[interval_s] * max(LEARNT_INTERVALS, 4000 // interval_s + 1)).usual_s
    assert interval_s <= usual_s <= 1.5 * interval_s


def test_it_takes_an_hour_and_eight_messages_to_know():
    assert after(*[10] * 300).usual_s is None
    assert after(3600, 3600).usual_s is None


def test_a_plug_that_is_mostly_quiet_is_a_quiet_one():
    day = [*[5] * 700, *[3600] * 23]  # an hour of use with a message every five seconds
    assert after(*day).usual_s >= 3600


def test_one_outage_does_not_make_a_fast_meter_slow():
    assert after(*[10] * 8000, 1200, *[10] * 100).usual_s < 20


def test_a_new_habit_replaces_the_old_one_within_nine_days():
    assert after(*[10] * 8640, *[600] * 6 * 24 * 9).usual_s >= 600
    assert after(*[600] * 144, *[10] * 8640 * 9).usual_s < 20


def test_an_outage_is_no_habit():
    cadence, time = Cadence(longest_s=7200), 0.0
    for interval_s in [*[60] * 120, 40_000, *[60] * 10]:
        time += interval_s
        cadence.add(time)
    assert cadence.usual_s < 90


def test_messages_out_of_order_tell_nothing():
    cadence = after(*[200] * 40)
    before = cadence.state()
    cadence.add(cadence.last - 50)
    cadence.add(cadence.last)
    assert cadence.state() == before


def test_a_restart_forgets_nothing():
    cadence, again = after(*[200] * 40), Cadence()
    again.restore(json.loads(json.dumps(cadence.state())))
    assert again.state() == cadence.state()
    assert again.usual_s == cadence.usual_s
