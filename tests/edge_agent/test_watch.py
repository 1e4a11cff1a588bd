"""Sensors that fall silent, stand still or send nonsense are named, by their own habits."""

import json
from collections import Counter

import pytest

from edge_agent.contract.schema import parse_house
from edge_agent.reading import Reading
from edge_agent.watch import NEVER, Watch

T = 1_772_359_200.0
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
HOUSE = parse_house(
    """
site = "home"
time_zone = "Europe/Berlin"
targets = [{name = "energy", sensor = "meter"}]
sensors = [
  {name = "meter", role = "energy", topic = "zigbee2mqtt/meter", field = "energy", topic_unit = "kWh", hold = 3600},
  {name = "room", role = "indoor_temperature", topic = "zigbee2mqtt/room", field = "temperature", hold = 600},
  {name = "table_only", role = "co2", column = "co2"},
]
""",
    source="house.toml",
)


@pytest.fixture
def watch():
    watch = Watch(HOUSE)
    watch.resumed(T)
    return watch


def speak(watch, sensor, *, every_s, hours, start=T, value=float):
    n = int(hours * HOUR / every_s)
    watch.saw(Reading(sensor, start + i * every_s, value(i)) for i in range(n + 1))
    return start + n * every_s


def keep_talking(watch, *others, until):
    for name in others:
        watch.saw([Reading(name, until, until)])


def test_a_sensor_that_never_spoke_is_named_after_its_hold_time(watch):
    assert watch.problems(T + 600) == []
    assert watch.problems(T + 601) == [f"room (zigbee2mqtt/room) has sent nothing since 2026-03-01T10:00:00Z{NEVER}"]


def test_all_are_silent_once_the_quickest_of_them_is(watch):
    assert watch.silent_since("zigbee2mqtt/", T + 600) is None
    assert watch.silent_since("zigbee2mqtt/", T + 601) == T
    assert not watch.has_heard("zigbee2mqtt/")
    keep_talking(watch, "meter", until=T + 500)
    assert watch.silent_since("zigbee2mqtt/", T + 1100) is None
    assert watch.silent_since("zigbee2mqtt/", T + 1101) == T + 500
    assert watch.has_heard("zigbee2mqtt/")
    assert watch.silent_since("weather/", T + DAY) is None


def test_before_anything_could_be_heard_nobody_is_silent():
    assert Watch(HOUSE).problems(T + DAY) == []


def test_a_sensor_is_silent_by_its_own_habit(watch):
    last = speak(watch, "room", every_s=10 * MINUTE, hours=10)
    keep_talking(watch, "meter", until=last + HOUR)
    assert watch.problems(last + 40 * MINUTE) == []
    (problem,) = watch.problems(last + HOUR)
    assert problem == "room (zigbee2mqtt/room) has sent nothing since 2026-03-01T20:00:00Z; usually at least every 12 min"
    watch.saw([Reading("room", last + HOUR, 20.0)])
    assert watch.problems(last + HOUR) == []


def test_a_fast_sensor_has_a_quarter_of_an_hour(watch):
    last = speak(watch, "room", every_s=5.0, hours=2)
    keep_talking(watch, "meter", until=last + 899)
    assert watch.problems(last + 899) == []
    assert len(watch.problems(last + 901)) == 1


def test_a_snapshot_proves_no_life(watch):
    watch.saw([Reading("room", T + 500, 20.0, retained=True)])
    assert len(watch.problems(T + 700)) == 1


def test_what_nobody_could_hear_is_no_silence(watch):
    last = speak(watch, "room", every_s=10 * MINUTE, hours=10)
    watch.resumed(last + DAY)
    assert watch.problems(last + DAY + 30 * MINUTE) == []
    assert len(watch.problems(last + DAY + 50 * MINUTE)) == 1
    watch.saw([Reading("room", last + DAY + HOUR, 1.0)])
    assert watch.usual_s["room"] < 15 * MINUTE  # nor a habit


def test_a_sensor_that_repeats_itself_for_long_is_named(watch):
    last = speak(watch, "room", every_s=10 * MINUTE, hours=30)
    last = speak(watch, "room", every_s=10 * MINUTE, hours=13, start=last, value=lambda _: 180.0)
    keep_talking(watch, "meter", until=last)
    (problem,) = watch.problems(last)
    assert problem == "room (zigbee2mqtt/room) sends the same value since 2026-03-02T16:00:00Z; usually at least every 12 min"
    watch.saw([Reading("room", last + 60, 18.5)])
    assert watch.problems(last + 60) == []


def test_half_a_night_of_the_same_value_is_nothing_unusual(watch):
    last = speak(watch, "room", every_s=10 * MINUTE, hours=30)
    last = speak(watch, "room", every_s=10 * MINUTE, hours=11, start=last, value=lambda _: 180.0)
    keep_talking(watch, "meter", until=last)
    assert watch.problems(last) == []


def test_a_light_that_is_dark_every_night_may_be_dark(watch):
    last = speak(watch, "room", every_s=10 * MINUTE, hours=24 * 6, value=lambda i: float(i) if i % 144 < 72 else 0.0)
    last = speak(watch, "room", every_s=10 * MINUTE, hours=20, start=last, value=lambda _: 0.0)
    keep_talking(watch, "meter", until=last)
    assert watch.problems(last) == []


def test_an_idle_plug_is_not_flat(watch):
    last = speak(watch, "meter", every_s=MINUTE, hours=20, value=lambda _: 5.0)
    keep_talking(watch, "room", until=last)
    assert watch.problems(last) == []


def test_a_main_meter_that_stops_is_named_after_three_hours(watch):
    stopped = speak(watch, "meter", every_s=MINUTE, hours=20)
    last = speak(watch, "meter", every_s=MINUTE, hours=4, start=stopped, value=lambda _: 1200.0)
    keep_talking(watch, "room", until=last)
    assert "meter (zigbee2mqtt/meter) sends the same value since" in watch.problems(last)[0]
    assert watch.problems(stopped + 3 * HOUR) == []


def test_values_out_of_range_are_named_while_they_are_the_rule(watch):
    watch.problems(T)
    watch.saw([Reading("room", T + i, 20.0 + i) for i in range(10)])
    watch.rejected(Counter({("room", "outside the valid range"): 9, ("room", "not a number"): 50, ("gone", "outside the valid range"): 5}))
    assert watch.problems(T + 60) == []
    watch.rejected(Counter({("room", "outside the valid range"): 2}))
    assert watch.problems(T + 60) == ["room (zigbee2mqtt/room) sends values outside its valid range of -20 to 60 degC: 11 lately"]
    keep_talking(watch, "meter", "room", until=T + 2 * HOUR + 120)
    watch.problems(T + HOUR + 60)
    assert watch.problems(T + 2 * HOUR + 120) == []


def test_a_restart_forgets_nothing(watch):
    last = speak(watch, "room", every_s=10 * MINUTE, hours=30)
    again = Watch(HOUSE)
    again.restore(json.loads(json.dumps(watch.state())))
    again.resumed(last + 8 * HOUR)
    assert again.last_seen == {"meter": None, "room": last}
    assert again.usual_s == watch.usual_s
    again.restore(None)
    again.restore({"gone": {}})
