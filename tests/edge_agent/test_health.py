"""What the agent says about itself."""

import logging
from collections import Counter

import pytest

from edge_agent.contract.schema import parse_house
from edge_agent.health import Health
from edge_agent.reading import Reading

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


def test_a_sensor_that_never_spoke_is_a_problem_after_its_hold_time(health):
    assert health.problems(1_000_600.0) == []
    assert health.problems(1_000_601.0) == ["room has sent nothing since 1970-01-12T13:46:40Z"]


def test_a_sensor_that_fell_silent_is_named_and_forgiven(health):
    health.saw([Reading("meter", 1_003_000.0, 1.0), Reading("room", 1_003_000.0, 20.0)])
    assert health.problems(1_003_700.0) == ["room has sent nothing since 1970-01-12T14:36:40Z"]
    health.saw([Reading("room", 1_003_650.0, 20.0)])
    assert health.problems(1_003_700.0) == []


def test_a_snapshot_proves_no_life(health):
    health.saw([Reading("room", 1_003_000.0, 20.0, retained=True)])
    assert "room has sent nothing since 1970-01-12T13:46:40Z" in health.problems(1_003_100.0)


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


def test_rejected_values_are_summed_and_logged_once_an_hour(health, caplog):
    for now in (0.0, 1800.0, 3600.0, 3601.0):
        rejected = Counter({("room", "not a number"): 2})
        health.count_rejected(rejected, now_monotonic=now)
        assert not rejected
    assert health.rejected == {"room: not a number": 8}
    assert [record.getMessage() for record in caplog.records] == ["not usable in the last hour: room: not a number (6 times)"]


def test_a_refused_topic_is_a_problem(health):
    payload = health.payload(1_000_000.0, last_step=None, link={"refused_topics": ["homeassistant/x"]})
    assert payload["problem"] is True
    assert payload["problems"] == ["broker refuses writing homeassistant/x"]
