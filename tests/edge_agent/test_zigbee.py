"""What messages mean. 2026-03-01T10:04:07.250Z is 1772359447.25 s."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.contract.schema import parse_house
from edge_agent.reading import Reading
from edge_agent.zigbee import MAX_PAYLOAD, STARTUP_S, Decoder

MESSAGES = json.loads((Path(__file__).parents[1] / "fixtures" / "zigbee2mqtt.json").read_text())
SEEN = 1772359447.25
NOW = SEEN + 100

HOUSE = parse_house(
    """
site = "test"
time_zone = "Europe/Berlin"
targets = [{ name = "energy", sensor = "plug" }]
sensors = [
  { name = "room", role = "indoor_temperature", topic = "zigbee2mqtt/room", field = "temperature" },
  { name = "room_humidity", role = "indoor_humidity", topic = "zigbee2mqtt/room", field = "humidity" },
  { name = "plug", role = "energy", topic = "zigbee2mqtt/upstairs/plug", field = "energy", topic_unit = "kWh" },
  { name = "plug_power", role = "energy_part", unit = "W", topic = "zigbee2mqtt/upstairs/plug", field = "power", valid = [0, 4000] },
  { name = "outside", role = "outdoor_temperature", topic = "weather/now", field = "air.temperature.value", topic_unit = "degF" },
  { name = "wind", role = "wind_speed", topic = "weather/wind", topic_unit = "km/h" },
  { name = "table_only", role = "co2", column = "co2" },
]
""",
    source="test",
)


@pytest.fixture
def decoder():
    return Decoder(HOUSE)


def decode(decoder, topic, message, *, received_at=NOW, retained=False):
    payload = message if isinstance(message, bytes) else (message if isinstance(message, str) else json.dumps(message)).encode()
    return decoder.decode(topic, payload, received_at=received_at, retained=retained)


def test_topics_are_the_devices_their_attributes_and_the_bridge(decoder):
    assert decoder.topics == (
        "zigbee2mqtt/bridge/state",
        "zigbee2mqtt/bridge/devices",
        "zigbee2mqtt/bridge/groups",
        "zigbee2mqtt/bridge/event",
        "zigbee2mqtt/room/availability",
        "zigbee2mqtt/upstairs/plug/availability",
        "zigbee2mqtt/room",
        "zigbee2mqtt/upstairs/plug",
        "weather/now",
        "weather/wind",
        "zigbee2mqtt/room/temperature",
        "zigbee2mqtt/room/humidity",
        "zigbee2mqtt/upstairs/plug/energy",
        "zigbee2mqtt/upstairs/plug/power",
        "weather/now/air-temperature-value",
    )


# Values


def test_one_message_gives_a_reading_for_each_of_its_sensors(decoder):
    assert decode(decoder, "zigbee2mqtt/room", MESSAGES["climate"]) == [Reading("room", SEEN, 20.75), Reading("room_humidity", SEEN, 45.2)]


def test_null_fields_are_skipped_in_silence(decoder):
    assert decode(decoder, "zigbee2mqtt/room", MESSAGES["climate_first"]) == [Reading("room", SEEN, 20.75)]
    assert not decoder.rejected


def test_kilowatt_hours_become_watt_hours_and_whole_numbers_are_numbers(decoder):
    energy, beside, power = decode(decoder, "zigbee2mqtt/upstairs/plug", MESSAGES["plug"])
    assert (energy.value, beside.value, power.value) == (7420.0, 61.0, 61.0)
    assert (energy.sensor, beside.sensor, power.sensor) == ("plug", "plug:power", "plug_power")


def test_nested_fields_are_reached_by_dots(decoder):
    (reading,) = decode(decoder, "weather/now", {"air": {"temperature": {"value": 68}}})
    assert reading == Reading("outside", NOW, pytest.approx(20.0))


def test_a_plain_number_topic(decoder):
    assert decode(decoder, "weather/wind", "36") == [Reading("wind", NOW, pytest.approx(10.0))]
    assert decode(decoder, "weather/wind", ' "18.0" ') == [Reading("wind", NOW, pytest.approx(5.0))]


def test_a_text_that_is_a_number_counts(decoder):
    assert decode(decoder, "zigbee2mqtt/room", {"temperature": "20.5"}) == [Reading("room", NOW, 20.5)]


@pytest.mark.parametrize("bad", [True, False, "warm", "20,5", "2_0", [20], {"value": 20}, ""])
def test_what_is_no_number_is_rejected_and_counted(decoder, bad):
    assert decode(decoder, "zigbee2mqtt/room", {"temperature": bad, "humidity": 40}) == [Reading("room_humidity", NOW, 40.0)]
    assert decoder.rejected == {("room", "not a number"): 1}


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-Infinity", '"nan"', '"-inf"', "1e999"])
def test_numbers_that_are_not_finite_are_rejected(decoder, bad):
    assert decode(decoder, "zigbee2mqtt/room", f'{{"temperature": {bad}}}') == []
    assert decoder.rejected == {("room", "not finite"): 1}


def test_values_outside_the_valid_range_are_rejected(decoder):
    decode(decoder, "zigbee2mqtt/room", {"temperature": 60.1, "humidity": 100})
    decode(decoder, "zigbee2mqtt/upstairs/plug", {"power": 12345, "energy": 10**9})  # the divisor of power is not read yet
    assert decoder.rejected == {("room", "outside the valid range"): 1, ("plug_power", "outside the valid range"): 1}


@pytest.mark.parametrize("bad", [b"\xff\xfe{}", b"[" * 100_000, b"{", b"online", b"[1]", b"1" * 5000, b"x" * (MAX_PAYLOAD + 1)])
def test_messages_that_cannot_be_read_are_counted_by_topic(decoder, bad):
    assert decode(decoder, "zigbee2mqtt/room", bad) == []
    assert [topic for topic, _ in decoder.rejected] == ["zigbee2mqtt/room"]


@pytest.mark.parametrize("kwh", [1e305, -1e305, 1e10])
def test_a_counter_beyond_all_meters_is_no_reading(decoder, kwh):
    assert decode(decoder, "zigbee2mqtt/upstairs/plug", {"energy": kwh}) == []
    assert decoder.rejected == {("plug", "more than any meter counts"): 1}
    assert len(decode(decoder, "zigbee2mqtt/upstairs/plug", {"energy": 1e8})) == 1


def test_an_empty_message_clears_a_topic_and_is_no_fault(decoder):
    assert decode(decoder, "zigbee2mqtt/room", b"", retained=True) == []
    assert not decoder.rejected


def test_topics_of_others_are_ignored(decoder):
    assert decode(decoder, "zigbee2mqtt/room/availability", {"state": "offline"}) == []
    assert not decoder.rejected


# Times


@pytest.mark.parametrize(
    ("last_seen", "time"),
    [
        ("2026-03-01T10:04:07.250Z", SEEN),
        ("2026-03-01T11:04:07+01:00", SEEN - 0.25),
        ("2026-03-01T20:34:07.25+10:30", SEEN),
        (1772359447250, SEEN),
        (1772359447.25, SEEN),
        ("1772359447250", SEEN),
    ],
)
def test_last_seen_in_all_its_forms(decoder, last_seen, time):
    assert decode(decoder, "zigbee2mqtt/room", {"temperature": 20, "last_seen": last_seen}) == [Reading("room", time, 20.0)]
    assert not decoder.rejected


def test_without_last_seen_the_time_is_that_of_receipt(decoder):
    readings = decode(decoder, "zigbee2mqtt/room", MESSAGES["silent_about_time"])
    assert {r.time for r in readings} == {NOW}


@pytest.mark.parametrize(
    "last_seen", ["yesterday", "2026-03-01T10:04:07", "1999-12-31T23:59:59Z", 0, -5, True, [], 1e300, math.nan, "9999-12-31T23:59:59Z"]
)
def test_a_last_seen_that_is_no_time_falls_back_to_receipt(decoder, last_seen):
    assert decode(decoder, "zigbee2mqtt/room", {"temperature": 20, "last_seen": last_seen}) == [Reading("room", NOW, 20.0)]
    assert decoder.rejected == {("zigbee2mqtt/room", "last_seen is no time"): 1}


@pytest.mark.parametrize(("ahead_s", "counted"), [(30, 0), (3600, 1), (10 * 86_400, 1)])
def test_no_reading_is_later_than_its_receipt(decoder, ahead_s, counted):
    assert decode(decoder, "zigbee2mqtt/room", {"temperature": 20, "last_seen": NOW + ahead_s}) == [Reading("room", NOW, 20.0)]
    assert decoder.rejected.total() == counted


def test_recorded_messages_are_their_own_clock(decoder):
    assert decode(decoder, "zigbee2mqtt/room", MESSAGES["climate"], received_at=None)[0] == Reading("room", SEEN, 20.75)
    assert decode(decoder, "zigbee2mqtt/room", MESSAGES["silent_about_time"], received_at=None) == []
    assert decoder.rejected == {("zigbee2mqtt/room", "no time"): 1}


def test_while_the_wall_clock_is_doubtful_a_time_by_it_is_translated(decoder):
    decoder.wall_ahead_s = 3600.0
    (reading,) = decode(decoder, "zigbee2mqtt/room", {"temperature": 20, "last_seen": NOW + 3600 - 12.0})
    assert (reading.time, decoder.contradictions) == (NOW - 12.0, 0)
    decoder.wall_ahead_s = -3600.0
    (reading,) = decode(decoder, "zigbee2mqtt/room", {"temperature": 20, "last_seen": NOW - 3600 - 12.0})
    assert (reading.time, decoder.contradictions) == (NOW - 12.0, 0)


def test_a_time_by_another_machines_clock_contradicts_a_doubtful_one(decoder):
    decoder.wall_ahead_s = 3600.0
    (reading,) = decode(decoder, "zigbee2mqtt/room", {"temperature": 20, "last_seen": NOW - 1.0})
    assert (reading.time, decoder.contradictions) == (NOW - 1.0, 1)
    assert not decoder.rejected


# Snapshots


def test_a_retained_message_without_a_time_is_a_snapshot(decoder):
    readings = decode(decoder, "zigbee2mqtt/room", MESSAGES["silent_about_time"], retained=True)
    assert [r.retained for r in readings] == [True, True]


def test_a_retained_message_with_a_time_is_an_old_reading(decoder):
    assert decode(decoder, "zigbee2mqtt/room", MESSAGES["climate"], retained=True)[0] == Reading("room", SEEN, 20.75)


def test_cached_states_sent_when_zigbee2mqtt_starts_are_snapshots(decoder):
    decode(decoder, "zigbee2mqtt/bridge/state", MESSAGES["bridge_online"], received_at=NOW)
    during = decode(decoder, "zigbee2mqtt/room", MESSAGES["silent_about_time"], received_at=NOW + STARTUP_S - 0.1)
    after = decode(decoder, "zigbee2mqtt/room", MESSAGES["silent_about_time"], received_at=NOW + STARTUP_S)
    other = decode(decoder, "weather/wind", "36", received_at=NOW + 1)
    assert [r.retained for r in during + after + other] == [True, True, False, False, False]


def test_a_retained_bridge_state_says_nothing_about_a_start(decoder):
    decode(decoder, "zigbee2mqtt/bridge/state", "online", retained=True)
    assert decoder.bridge.is_online is True
    assert not decode(decoder, "zigbee2mqtt/room", MESSAGES["silent_about_time"])[0].retained


@pytest.mark.parametrize(
    ("payload", "online"), [('{"state":"offline"}', False), ("offline", False), ('{"state":"online"}', True), ("{}", None), ("7", None)]
)
def test_bridge_state_in_the_forms_of_1_x_and_2_x(decoder, payload, online):
    assert decode(decoder, "zigbee2mqtt/bridge/state", payload) == []
    assert decoder.bridge.is_online is online


# output: attribute


def test_attribute_topics_carry_plain_values(decoder):
    assert decode(decoder, "zigbee2mqtt/upstairs/plug/energy", "7.42") == [Reading("plug", NOW, 7420.0)]
    assert decode(decoder, "weather/now/air-temperature-value", "68") == [Reading("outside", NOW, pytest.approx(20.0))]
    assert decode(decoder, "zigbee2mqtt/room/temperature", "") == []  # null
    assert not decoder.rejected


def test_attributes_beside_json_are_the_same_sample_again(decoder):
    decode(decoder, "zigbee2mqtt/room", MESSAGES["climate"])
    assert decode(decoder, "zigbee2mqtt/room/temperature", "20.75") == []


# What is sent again


def test_states_sent_again_when_home_assistant_starts_are_snapshots(decoder):
    same, other = MESSAGES["silent_about_time"], {**MESSAGES["silent_about_time"], "temperature": 25.0}
    decode(decoder, "zigbee2mqtt/room", same)
    decoder.note_birth(NOW + 100)
    assert [r.retained for r in decode(decoder, "zigbee2mqtt/room", same, received_at=NOW + 136)] == [True, True]
    assert [r.retained for r in decode(decoder, "zigbee2mqtt/room", other, received_at=NOW + 140)] == [False, False]
    assert [r.retained for r in decode(decoder, "zigbee2mqtt/room", other, received_at=NOW + 400)] == [False, False]


INTERVAL_HOUSE = parse_house(
    """
site = "test"
time_zone = "UTC"
targets = [{ name = "energy", sensor = "meter" }]
sensors = [
  { name = "meter", role = "energy", topic = "zigbee2mqtt/meter", field = "interval_energy", topic_form = "interval" },
  { name = "room", role = "indoor_temperature", topic = "zigbee2mqtt/meter", field = "device_temperature" },
]
""",
    source="test",
)


def test_the_energy_of_an_interval_counts_once_however_often_it_is_repeated():
    decoder, counted = Decoder(INTERVAL_HOUSE), 0.0
    for minute in range(240):  # an energy every ten minutes, a temperature every minute; the first two hours are for learning
        if minute % 10 == 0:
            energy = [50.0, 60.0, 70.0, 70.0][minute // 10 % 4]
        message = {"interval_energy": energy, "device_temperature": minute / 10}
        readings = decode(decoder, "zigbee2mqtt/meter", message, received_at=NOW + 60 * minute)
        counted += sum(r.value for r in readings if r.sensor == "meter" and minute >= 120)
        assert [r.value for r in readings if r.sensor == "room"] == [minute / 10]
    assert counted == 12 / 4 * (50 + 60 + 70 + 70)


def test_equal_energies_at_the_usual_pace_all_count():
    decoder = Decoder(INTERVAL_HOUSE)
    readings = [decode(decoder, "zigbee2mqtt/meter", {"interval_energy": 50.0}, received_at=NOW + 600 * i) for i in range(30)]
    assert all(len(each) == 1 for each in readings)


def test_a_renamed_device_is_read_on_its_new_topic(decoder):
    def devices(*names):
        return [{"friendly_name": name, "ieee_address": f"0x{i}"} for i, name in enumerate(names)]

    decode(decoder, "zigbee2mqtt/bridge/devices", devices("room", "upstairs/plug"), retained=True)
    decode(decoder, "zigbee2mqtt/bridge/devices", devices("attic/climate", "upstairs/plug"))
    assert {"zigbee2mqtt/attic/climate", "zigbee2mqtt/attic/climate/temperature", "zigbee2mqtt/attic/climate/availability"} <= set(decoder.topics)
    assert decode(decoder, "zigbee2mqtt/attic/climate", MESSAGES["climate"])[0] == Reading("room", SEEN, 20.75)
    assert decode(Decoder(HOUSE), "zigbee2mqtt/attic/climate", MESSAGES["climate"]) == []


def test_another_base_topic():
    assert Decoder(HOUSE, base_topic="z2m/attic").topics[0] == "z2m/attic/bridge/state"


# Whatever arrives

anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)
fields = st.fixed_dictionaries({}, optional=dict.fromkeys(("temperature", "humidity", "energy", "power", "air", "last_seen", "state"), anything))
clocks = st.none() | st.floats(1e9, 2e9)


def assert_sound(readings, received_at):
    for reading in readings:
        assert math.isfinite(reading.value)
        assert math.isfinite(reading.time)
        assert received_at is None or reading.time <= received_at


@given(topic=st.sampled_from(Decoder(HOUSE).topics), payload=st.binary(), received_at=clocks, retained=st.booleans())
def test_no_bytes_raise(topic, payload, received_at, retained):
    assert_sound(Decoder(HOUSE).decode(topic, payload, received_at=received_at, retained=retained), received_at)


@given(topic=st.sampled_from(Decoder(HOUSE).topics), message=fields | anything, received_at=clocks)
@example("zigbee2mqtt/room", {"temperature": 10**400, "last_seen": 10**400}, 1e9)
@example("zigbee2mqtt/room", {"temperature": 1, "last_seen": "0001-01-01T00:00:00+23:59"}, 1e9)
def test_no_json_raises(topic, message, received_at):
    assert_sound(Decoder(HOUSE).decode(topic, json.dumps(message).encode(), received_at=received_at, retained=False), received_at)
