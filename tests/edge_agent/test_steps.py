"""Steps close in order, once each, with what was known by then. Step 600 s; T is a step's start."""

import json
import math
from datetime import date
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.errors import ConfigError
from edge_agent.contract.localtime import day_bounds, day_totals
from edge_agent.contract.schema import parse_house
from edge_agent.contract.series import time_weighted_means
from edge_agent.meter import Repair, Revision
from edge_agent.reading import Reading
from edge_agent.steps import CATCH_UP_S, StepBuilder

STEP = 600
T = 1_772_359_200
DAY = 86_400
unknown = pytest.approx(math.nan, nan_ok=True)

HOUSE_TOML = """
site = "test"
time_zone = "Europe/Berlin"
step = {step}
targets = [{{ name = "energy", sensor = "plug" }}]
sensors = [
  {{ name = "plug", role = "energy", topic = "plug", topic_form = "{form}" }},
  {{ name = "oven", role = "energy_part", unit = "W", topic = "oven" }},
  {{ name = "room", role = "indoor_temperature", topic = "room", hold = 1800 }},
  {{ name = "table_only", role = "co2", column = "co2" }},
]
"""


def house(*, step=STEP, form="counter"):
    return parse_house(HOUSE_TOML.format(step=step, form=form), source="test")


@pytest.fixture
def builder():
    builder = StepBuilder(house())
    builder.close_until(T)
    return builder


def add(builder, *readings):
    for sensor, time, value in readings:
        builder.add(Reading(sensor, time, value))


def closed(steps, sensor):
    return [(step.time - T, step.values[sensor]) for step in steps]


def test_every_form_fills_its_column(builder):
    add(builder, ("plug", T, 1000.0), ("oven", T, 120.0), ("room", T, 20.0), ("room", T + 300, 22.0), ("plug", T + 600, 1042.5))
    (step,) = builder.close_until(T + 605)
    assert step.time == T
    assert step.values == {"plug": 42.5, "oven": 20.0, "room": 21.0}


def test_energy_sent_for_each_interval_is_taken_as_it_is():
    builder = StepBuilder(house(form="interval"))
    builder.close_until(T)
    add(builder, ("plug", T + 600, 43.0))
    assert closed(builder.close_until(T + 605), "plug") == [(0, 43.0)]


def test_a_step_waits_for_the_grace_time(builder):
    assert builder.close_until(T + 604.9) == []
    assert len(builder.close_until(T + 605)) == 1
    assert builder.close_until(T + 605) == []


def test_the_first_call_opens_the_step_it_lies_in():
    builder = StepBuilder(house())
    assert builder.close_until(T + 599) == []
    assert builder.open_from == T


def test_several_steps_close_in_order_and_none_is_skipped(builder):
    add(builder, ("room", T, 20.0))
    steps = builder.close_until(T + 5 * STEP)
    assert closed(steps, "room") == [(0, 20.0), (600, 20.0), (1200, 20.0), (1800, unknown)]


def test_late_readings_are_counted_and_dropped(builder):
    add(builder, ("room", T + 200, 20.0), ("plug", T, 9.0), ("plug", T + 500, 10.0))
    builder.close_until(T + 605)
    add(builder, ("room", T + 100, 50.0), ("plug", T - 100, 20.0))
    assert builder.dropped == {("room", "late"): 1, ("plug", "late"): 1}
    assert closed(builder.close_until(T + 1205), "room") == [(600, 20.0)]


def test_an_old_reading_holds_when_it_is_the_newest_of_its_sensor(builder):
    add(builder, ("room", T - 300, 19.0))  # a retained message that carries its own time
    assert closed(builder.close_until(T + 605), "room") == [(0, 19.0)]
    assert not builder.dropped


def test_a_snapshot_of_unknown_age_is_no_sample(builder):
    builder.add(Reading("room", T, 20.0, retained=True))
    assert closed(builder.close_until(T + 605), "room") == [(0, unknown)]
    assert builder.dropped == {("room", "snapshot of unknown age"): 1}


def test_readings_of_a_sensor_that_left_the_house_are_counted(builder):
    add(builder, ("gone", T, 1.0), ("table_only", T, 1.0))
    assert builder.dropped == {("gone", "not a sensor of this house"): 1, ("table_only", "not a sensor of this house"): 1}


def test_repairs_come_with_the_step_that_states_them(builder):
    add(builder, ("plug", T, 550.0), ("plug", T + 100, 0.0), ("plug", T + 600, 551.0))
    first, second = builder.close_until(T + 1205)
    assert first.repairs == (Repair(T + 100, "plug", "outlier", -550.0),)
    assert second.repairs == ()


def test_the_power_of_a_counters_device_is_no_reading_of_its_own(builder):
    add(builder, ("plug", T, 1000.0), ("plug:power", T, 60.0), ("room:power", T, 1.0), ("gone:power", T, 1.0))
    (step,) = builder.close_until(T + 605)
    assert set(step.values) == {"plug", "oven", "room"}
    assert builder.dropped == {("room", "not a sensor of this house"): 1, ("gone", "not a sensor of this house"): 1}


def test_revisions_come_with_the_step_that_brings_them(builder):
    add(builder, ("plug", T, 1000.0), ("plug", T + 500, 1050.0))
    first = builder.close_until(T + 605)
    add(builder, ("plug", T + 700, 1070.0), ("plug", T + 1200, 1100.0))
    second = builder.close_until(T + 1205)
    assert [step.revisions for step in first + second] == [(), (Revision(T, "plug", pytest.approx(60.0), 50.0),)]
    assert builder.close_until(T + 1805)[0].revisions == ()


# The clock


def test_a_clock_that_goes_back_reopens_nothing(builder):
    add(builder, ("room", T, 20.0))
    assert len(builder.close_until(T + 2 * STEP + 5)) == 2
    assert builder.close_until(T + 300) == []
    assert [s.time - T for s in builder.close_until(T + 3 * STEP + 5)] == [1200]


def test_a_gap_of_days_closes_as_unknown(builder):
    steps = builder.close_until(T + 6 * DAY)
    assert [s.time for s in steps] == list(range(T, T + 6 * DAY - STEP, STEP))
    assert all(math.isnan(v) for s in steps for v in s.values.values())


def test_a_leap_of_half_a_century_is_bounded():
    builder = StepBuilder(house())
    builder.close_until(3 * STEP)  # 1970: a board without a clock battery
    add(builder, ("room", 3 * STEP, 20.0))
    steps = builder.close_until(T)
    known = [s.time for s in steps if not math.isnan(s.values["room"])]
    assert known == [3 * STEP, 4 * STEP, 5 * STEP]
    assert len(steps) <= CATCH_UP_S // STEP + 4
    assert (builder.open_from, steps[-1].time) == (T - STEP, T - 2 * STEP)


def test_a_reading_after_a_leap_is_not_lost(builder):
    add(builder, ("room", T, 20.0), ("plug", T, 5.0), ("room", T + 300 * DAY, 18.0), ("plug", T + 300 * DAY, 9.0))
    steps = builder.close_until(T + 1000 * DAY)
    assert {s.time - T: s.values["room"] for s in steps if s.time in (T, T + 300 * DAY)} == {0: 20.0, 300 * DAY: 18.0}
    assert sum(r.value for s in steps for r in s.repairs) == 4.0
    assert len(steps) < CATCH_UP_S // STEP + 40


@given(gaps=st.lists(st.integers(-2 * STEP, 5 * STEP), min_size=1, max_size=40), data=st.data())
def test_steps_are_closed_once_and_in_order_whatever_the_clock_does(gaps, data):
    builder, now, times = StepBuilder(house()), float(T), []
    builder.close_until(now)
    for gap in gaps:
        now += gap
        add(builder, ("room", now + data.draw(st.integers(-900, 0)), 20.0))
        times += [s.time for s in builder.close_until(now)]
    assert times == [T + i * STEP for i in range(len(times))]


@given(times=st.lists(st.integers(0, 20 * STEP), min_size=1, max_size=40, unique=True))
def test_states_are_the_contracts_time_weighted_means(times):
    times = sorted(times)
    builder, steps = StepBuilder(house()), []
    builder.close_until(T)
    for time in times:
        steps += builder.close_until(T + time)
        add(builder, ("room", T + time, time / 1000))
    steps += builder.close_until(T + 21 * STEP + 5)
    at = np.array(times, float)
    expected = time_weighted_means(T + at, at / 1000, start=T, step_s=STEP, n_steps=21, hold_s=1800)
    assert [s.values["room"] for s in steps] == pytest.approx(expected.tolist(), nan_ok=True)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("America/St_Johns", date(2026, 3, 8), 23),
        ("America/St_Johns", date(2026, 11, 1), 25),
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),
        ("Australia/Lord_Howe", date(2026, 10, 4), 23.5),
        ("America/New_York", date(2026, 11, 1), 25),
        ("Africa/Cairo", date(2026, 4, 24), 23),  # the clock skips midnight
        ("Asia/Kathmandu", date(2026, 3, 29), 24),
    ],
)
def test_a_night_in_which_the_clock_is_changed_has_all_its_steps_once(zone, day, hours):
    first, last = day_bounds(day, ZoneInfo(zone))
    builder, steps, start = StepBuilder(house()), [], first - DAY
    builder.close_until(start)
    for time in range(start, last + DAY, 300):
        add(builder, ("plug", float(time), (time - start) * 0.1))  # 360 W
        steps += builder.close_until(float(time))
    assert [s.time for s in steps] == list(range(start // STEP * STEP, start // STEP * STEP + STEP * len(steps), STEP))
    energy = {revision.time: revision.value for s in steps for revision in s.revisions}
    values = np.array([energy.get(s.time, s.values["plug"]) for s in steps])
    totals = day_totals(np.array([s.time for s in steps]), values, ZoneInfo(zone))
    assert totals[day] == pytest.approx(360.0 * hours)


# Restart


def test_a_restart_goes_on_where_it_stopped(builder):
    readings = [(name, T + t, value + t) for t in range(0, 2400, 170) for name, value in (("plug", 0.0), ("oven", 100.0), ("room", -500.0))]
    before = [r for r in readings if r[1] < T + 700]
    add(builder, *before)
    builder.close_until(T + 700)
    restored = StepBuilder(house())
    restored.restore(json.loads(json.dumps(builder.state())))
    add(restored, *(r for r in readings if r[1] >= restored.open_from))  # some of them for the second time
    add(builder, *(r for r in readings if r[1] >= T + 700))
    assert restored.close_until(T + 2405) == builder.close_until(T + 2405)
    assert not restored.dropped


def test_repairs_that_no_step_has_told_yet_survive_a_restart(builder):
    add(builder, ("plug", T, 550.0), ("plug", T + 100, 0.0), ("plug", T + 300, 551.0))
    restored = StepBuilder(house())
    restored.restore(json.loads(json.dumps(builder.state())))
    (step,) = restored.close_until(T + 605)
    assert step.repairs == (Repair(T + 100, "plug", "outlier", -550.0),)


@pytest.mark.parametrize(("was", "now"), [("counter", "interval"), ("interval", "counter")])
def test_a_sensor_that_sends_another_form_now_begins_anew(was, now):
    before, restored, fresh = StepBuilder(house(form=was)), StepBuilder(house(form=now)), StepBuilder(house(form=now))
    before.close_until(T)
    fresh.close_until(T)
    add(before, ("plug", T + 10, 1000.0))
    restored.restore(before.state())
    for each in (restored, fresh):
        add(each, ("plug", T + 600, 43.0), ("plug", T + 1200, 44.0))
    assert [s.values["plug"] for s in restored.close_until(T + 1205)] == pytest.approx(
        [s.values["plug"] for s in fresh.close_until(T + 1205)], nan_ok=True
    )


def test_a_builder_that_had_no_reading_is_restored(builder):
    restored = StepBuilder(house())
    restored.restore(json.loads(json.dumps(builder.state())))
    add(restored, ("plug", T, 10.0), ("plug", T + 600, 15.0))
    assert closed(restored.close_until(T + 605), "plug") == [(0, 5.0)]


def test_another_step_is_refused(builder):
    with pytest.raises(ConfigError, match=r"step of 900 s.*one of 600 s"):
        StepBuilder(house(step=900)).restore(builder.state())


def test_restoring_nothing_begins_anew():
    builder = StepBuilder(house())
    builder.restore({})
    builder.restore(StepBuilder(house()).state())
    assert builder.open_from is None
