"""What the doctor says about sensors."""

import json
from dataclasses import replace

import pytest

from edge_agent.contract.schema import WeatherTopic, parse_house
from edge_agent.doctor import Past, Seen, describe, note, note_weather, units_told
from edge_agent.mqtt import Message
from edge_agent.weather import WeatherDecoder
from edge_agent.zigbee import Decoder

NOW = 1_780_264_800.0
HOUSE = parse_house(
    """
site = "home"
time_zone = "Europe/Berlin"
targets = [{name = "energy", sensor = "meter"}]
sensors = [
  {name = "meter", role = "energy", topic = "zigbee2mqtt/hall/meter", field = "energy", topic_unit = "kWh"},
  {name = "room", role = "indoor_temperature", topic = "zigbee2mqtt/room", field = "temperature"},
]
""",
    source="house.toml",
)
DEVICES = [
    {"friendly_name": "Coordinator", "definition": None},
    {"friendly_name": "hall/meter", "definition": {"exposes": [{"type": "numeric", "property": "energy", "unit": "Wh"}]}},
    {"friendly_name": "room", "definition": {"exposes": [{"type": "climate", "features": [{"property": "temperature", "unit": "°C"}]}]}},
]


def examined(*messages, exposes=None):
    """The report's lines after these (topic, payload) messages."""
    decoder, seen = Decoder(HOUSE), Seen(exposes=exposes or {})
    for topic, payload in messages:
        note(seen, decoder, Message(f"zigbee2mqtt/{topic}", json.dumps(payload).encode(), retained=False, received_at=NOW))
    return list(describe(HOUSE, decoder, seen, past=PAST, now=NOW + 5))


PAST = Past({"meter": 12.5}, {"meter": 64.0, "room": None}, {}, ["repairs of 7 days", "  meter reset"])


METER = ("hall/meter", {"energy": 12.37, "last_seen": "2026-05-31T21:59:00Z"})
ROOM = ("room", {"temperature": 21.5, "last_seen": "2026-05-31T21:59:00Z"})


def test_all_is_well():
    lines = examined(METER, ROOM)
    assert lines[0].split() == [
        "meter",
        "12370",
        "Wh,",
        "65",
        "s",
        "old",
        "12.5",
        "of",
        "the",
        "last",
        "60",
        "days",
        "known,",
        "usually",
        "at",
        "least",
        "every",
        "64",
        "s",
    ]
    assert lines[-1].startswith("2 of 2 sensors delivered, 0 problems")


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        (
            [METER],
            "room: zigbee2mqtt/room: no message; sensors that report on change may take an hour; a broker whose ACL forbids reading says nothing",
        ),
        ([METER, ("room", {"humidity": 50})], "room: zigbee2mqtt/room: 1 messages, none with a usable 'temperature'; there is humidity"),
        (
            [METER, ("room", {"temperature_l1": 5, "temperature_l2": 6, "linkquality": 9})],
            "room: zigbee2mqtt/room: 1 messages, none with a usable 'temperature'; there is temperature_l1, temperature_l2",
        ),
        (
            [METER, ("room", {"temperature": None})],
            "room: zigbee2mqtt/room: 1 messages, none with a usable 'temperature' (it is null: never reported yet)",
        ),
        ([METER, ("room", {"temperature": 21.5})], "room: messages say no time, arrival counts; set advanced.last_seen = ISO_8601 in Zigbee2MQTT"),
        ([METER, ("room", {"temperature": "warm"})], "room: not a number (1 times)"),
    ],
)
def test_problems_are_in_words(messages, problem):
    assert f"problem: {problem}" in examined(*messages)


def test_weather_forecasts_are_shown_and_missed():
    house = replace(HOUSE, weather=tuple(WeatherTopic(role, "weather/home", role, "degC") for role in ("outdoor_temperature", "outdoor_humidity")))
    decoder, weather, seen = Decoder(house), WeatherDecoder(house), Seen()
    payload = {"time": ["2026-06-01T00:00Z", "2026-06-01T01:00Z"], "outdoor_temperature": [12.5, 14]}
    note_weather(seen, weather, Message("weather/home", json.dumps(payload).encode(), retained=True, received_at=NOW))
    lines = list(describe(house, decoder, seen, past=Past(), now=NOW))
    assert lines[2].split(maxsplit=2)[2] == "12.5 to 14 degC, 2 values from 2026-06-01T00:00:00Z to 2026-06-01T01:00:00Z"
    assert lines[3].split(maxsplit=2)[2] == "nothing yet"
    assert sum("outdoor_humidity ahead: weather/home: no usable forecast" in line for line in lines) == 1


def test_a_unit_that_contradicts_zigbee2mqtt_is_named():
    exposes = units_told(json.dumps(DEVICES).encode(), base_topic="zigbee2mqtt")
    lines = examined(METER, ROOM, exposes=exposes)
    assert "problem: meter: Zigbee2MQTT says 'Wh', house.toml says topic_unit = 'kWh'" in lines
    assert not any("room" in line for line in lines if line.startswith("problem"))


def test_devices_of_an_unknown_form_are_no_obstacle():
    for payload in (b"", b"{}", b"[1]", b'[{"friendly_name": 1}]', b'[{"friendly_name": "a", "definition": {"exposes": 3}}]'):
        assert units_told(payload, base_topic="zigbee2mqtt") == {}


def test_a_device_that_zigbee2mqtt_calls_offline_is_a_problem_once():
    lines = examined(METER, ("room/availability", {"state": "offline"}))
    assert [line for line in lines if line.startswith("problem")] == [
        "problem: zigbee2mqtt/room is offline, says Zigbee2MQTT: is its battery empty, its plug out, its router off?"
    ]
    assert lines[-1].startswith("1 of 2 sensors delivered, 1 problems")


def test_another_devices_trouble_explains_nothing():
    decoder = Decoder(replace(HOUSE, sensors=(*HOUSE.sensors, replace(HOUSE.sensors[1], name="room_2", topic="zigbee2mqtt/room2"))))
    decoder.bridge.take("zigbee2mqtt/room2/availability", b"offline", received_at=NOW, retained=True)
    problems = [line for line in describe(HOUSE, decoder, Seen(), past=PAST, now=NOW) if line.startswith("problem: room: ")]
    assert len(problems) == 1
