"""Values of each step, worked out by hand, whatever the order of the readings. Step 600 s, first step at 0."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.meter import MAX_READINGS, HeldMeter, IntervalMeter

STEP = 600
unknown = pytest.approx(math.nan, nan_ok=True)


def held(*, hold_s=900):
    return HeldMeter("room", step_s=STEP, hold_s=hold_s)


def close(meter, n, first=0):
    return [meter.close(i * STEP, (i + 1) * STEP) for i in range(first, first + n)]


def feed(meter, *readings):
    return [meter.add(time, value) for time, value in readings]


def told(meter):
    return [(r.what, r.value) for r in meter.repairs]


def revised(meter):
    return {revision.time: revision.value for revision in meter.revisions}


# Power and states


def test_power_becomes_energy_by_its_time():
    meter = HeldMeter("room", step_s=STEP, hold_s=7200, scale=STEP / 3600)
    feed(meter, (0, 600.0), (300, 1200.0), (600, 60.0))
    assert close(meter, 2) == [150.0, 10.0]  # 600 W and 1200 W for 5 minutes each, then 60 W for 10


def test_a_reading_holds_no_longer_than_its_hold():
    meter = held()
    feed(meter, (0, 21.0))
    assert close(meter, 3) == [21.0, 21.0, unknown]  # the second is half covered, the third not at all


def test_a_plug_that_dies_under_load_does_not_go_on_for_hours():
    meter = HeldMeter("kettle", step_s=STEP, hold_s=7200, scale=STEP / 3600, is_power=True)
    feed(meter, *((10.0 * i, 2000.0) for i in range(420)))  # ten seconds are usual: known after an hour
    assert close(meter, 9) == [pytest.approx(2000 / 6)] * 8 + [unknown]  # held for a step more, no longer


def test_an_unknown_step_is_filled_by_readings_that_come_late():
    meter = held(hold_s=1800)
    feed(meter, (0, 21.0))
    assert close(meter, 4) == [21.0, 21.0, 21.0, unknown]
    assert feed(meter, (1900, 22.0), (2000, 23.0), (-1, 5.0)) == [True, True, False]
    close(meter, 1, first=4)
    assert revised(meter) == {1800: pytest.approx((100 * 22.0 + 400 * 23.0) / 500)}


def test_a_step_is_not_filled_after_the_hold_time():
    meter = held()
    close(meter, 4)
    feed(meter, (0, 21.0))
    close(meter, 1, first=4)
    assert revised(meter) == {}


def test_a_reading_with_the_same_time_replaces_the_first():
    meter = held()
    feed(meter, (0, 21.0), (0, 22.0))
    assert close(meter, 1) == [22.0]


def test_a_reading_older_than_the_one_that_holds_is_refused():
    meter = held()
    feed(meter, (0, 20.0), (500, 21.0))
    close(meter, 1)
    assert feed(meter, (400, 5.0), (550, 22.0)) == [False, True]
    assert close(meter, 1, first=1) == [22.0]


@given(st.permutations([(0, 18.0), (100, 19.0), (300, 21.0), (550, 20.0), (700, 30.0)]))
def test_readings_of_a_step_may_come_in_any_order(readings):
    meter = held(hold_s=7200)
    feed(meter, *readings)
    assert close(meter, 1) == [pytest.approx((100 * 18 + 200 * 19 + 250 * 21 + 50 * 20) / 600)]


def test_a_flood_of_readings_does_not_fill_the_memory():
    meter = held()
    taken = sum(meter.add(i / 100, 1.0) for i in range(MAX_READINGS + 50))
    assert taken == MAX_READINGS


# Energy of an interval


def interval():
    return IntervalMeter("meter", step_s=STEP, grace_s=5.0, hold_s=3600, low_w=0.0, high_w=6000.0)


def test_a_message_at_the_end_of_its_interval_belongs_to_the_step_that_ended():
    meter = interval()
    feed(meter, (600, 40.0), (1203, 50.0), (1805.1, 60.0))  # the last comes after the grace
    assert close(meter, 4) == [40.0, 50.0, unknown, 60.0]


def test_a_message_within_the_grace_belongs_to_the_step_before_the_first_too():
    meter = interval()
    feed(meter, (3, 40.0), (600, 50.0))
    assert close(meter, 1) == [50.0]


def test_intervals_shorter_than_the_step_add_up():
    meter = interval()
    feed(meter, *((60.0 * i, 1.5) for i in range(1, 11)))
    assert close(meter, 1) == [15.0]


def test_energy_outside_the_valid_range_is_unknown_and_told():
    meter = interval()
    feed(meter, (600, 1000.5), (1200, -1.0))  # 1000 Wh in ten minutes are 6000 W
    assert close(meter, 2) == [unknown, unknown]
    assert told(meter) == [("range", 1000.5), ("range", -1.0)]


def test_a_message_of_a_known_step_is_refused():
    meter = interval()
    feed(meter, (600, 40.0))
    close(meter, 1)
    assert feed(meter, (604, 40.0), (605.5, 41.0)) == [False, True]


def test_a_step_without_a_message_is_filled_when_it_comes_late():
    meter = interval()
    assert close(meter, 3) == [unknown] * 3
    assert feed(meter, (1200, 50.0), (600, 40.0), (4, 30.0)) == [True, True, False]  # kept by the broker meanwhile
    close(meter, 1, first=3)
    assert revised(meter) == {0: 40.0, 600: 50.0}


def test_a_step_that_came_out_invalid_is_not_filled_again():
    meter = interval()
    feed(meter, (600, 1e6))
    close(meter, 1)
    assert feed(meter, (601, 40.0)) == [False]


@pytest.mark.parametrize("make", [held, interval])
def test_state_of_a_meter_is_restored(make):
    meter, restored = make(), make()
    feed(meter, (0, 1.0), (590, 2.0), (604, 3.0))
    close(meter, 1)
    restored.restore(meter.state(), open_from=600)
    for each in (meter, restored):
        feed(each, (700, 4.0), (1200, 5.0))
    assert close(restored, 1, first=1) == close(meter, 1, first=1)
    assert restored.state() == meter.state()
