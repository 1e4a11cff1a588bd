"""What the agent says about itself."""

import logging
from collections import Counter

import pytest

from edge_agent.contract.schema import parse_house
from edge_agent.health import Health
from edge_agent.reading import Reading
from edge_agent.watch import NEVER

HOUSE = parse_house(
    """
site = "home"
time_zone = "Europe/Berlin"
targets = [{name = "energy", sensor = "meter"}]
sensors = [
  {name = "meter", role = "energy", topic = "zigbee2mqtt/meter", field = "energy", topic_unit = "kWh", hold = 3600},
  {name = "room", role = "indoor_temperature", topic = "zigbee2mqtt/room", field = "temperature", hold = 600},
]
""",
    source="house.toml",
)


@pytest.fixture
def health():
    health = Health(HOUSE)
    assert health.problems(1_000_000.0) == []  # watched from here on
    return health


def test_what_is_wrong_with_sensors_is_among_the_problems(health):
    health.watch.resumed(1_000_000.0)
    health.watch.saw([Reading("meter", 1_000_500.0, 1.0)])
    payload = health.payload(1_000_700.0, last_step=None, link={})
    assert payload["problems"] == [f"room (zigbee2mqtt/room) has sent nothing since 1970-01-12T13:46:40Z{NEVER}"]
    assert payload["sensors"] == {"meter": "1970-01-12T13:55:00Z", "room": None}


def test_notices_last_until_they_are_taken_back(health):
    health.notices["history"] = ["a file is damaged"]
    assert health.problems(1_000_000.0) == ["a file is damaged"]
    health.notices["history"] = []
    assert health.problems(1_000_000.0) == []


def test_drift_is_logged_once_whatever_its_figures_and_again_when_it_ends(health, caplog):
    with caplog.at_level(logging.INFO):
        for found in (["room: 31.2 last week"], ["room: 31.4 last week"], []):
            health.notices["drift"] = found
            health.tell_problems(1_000_000.0)
    assert [record.getMessage() for record in caplog.records] == ["room: 31.2 last week", "no longer so: room: 31.4 last week"]


def test_what_others_log_is_not_logged_again(health, caplog):
    health.notices["clock"] = ["the clock jumped"]
    health.tell_problems(1_000_000.0)
    assert not caplog.records


def test_events_are_kept_and_logged(health, caplog):
    for i in range(12):
        health.happened(f"event {i}")
    assert [event.split(" ", 1)[1] for event in health.payload(0.0, last_step=None, link={})["events"]] == [f"event {i}" for i in range(2, 12)]
    assert len(caplog.records) == 12


def test_a_failure_is_logged_once_until_it_changes(health, caplog):
    for text in ("full", "full", "gone", "gone"):
        health.fails("history", OSError(text))
    assert [record.getMessage() for record in caplog.records] == [
        "history failed, going on: OSError: full",
        "history failed, going on: OSError: gone",
    ]
    assert health.failures == {"history": 4}


def test_recovery_is_logged_once(health, caplog):
    health.fails("history", OSError("full"))
    with caplog.at_level(logging.INFO):
        health.works("history")
        health.works("history")
    assert [record.getMessage() for record in caplog.records][1:] == ["history works again"]
    assert health.problems(1_000_000.0) == []


def test_rejected_values_are_told_at_once_then_hourly_then_ever_less_often(health, caplog):
    told_at = []
    for now in range(0, 100 * 3600, 600):
        before = len(caplog.records)
        rejected = Counter({("room", "not a number"): 2})
        health.count_rejected(rejected, now_monotonic=float(now))
        assert not rejected
        told_at += [now // 3600] * (len(caplog.records) - before)
    assert told_at == [0, 1, 3, 7, 15, 31, 55, 79]
    assert [record.getMessage() for record in caplog.records[:2]] == [
        "not usable: room: not a number (2 times)",
        "not usable: room: not a number (12 times)",
    ]
    health.tell_rejected()
    assert health.rejected == {"room: not a number": 1200}
    assert sum(record.fields["values"] for record in caplog.records) == 1200


def test_rejected_values_after_a_quiet_time_are_told_at_once(health, caplog):
    for now in (0.0, 3600.0, 50_000.0, 53_000.0, 53_600.0):
        health.count_rejected(Counter({("room", "not a number"): 1}), now_monotonic=now)
    assert [record.fields["values"] for record in caplog.records] == [1, 1, 1, 2]


def test_repairs_are_told_by_sensor_and_kind(health):
    health.repairs.update(["meter: reset", "meter: power", "meter: power"])
    payload = health.payload(0.0, last_step=None, link={})
    assert (payload["repairs"], payload["repaired"]) == (3, {"meter: reset": 1, "meter: power": 2})
