"""Energy of each step, worked out by hand, and that none is lost or counted twice however readings come. Step 600 s, first step at 0."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.meter import MAX_READINGS, CounterMeter, HeldMeter, IntervalMeter

STEP = 600
unknown = pytest.approx(math.nan, nan_ok=True)


def counter(*, hold_s=7200, low_w=0.0, high_w=50_000.0):
    return CounterMeter("plug", step_s=STEP, hold_s=hold_s, low_w=low_w, high_w=high_w)


def close(meter, n, first=0):
    return [meter.close(i * STEP, (i + 1) * STEP) for i in range(first, first + n)]


def feed(meter, *readings):
    return [meter.add(time, value) for time, value in readings]


def told(meter):
    return [(r.what, r.value) for r in meter.repairs]


# A counter that is believed


def test_readings_on_the_edges_give_exact_energies():
    meter = counter()
    feed(meter, (0, 1000.1), (600, 1013.4), (1200, 1013.4), (1800, 1020.0))
    assert close(meter, 3) == [1013.4 - 1000.1, 0.0, 1020.0 - 1013.4]
    assert not meter.repairs


def test_first_reading_is_a_starting_point_and_no_energy():
    meter = counter()
    feed(meter, (300, 5_000_000.0), (600, 5_000_010.0), (1200, 5_000_025.0))
    assert close(meter, 2) == [unknown, 15.0]
    assert told(meter) == [("start", 10.0)]


def test_counter_between_edges_lies_on_the_line_when_the_next_reading_is_known():
    meter = counter()
    feed(meter, (0, 0.0), (500, 50.0), (700, 70.0), (1200, 100.0))
    assert close(meter, 2) == pytest.approx([60.0, 40.0])


def test_energy_that_shows_late_goes_into_the_next_step():
    meter = counter()
    feed(meter, (0, 0.0), (500, 50.0))
    first = close(meter, 1)
    feed(meter, (700, 70.0), (1200, 100.0))
    assert first + close(meter, 1, first=1) == [50.0, 50.0]


def test_a_coarse_counter_waits_without_losing_energy():
    meter = counter()
    feed(meter, (0, 0.0))
    energies = []
    for i in range(6):  # one tick of 10 Wh in half an hour, every message repeats the cached value
        feed(meter, ((i + 1) * STEP, 10.0 * ((i + 1) // 3)))
        energies += close(meter, 1, first=i)
    assert energies == [0.0, 0.0, 10.0, 0.0, 0.0, 10.0]


def test_a_tick_right_after_a_repeated_value_is_no_jump():
    meter = counter(high_w=3000.0)
    feed(meter, (0, 0.0), (599, 0.0), (600, 100.0))  # 360 kW if the tick had come within one second
    assert close(meter, 1) == [100.0]
    assert not meter.repairs


def test_a_solar_meter_may_run_backwards_when_its_valid_range_says_so():
    meter = counter(low_w=-5000.0)
    feed(meter, (0, 1000.0), (600, 800.0), (1200, 900.0))
    assert close(meter, 2) == [-200.0, 100.0]


# A counter that cannot be believed


def test_counter_reset_makes_its_step_unknown_and_goes_on():
    meter = counter()
    feed(meter, (0, 550.0), (300, 560.0), (700, 2.0), (800, 3.0), (1200, 7.0), (1800, 20.0))
    assert close(meter, 3) == [unknown, unknown, 13.0]
    assert told(meter) == [("reset", 7.0 - 550.0)]
    assert meter.repairs[0].time == 700


def test_reset_confirmed_after_its_step_was_closed_is_repaired_in_the_next():
    meter = counter()
    feed(meter, (0, 550.0), (600, 560.0), (1100, 0.0))
    before = close(meter, 2)
    feed(meter, (1300, 4.0), (1800, 10.0))
    assert before == [10.0, 0.0]
    assert close(meter, 1, first=2) == [pytest.approx(10.0 - 4.0 * 100 / 200)]  # the counter was at 2 Wh at 1200
    assert told(meter) == [("reset", pytest.approx(2.0 - 560.0))]


def test_a_single_low_reading_is_no_reset():
    meter = counter()
    feed(meter, (0, 550_000.0), (300, 0.0), (600, 550_100.0), (1200, 550_150.0))
    assert close(meter, 2) == [100.0, 50.0]
    assert told(meter) == [("outlier", -550_000.0)]


def test_a_single_low_reading_around_an_edge_costs_nothing():
    meter = counter()
    feed(meter, (0, 550_000.0), (595, 0.0))
    first = close(meter, 1)
    feed(meter, (605, 550_100.0), (1200, 550_150.0))
    assert first + close(meter, 1, first=1) == [0.0, 150.0]


def test_the_same_low_value_repeated_from_the_cache_confirms_nothing():
    meter = counter()
    feed(meter, (0, 550_000.0), (10, 0.0), (15, 0.0), (500, 0.0), (600, 550_100.0))
    assert close(meter, 1) == [100.0]
    assert [r.what for r in meter.repairs] == ["outlier"]


def test_a_low_value_that_lasts_a_step_is_a_reset():
    meter = counter()
    feed(meter, (0, 550_000.0), (100, 0.0), (700, 0.0), (1200, 0.0), (1800, 5.0))
    assert close(meter, 3) == [unknown, 0.0, 5.0]
    assert told(meter) == [("reset", -550_000.0)]


def test_a_jump_over_the_plausible_maximum_is_written_off_once_confirmed():
    meter = counter(high_w=3000.0)  # at most 500 Wh a step
    feed(meter, (0, 1000.0), (600, 551_000.0), (1200, 551_010.0), (1800, 551_030.0))
    assert close(meter, 3) == [unknown, 10.0, 20.0]
    assert told(meter) == [("jump", 550_000.0)]


def test_a_rise_is_weighed_against_the_time_since_the_last_rise():
    meter = counter(high_w=3000.0)
    feed(meter, (0, 0.0), (5400, 4000.0), (6000, 8000.0), (6600, 4100.0))  # 4 kWh are plausible in 90 minutes, not in 10
    assert close(meter, 11)[8:] == pytest.approx([4000 / 9, 50.0, 50.0])
    assert told(meter) == [("outlier", 4000.0)]


def test_a_high_reading_that_goes_back_is_an_outlier():
    meter = counter(high_w=3000.0)
    feed(meter, (0, 1000.0), (300, 551_000.0), (600, 1020.0))
    assert close(meter, 1) == [20.0]
    assert told(meter) == [("outlier", 550_000.0)]


def test_two_contradicting_readings_are_both_ignored():
    meter = counter(high_w=3000.0)
    feed(meter, (0, 1000.0), (100, 551_000.0), (200, 0.0), (600, 1020.0))
    assert close(meter, 1) == [20.0]
    assert told(meter) == [("outlier", 550_000.0), ("outlier", -1000.0)]


# Silence


def test_silence_within_the_hold_is_no_energy_yet():
    meter = counter(hold_s=1800)
    feed(meter, (0, 0.0))
    quiet = close(meter, 2)
    feed(meter, (1800, 30.0))
    assert quiet + close(meter, 1, first=2) == [0.0, 0.0, 30.0]


def test_silence_longer_than_the_hold_is_unknown_and_not_dumped_into_one_step():
    meter = counter(hold_s=900)
    feed(meter, (0, 0.0), (600, 10.0))
    quiet = close(meter, 4)
    feed(meter, (2700, 70.0), (3000, 80.0), (3600, 95.0))
    assert quiet == [10.0, 0.0, unknown, unknown]
    assert close(meter, 2, first=4) == [unknown, 15.0]
    assert told(meter) == [("gap", 70.0)]
    assert meter.repairs[0].time == 2700


def test_a_gap_that_ends_on_an_edge_costs_no_further_step():
    meter = counter(hold_s=900)
    feed(meter, (0, 0.0), (1800, 50.0), (2400, 60.0))
    assert close(meter, 4) == [unknown, unknown, unknown, 10.0]
    assert told(meter) == [("gap", 50.0)]


def test_a_reset_during_a_gap_is_told_once():
    meter = counter(hold_s=900)
    feed(meter, (0, 500.0), (1500, 1.0), (1700, 2.0), (2400, 9.0))
    assert close(meter, 4) == [unknown, unknown, unknown, pytest.approx(9.0 - 3.0)]
    assert told(meter) == [("reset", 3.0 - 500.0)]


# Order and duplicates


def test_a_second_message_in_the_same_second_counts():
    meter = counter()
    feed(meter, (0, 0.0), (600, 10.0), (600, 12.0), (600, 11.0))
    assert close(meter, 1) == [12.0]


def test_a_late_reading_between_two_others_is_used_when_it_fits():
    meter = counter()
    assert feed(meter, (0, 0.0), (700, 70.0), (500, 65.0), (550, 3.0)) == [True, True, True, False]
    assert close(meter, 1) == [67.5]  # on the line from 65 at 500 s to 70 at 700 s


def test_the_first_two_readings_may_come_in_any_order():
    meter = counter()
    assert feed(meter, (100, 5.0), (0, 0.0), (0, 0.0), (600, 10.0)) == [True] * 4
    assert close(meter, 1) == [10.0]
    assert not meter.repairs


def test_a_late_reading_inside_a_gap_is_refused():
    meter = counter(hold_s=900)
    assert feed(meter, (0, 0.0), (2000, 50.0), (1500, 40.0)) == [True, True, False]


def test_a_line_bent_down_by_a_late_reading_gives_no_negative_energy():
    meter = counter()
    feed(meter, (0, 0.0), (3000, 3000.0))
    energies = close(meter, 1)
    feed(meter, (1300, 100.0))
    energies += close(meter, 4, first=1)
    assert energies[:2] == [600.0, 0.0]
    assert sum(energies) == pytest.approx(3000.0)


times = st.lists(st.integers(0, 60 * STEP).map(float), min_size=2, max_size=60, unique=True).map(sorted)


@given(times=times, data=st.data())
def test_a_plausible_counter_is_conserved_whatever_the_times_of_its_readings(times, data):
    rises = data.draw(st.lists(st.floats(0, 8000), min_size=len(times), max_size=len(times)))  # 8 kWh a step is plausible
    meter, value, energies, closed = counter(hold_s=10**6), 0.0, [], 0
    for time, rise in zip(times, rises, strict=True):
        while (closed + 1) * STEP + 5 <= time:
            energies += close(meter, 1, first=closed)
            closed += 1
        value += rise
        meter.add(time, value)
    energies += close(meter, 62 - closed, first=closed)
    known = [e for e in energies if not math.isnan(e)]
    assert all(e >= 0 for e in known)
    assert len(known) >= 62 - (times[0] // STEP + 1)
    assert sum(known) + sum(r.value for r in meter.repairs) == pytest.approx(value - rises[0], abs=1e-6)


@given(times=times, data=st.data(), hold_s=st.sampled_from([600, 1500, 7200]))
def test_every_change_of_a_wild_counter_is_in_a_step_or_in_a_repair(times, data, hold_s):
    values = data.draw(st.lists(st.sampled_from([0.0, 1.0, 5.0, 550_000.0, 550_010.0, 1e7]), min_size=len(times), max_size=len(times)))
    meter, energies, closed = counter(hold_s=hold_s), [], 0
    for time, value in zip(times, values, strict=True):
        while (closed + 1) * STEP + 5 <= time:
            energies += close(meter, 1, first=closed)
            closed += 1
        meter.add(time, value)
    energies += close(meter, 80 - closed, first=closed)
    counted = sum(e for e in energies if not math.isnan(e)) + sum(r.value for r in meter.repairs if r.what != "outlier")
    assert counted == pytest.approx(meter.state()["assigned"] - values[0], abs=1e-3)
    assert all(0 <= e <= 50_000 / 6 * 80 for e in energies if not math.isnan(e))


@example(a=601, b=1153, rise=1.0, more=0.0)
@given(a=st.integers(601, 1199), b=st.integers(601, 1199), rise=st.floats(0, 4000), more=st.floats(0, 4000))
def test_two_readings_within_a_step_may_come_in_any_order(a, b, rise, more):
    early, late = min(a, b), max(a, b, min(a, b) + 1)
    pair = [(early, 10.0 + rise), (late, 10.0 + rise + more)]
    forward, backward = counter(), counter()
    feed(forward, (0, 0.0), (600, 10.0), *pair, (1800, 9000.0))
    feed(backward, (0, 0.0), (600, 10.0), *reversed(pair), (1800, 9000.0))
    assert close(forward, 3) == close(backward, 3)


@given(times=times, at=st.integers(0, 59), data=st.data())
def test_a_restart_changes_nothing(times, at, data):
    values = data.draw(st.lists(st.sampled_from([0.0, 1.0, 5.0, 550_000.0, 550_010.0]), min_size=len(times), max_size=len(times)))
    through, before, after = counter(), counter(), counter()
    for meter in (through, before):
        feed(meter, *((t, v) for t, v in zip(times, values, strict=True) if t <= at * STEP + 5))
    assert close(through, at) == pytest.approx(close(before, at), nan_ok=True)
    after.restore(before.state(), open_from=at * STEP)
    for meter in (through, after):
        feed(meter, *((t, v) for t, v in zip(times, values, strict=True) if t > at * STEP))
    assert close(after, 62 - at, first=at) == pytest.approx(close(through, 62 - at, first=at), nan_ok=True)
    assert before.repairs + after.repairs == through.repairs


# Power and states


def test_power_becomes_energy_by_its_time():
    meter = HeldMeter(hold_s=7200, scale=STEP / 3600)
    feed(meter, (0, 600.0), (300, 1200.0), (600, 60.0))
    assert close(meter, 2) == [150.0, 10.0]  # 600 W and 1200 W for 5 minutes each, then 60 W for 10


def test_a_reading_holds_no_longer_than_its_hold():
    meter = HeldMeter(hold_s=900)
    feed(meter, (0, 21.0))
    assert close(meter, 3) == [21.0, 21.0, unknown]  # the second is half covered, the third not at all


def test_a_reading_with_the_same_time_replaces_the_first():
    meter = HeldMeter(hold_s=900)
    feed(meter, (0, 21.0), (0, 22.0))
    assert close(meter, 1) == [22.0]


def test_a_reading_older_than_the_one_that_holds_is_refused():
    meter = HeldMeter(hold_s=900)
    feed(meter, (500, 21.0))
    close(meter, 1)
    assert feed(meter, (400, 5.0), (550, 22.0)) == [False, True]
    assert close(meter, 1, first=1) == [22.0]


@given(st.permutations([(0, 18.0), (100, 19.0), (300, 21.0), (550, 20.0), (700, 30.0)]))
def test_readings_of_a_step_may_come_in_any_order(readings):
    meter = HeldMeter(hold_s=7200)
    feed(meter, *readings)
    assert close(meter, 1) == [pytest.approx((100 * 18 + 200 * 19 + 250 * 21 + 50 * 20) / 600)]


def test_a_flood_of_readings_does_not_fill_the_memory():
    meter = HeldMeter(hold_s=900)
    taken = sum(meter.add(i / 100, 1.0) for i in range(MAX_READINGS + 50))
    assert taken == MAX_READINGS


# Energy of an interval


def interval():
    return IntervalMeter("meter", grace_s=5.0, low_w=0.0, high_w=6000.0)


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


def test_a_message_of_a_closed_step_is_refused():
    meter = interval()
    close(meter, 1)
    assert feed(meter, (605, 40.0), (605.5, 41.0)) == [False, True]


@pytest.mark.parametrize("make", [counter, interval, lambda: HeldMeter(hold_s=900)])
def test_state_of_a_meter_is_restored(make):
    meter, restored = make(), make()
    feed(meter, (0, 1.0), (590, 2.0), (604, 3.0))
    close(meter, 1)
    restored.restore(meter.state(), open_from=600)
    for each in (meter, restored):
        feed(each, (700, 4.0), (1200, 5.0))
    assert close(restored, 1, first=1) == close(meter, 1, first=1)
    assert restored.state() == meter.state()
