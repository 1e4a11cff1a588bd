"""What Zigbee2MQTT says about itself and its devices."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.bridge import Bridge
from edge_agent.contract.schema import parse_house

T = 1_772_359_200.0
HOUSE = parse_house(
    """
site = "test"
time_zone = "UTC"
targets = [{ name = "energy", sensor = "plug" }]
sensors = [
  { name = "room", role = "indoor_temperature", topic = "zigbee2mqtt/room", field = "temperature" },
  { name = "plug", role = "energy", topic = "zigbee2mqtt/upstairs/plug", field = "energy", topic_unit = "kWh" },
  { name = "wind", role = "wind_speed", topic = "weather/wind" },
]
""",
    source="test",
)
COORDINATOR = {"friendly_name": "Coordinator", "ieee_address": "0x0", "type": "Coordinator", "definition": None}


@pytest.fixture
def bridge():
    return Bridge(HOUSE)


def take(bridge, what, message, *, retained=False, at=T):
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    assert bridge.take(f"zigbee2mqtt/{what}", payload, received_at=at, retained=retained)


def devices(**names):
    """`bridge/devices`, addresses by name (`__` for `/`)."""
    return [COORDINATOR, *({"friendly_name": name.replace("__", "/"), "ieee_address": address} for name, address in names.items())]


def problems(bridge):
    return list(bridge.problems())


def test_only_topics_of_the_bridge_are_taken(bridge):
    assert not bridge.take("zigbee2mqtt/room", b"{}", received_at=T, retained=False)
    assert not bridge.take("zigbee2mqtt/other/availability", b"offline", received_at=T, retained=False)
    assert "weather/wind/availability" not in bridge.topics


@pytest.mark.parametrize("offline", [{"state": "offline"}, b"offline"])
@pytest.mark.parametrize("online", [{"state": "online"}, b"online"])
def test_the_bridge_goes_and_comes_in_both_forms(bridge, offline, online):
    assert problems(bridge) == []
    take(bridge, "bridge/state", offline)
    take(bridge, "bridge/state", offline, at=T + 60)
    assert problems(bridge)[0].startswith("Zigbee2MQTT is offline since 2026-03-01T10:00:00Z")
    take(bridge, "bridge/state", online, at=T + 90)
    assert problems(bridge) == []
    assert bridge.online_at == T + 90


def test_a_retained_state_tells_no_moment(bridge):
    take(bridge, "bridge/state", {"state": "online"}, retained=True)
    assert (bridge.is_online, bridge.online_at) == (True, None)


@pytest.mark.parametrize("offline", [{"state": "offline"}, b"offline"])
@pytest.mark.parametrize("back", [{"state": "online"}, b"online", b""])
def test_a_device_goes_and_comes_in_both_forms(bridge, offline, back):
    take(bridge, "upstairs/plug/availability", offline, retained=True)
    (problem,) = problems(bridge)
    assert problem.startswith("zigbee2mqtt/upstairs/plug is offline, says Zigbee2MQTT")
    take(bridge, "upstairs/plug/availability", back)
    assert problems(bridge) == []


def test_while_the_bridge_is_offline_nobody_knows_of_its_devices(bridge):
    take(bridge, "bridge/state", {"state": "online"})
    take(bridge, "room/availability", {"state": "offline"}, retained=True)
    assert len(problems(bridge)) == 1
    take(bridge, "bridge/state", {"state": "offline"})
    (problem,) = problems(bridge)
    assert problem.startswith("Zigbee2MQTT is offline")


def test_a_device_that_left_is_named_once(bridge):
    take(bridge, "bridge/devices", devices(room="0x1", upstairs__plug="0x2"))
    take(bridge, "bridge/event", {"type": "device_leave", "data": {"friendly_name": "room", "ieee_address": "0x1"}})
    take(bridge, "bridge/devices", devices(upstairs__plug="0x2"))
    (problem,) = problems(bridge)
    assert problem.startswith("zigbee2mqtt/room left the Zigbee network at 2026-03-01T10:00:00Z: pair it again")


def test_a_device_that_speaks_is_not_offline(bridge):
    take(bridge, "room/availability", b"offline")
    bridge.heard("zigbee2mqtt/room")
    assert problems(bridge) == []


def test_a_device_that_leaves_is_named_until_it_is_back(bridge):
    take(bridge, "bridge/event", {"type": "device_leave", "data": {"friendly_name": "room", "ieee_address": "0x1"}})
    assert problems(bridge) == ["zigbee2mqtt/room left the Zigbee network at 2026-03-01T10:00:00Z: pair it again"]
    take(bridge, "bridge/event", {"type": "device_announce", "data": {"friendly_name": "room"}})
    assert problems(bridge) == []


def test_a_device_that_nobody_knows_is_named(bridge):
    take(bridge, "bridge/devices", devices(room="0x1"))
    (problem,) = problems(bridge)
    assert problem.startswith("Zigbee2MQTT knows no device called 'upstairs/plug'")
    take(bridge, "bridge/groups", [{"id": 1, "friendly_name": "upstairs/plug"}])
    assert problems(bridge) == []


def test_a_device_that_was_renamed_is_followed(bridge):
    take(bridge, "bridge/devices", devices(room="0x1", upstairs__plug="0x2"), retained=True)
    assert bridge.has_changed
    bridge.has_changed = False
    take(bridge, "bridge/devices", devices(room="0x1", upstairs__plug="0x2"))
    assert not bridge.has_changed
    take(bridge, "bridge/devices", devices(room="0x1", fridge="0x2"))
    assert bridge.has_changed
    assert problems(bridge) == [
        'zigbee2mqtt/upstairs/plug is now called zigbee2mqtt/fridge, and is read there: set topic = "zigbee2mqtt/fridge" in house.toml'
    ]
    assert bridge.today("zigbee2mqtt/upstairs/plug/energy") == "zigbee2mqtt/fridge/energy"
    assert bridge.configured("zigbee2mqtt/fridge") == "zigbee2mqtt/upstairs/plug"
    assert bridge.configured("zigbee2mqtt/fridge2") == "zigbee2mqtt/fridge2"
    take(bridge, "fridge/availability", b"offline")
    assert "zigbee2mqtt/upstairs/plug is offline" in problems(bridge)[1]
    take(bridge, "bridge/devices", devices(room="0x1", upstairs__plug="0x2"))
    assert bridge.today("zigbee2mqtt/upstairs/plug") == "zigbee2mqtt/upstairs/plug"


def test_two_devices_that_swap_names_are_followed_by_name(bridge):
    take(bridge, "bridge/devices", devices(room="0x1", upstairs__plug="0x2"))
    take(bridge, "bridge/devices", devices(room="0x2", upstairs__plug="0x1"))
    assert bridge.renamed == {}
    assert bridge.addresses == {"zigbee2mqtt/room": "0x2", "zigbee2mqtt/upstairs/plug": "0x1"}


def test_a_rename_during_the_agents_absence_is_followed(bridge):
    bridge.restore({"zigbee2mqtt/room": "0x1"})
    take(bridge, "bridge/devices", devices(attic="0x1", upstairs__plug="0x2"), retained=True)
    assert bridge.renamed == {"zigbee2mqtt/room": "zigbee2mqtt/attic"}


anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(
    what=st.sampled_from(Bridge(HOUSE).topics),
    message=anything | st.lists(st.fixed_dictionaries({"friendly_name": anything, "ieee_address": anything})),
)
def test_no_json_raises(what, message):
    bridge = Bridge(HOUSE)
    take(bridge, what.removeprefix("zigbee2mqtt/"), message)
    problems(bridge)


@given(what=st.sampled_from(Bridge(HOUSE).topics), payload=st.binary())
def test_no_bytes_raise(what, payload):
    bridge = Bridge(HOUSE)
    take(bridge, what.removeprefix("zigbee2mqtt/"), payload)
    problems(bridge)


@pytest.mark.parametrize("name", ["", "#", "a/+/b", "new\n", "\ud800", "x" * 201, 7, None])
def test_a_name_that_can_be_no_topic_is_not_followed(bridge, name):
    take(bridge, "bridge/devices", devices(room="0x1"))
    before = bridge.topics
    take(bridge, "bridge/devices", [COORDINATOR, {"friendly_name": name, "ieee_address": "0x1"}])
    assert (bridge.topics, bridge.renamed) == (before, {})


def test_devices_that_nobody_reads_take_no_memory_when_they_leave(bridge):
    for i in range(1000):
        take(bridge, "bridge/event", {"type": "device_leave", "data": {"friendly_name": f"device {i}"}})
    assert not bridge._away


def test_an_endless_address_is_none(bridge):
    take(bridge, "bridge/devices", devices(room="0" * 100_000))
    assert bridge.addresses == {}
