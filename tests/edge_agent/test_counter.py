"""Energy of each step from a counter, worked out by hand, and that none is lost or counted twice however readings come.

Step 600 s, first step at 0.
"""

import math
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.counter import CounterMeter
from edge_agent.meter import Revision

STEP = 600
unknown = pytest.approx(math.nan, nan_ok=True)


def counter(*, hold_s=7200, low_w=0.0, high_w=50_000.0, resolution_wh=0.0):
    return CounterMeter("plug", step_s=STEP, hold_s=hold_s, low_w=low_w, high_w=high_w, resolution_wh=resolution_wh)


def close(meter, n, first=0):
    return [meter.close(i * STEP, (i + 1) * STEP) for i in range(first, first + n)]


def feed(meter, *readings):
    return [meter.add(time, value) for time, value in readings]


def told(meter):
    return [(r.what, r.value) for r in meter.repairs]


def finally_(meter, energies):
    """Energies of the first steps, as revised."""
    energies = list(energies)
    for revision in meter.revisions:
        energies[revision.time // STEP] = revision.value
    return energies


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


def test_a_step_is_revised_when_the_reading_after_its_end_is_there():
    meter = counter()
    feed(meter, (0, 0.0), (500, 50.0))
    first = close(meter, 1)
    feed(meter, (700, 70.0), (1200, 100.0))
    assert first + close(meter, 1, first=1) == [50.0, pytest.approx(40.0)]
    assert meter.revisions == [Revision(0, "plug", pytest.approx(60.0), 50.0)]


def test_a_step_is_revised_once():
    meter = counter()
    for i in range(10):
        feed(meter, (300 + STEP * i, 60.0 * i))
        close(meter, 1, first=i)
    assert [revision.time for revision in meter.revisions] == [STEP * i for i in range(1, 9)]


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
    energies = close(meter, 1)
    feed(meter, (605, 550_100.0), (1200, 550_150.0))
    energies += close(meter, 1, first=1)
    assert finally_(meter, energies) == pytest.approx([100 * 600 / 605, 50 + 100 * 5 / 605])


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


def test_energy_of_a_silence_within_the_hold_is_spread_over_it_once_it_is_known():
    meter = counter(hold_s=1800)
    feed(meter, (0, 0.0))
    quiet = close(meter, 2)
    feed(meter, (1800, 30.0))
    energies = quiet + close(meter, 1, first=2)
    assert energies == [0.0, 0.0, 10.0]
    assert finally_(meter, energies) == [10.0, 10.0, 10.0]
    assert not meter.repairs


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
    # it speaks once more in the end: what it did before is certain then
    for time, rise in [*zip(times, rises, strict=True), (61.0 * STEP, 0.0)]:
        while (closed + 1) * STEP + 5 <= time:
            energies += close(meter, 1, first=closed)
            closed += 1
        value += rise
        meter.add(time, value)
    energies += close(meter, 62 - closed, first=closed)
    known = [e for e in finally_(meter, energies) if not math.isnan(e)]
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
    counted = sum(e for e in finally_(meter, energies) if not math.isnan(e)) + sum(r.value for r in meter.repairs if r.what != "outlier")
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


# A counter that falls silent


def live(meter, readings):
    """Take readings (time, counter, power or None) as they come, and close each step five seconds after its end."""
    energies = []
    for time, value, watts in readings:
        while time >= (len(energies) + 1) * STEP + 5:
            energies += close(meter, 1, first=len(energies))
        if value is not None:
            meter.add(time, value)
        if watts is not None:
            meter.add_power(time, watts)
    return energies


def minutes(first, last, *, watts=300.0):
    """A counter that runs at `watts` and speaks every minute."""
    return [(60.0 * i, watts * i / 60, None) for i in range(first, last + 1)]


def test_a_counter_that_dies_is_unknown_from_the_next_step_on():
    meter = counter()
    energies = live(meter, minutes(0, 125))  # the last in the middle of the 13th step
    energies += close(meter, 4, first=12)
    assert energies[:12] == pytest.approx([50.0] * 12)
    assert energies[12:] == [pytest.approx(25.0), unknown, unknown, unknown]


def test_the_steps_of_a_silence_within_the_hold_time_are_filled_evenly():
    meter = counter()
    energies = live(meter, minutes(0, 120))
    energies += close(meter, 15 - len(energies), first=len(energies))
    assert energies[12:] == [0.0, unknown, unknown]  # ten minutes may pass without a word, not twenty
    meter.add(9600.0, 300 * 9600 / 3600)
    energies += close(meter, 1, first=15)
    assert finally_(meter, energies) == pytest.approx([50.0] * 16)
    assert not meter.repairs


def test_the_steps_of_a_longer_silence_stay_unknown():
    meter = counter()
    energies = live(meter, minutes(0, 120))  # 600 Wh
    energies += close(meter, 32 - len(energies), first=len(energies))
    feed(meter, (19_600.0, 1700.0), (19_800.0, 1710.0))
    energies += close(meter, 1, first=32)
    final = finally_(meter, energies)
    assert final[:12] == pytest.approx([50.0] * 12)
    assert all(math.isnan(e) for e in final[13:])
    assert told(meter) == [("gap", 1110.0)]


def test_a_counter_that_is_silent_for_an_hour_by_habit_stands_still_meanwhile():
    meter = counter()
    feed(meter, *((3600.0 * i, 10.0 * i) for i in range(10)))
    assert close(meter, 9 * 6 + 5)[-5:] == [0.0] * 5


# Rounding


def rounded(meter, watts, hours, *, every_s, resolution=10.0):
    """Steps, finally, of a steady load through a counter that shows whole multiples of `resolution`."""
    times = [float(every_s * i) for i in range(hours * 3600 // every_s)]
    return finally_(meter, live(meter, [(t, math.floor(watts * t / 3600 / resolution) * resolution, None) for t in times]))


@pytest.mark.parametrize("every_s", [10, 60, 200, 600])
@pytest.mark.parametrize("watts", [7.0, 33.0])
def test_a_steady_load_below_the_resolution_comes_out_steady(watts, every_s):
    meter = counter(resolution_wh=None)
    energies = rounded(meter, watts, 48, every_s=every_s)[100:]
    true, as_shown = watts / 6, [math.floor(watts * (i + 1) / 60) * 10 - math.floor(watts * i / 60) * 10 for i in range(100, 288)]
    error = math.sqrt(sum((e - true) ** 2 for e in energies) / len(energies))
    error_as_shown = math.sqrt(sum((e - true) ** 2 for e in as_shown) / len(as_shown))
    assert error < error_as_shown / (2.0 if every_s == 600 else 3.5)
    assert sum(energies) / len(energies) == pytest.approx(true, abs=10 / len(energies))  # without bias


@pytest.mark.parametrize("watts", [61.7, 245.0, 1234.5])
def test_a_steady_load_above_the_resolution_is_within_it(watts):
    energies = rounded(counter(resolution_wh=None), watts, 48, every_s=60)[100:]
    assert max(abs(e - watts / 6) for e in energies) < 10.0
    assert sum(energies) / len(energies) == pytest.approx(watts / 6, abs=10 / len(energies))


def test_readings_that_are_multiples_of_the_resolution_give_their_exact_differences():
    dice = random.Random(1)
    meter, counted, expected = counter(resolution_wh=None), 0.0, []
    for i in range(300):
        meter.add(float(STEP * i), counted)
        expected.append(10.0 * dice.randrange(1, 40))
        counted += expected[-1]
    assert close(meter, 299) == pytest.approx(expected[:299])
    assert not meter.revisions


def test_a_fine_counter_is_not_guessed_on():
    meter = counter(resolution_wh=None)
    feed(meter, *((60.0 * i, 1000.0 + 0.1 * (i // 7)) for i in range(600)))
    assert close(meter, 59)[20:] == pytest.approx([0.1 * ((10 * i + 10) // 7 - 10 * i // 7) for i in range(20, 59)])


@given(seed=st.integers(0, 10_000), every_s=st.sampled_from([30, 170, 600, 1100]), has_power=st.booleans())
@example(seed=128, every_s=1100, has_power=True)  # a rise that power had not seen is doubted, and then the counter goes on from it
def test_rounding_neither_makes_nor_loses_energy(seed, every_s, has_power):
    dice, meter, readings, true, watts = random.Random(seed), counter(resolution_wh=None), [], 0.0, 0.0
    for i in range(300):
        readings.append((every_s * i + dice.uniform(0, every_s), true, watts if has_power else None))
        watts = dice.choice([0.0, 0.0, 18.0, 70.0, 1500.0])
        true += watts * every_s / 3600
    readings.append((every_s * 300.0, true, 0.0 if has_power else None))
    energies = live(meter, [(time, math.floor(wh / 10) * 10, watts) for time, wh, watts in readings])
    energies += close(meter, 2, first=len(energies))
    final = [e for e in finally_(meter, energies) if not math.isnan(e)]
    shown = math.floor(readings[-1][1] / 10) * 10
    assert all(e >= 0 for e in final)
    assert sum(final) + sum(r.value for r in meter.repairs) == pytest.approx(shown, abs=10)


# Power beside the counter


def with_power(meter, *readings):
    """Readings of time, counter and power."""
    for time, value, watts in readings:
        if value is not None:
            meter.add(time, value)
        meter.add_power(time, watts)


def test_energy_between_two_readings_lies_where_the_power_was():
    meter = counter()
    with_power(meter, (0, 0.0, 3000.0), (300, None, 0.0), (900, 250.0, 0.0))
    assert close(meter, 1) == [250.0]


def test_a_coarse_counter_follows_the_power():
    meter = counter(resolution_wh=10.0)
    for i in range(400):
        with_power(meter, (60.0 * i, math.floor(i * 0.55 / 10) * 10.0, 33.0))
    assert close(meter, 39)[2:] == pytest.approx([5.5] * 37, abs=1.6)


def sticking(*, lost):
    """600 W for four hours, every four minutes; the counter stands still from 56 to 152 minutes, and shows that later or never."""
    for i in range(60):
        whole = 40.0 * i
        yield 240.0 * i, (14 * 40.0 if 15 <= i < 38 else whole - (23 * 40.0 if lost and i >= 38 else 0.0)), 600.0


def test_a_counter_that_sticks_is_replaced_by_the_power_until_it_catches_up():
    meter = counter()
    energies = live(meter, sticking(lost=False))
    assert max(energies) < 100 + 250  # what it takes to notice comes at once, to be spread
    assert sum(energies[5:16]) == pytest.approx(1100.0, abs=50)
    final = finally_(meter, energies)
    assert final[9:15] == pytest.approx([100.0] * 6, abs=1)
    assert sum(final) == pytest.approx(100.0 * len(final), abs=41)
    assert told(meter) == [("stuck", 0.0)]
    assert not meter.is_stuck


def test_a_counter_that_lost_what_it_did_not_show_leaves_the_powers_energy():
    meter = counter()
    final = finally_(meter, live(meter, sticking(lost=True)))
    assert sum(final) == pytest.approx(100.0 * len(final), abs=81)
    (first, nothing), (second, surplus) = told(meter)
    assert (first, nothing, second) == ("stuck", 0.0, "stuck")
    assert surplus == pytest.approx(-23 * 40.0, abs=41)


def test_a_step_that_the_counter_cannot_tell_is_taken_from_the_power():
    meter = counter()
    with_power(meter, *((60.0 * i, 5000.0 + 10 * i if i < 15 else 10.0 * (i - 15), 600.0) for i in range(31)))  # set back to 0 at 900 s
    assert close(meter, 3) == pytest.approx([100.0, 100.0, 100.0])
    assert told(meter) == [("reset", pytest.approx(50.0 - 5100.0)), ("power", pytest.approx(-100.0))]


def test_power_alone_is_counted_where_there_is_no_counter():
    meter = counter()
    with_power(meter, *((60.0 * i, None, 600.0) for i in range(21)))
    assert close(meter, 2) == pytest.approx([100.0, 100.0])
    assert told(meter) == [("power", pytest.approx(-100.0))] * 2


def test_a_jump_that_the_power_rules_out_needs_a_second_reading():
    meter = counter()
    with_power(meter, *((60.0 * i, 1.0 * i, 60.0) for i in range(10)))
    with_power(meter, (600, 4000.0, 60.0), (660, 11.0, 60.0), (1200, 20.0, 60.0))  # 4 kWh in ten minutes are less than 50 kW
    assert close(meter, 2) == pytest.approx([10.0, 10.0])
    assert told(meter) == [("outlier", 3991.0)]


def test_a_jump_that_stays_against_the_power_is_written_off():
    meter = counter()
    with_power(meter, *((60.0 * i, 1.0 * i + (4000 if i > 9 else 0), 60.0) for i in range(31)))
    assert close(meter, 3) == pytest.approx([10.0, 10.0, 10.0])  # the second by power
    assert [what for what, _ in told(meter)] == ["jump", "power"]
    assert sum(r.value for r in meter.repairs) == pytest.approx(4000 + 10 - 10, abs=11)


# A thousandfold


def test_a_counter_that_goes_over_to_another_unit_goes_on():
    meter = counter()
    values = [12_000 + 10.0 * i for i in range(40)]
    shown = [v if i < 15 else v * 1000 for i, v in enumerate(values)]
    feed(meter, *((60.0 * i, v) for i, v in enumerate(shown)))
    assert close(meter, 3) == pytest.approx([100.0] * 3)
    assert told(meter) == [("scale", 0.0)]


def test_a_counter_that_comes_back_to_its_unit_goes_on():
    meter = counter()
    values = [12_000 + 10.0 * i for i in range(60)]
    shown = [v if not 15 <= i < 35 else v / 1000 for i, v in enumerate(values)]
    feed(meter, *((60.0 * i, v) for i, v in enumerate(shown)))
    assert close(meter, 5) == pytest.approx([100.0] * 5)
    assert told(meter) == [("scale", 0.0)] * 2


def test_one_reading_in_another_unit_is_an_outlier():
    meter = counter()
    feed(meter, (0, 12_000.0), (300, 12_050_000.0), (600, 12_100.0), (1200, 12_200.0))
    assert close(meter, 2) == [100.0, 100.0]
    assert [what for what, _ in told(meter)] == ["outlier"]


def test_a_reset_is_not_taken_for_another_unit():
    meter = counter()
    feed(meter, *((60.0 * i, 12_000 + 10.0 * i) for i in range(15)), *((900 + 60.0 * i, 20.0 + 10.0 * i) for i in range(20)))
    assert close(meter, 3) == [100.0, unknown, pytest.approx(100.0)]
    assert [what for what, _ in told(meter)] == ["reset"]
