"""house.toml is read strictly: every error names the file, the key and what to write instead."""

import pytest

from edge_agent.contract.errors import ConfigError
from edge_agent.contract.schema import ROLES, STEPS_S, parse_house, read_house

HOUSE = """
site = "home"
time_zone = "Europe/Berlin"
step = 900
table_clock = "utc"

[[targets]]
name = "energy"
sensor = "meter"

[[sensors]]
name = "meter"
role = "energy"
unit = "kWh"
column = "use"
column_form = "counter"
topic = "zigbee2mqtt/meter"
field = "energy"
topic_unit = "W"
topic_form = "power"
valid = [-100, 9000.5]
hold = 600

[[sensors]]
name = "kitchen"
role = "indoor_temperature"
topic = "kitchen/temperature"
"""


def refusal(text):
    with pytest.raises(ConfigError) as caught:
        parse_house(text, source="my/house.toml")
    return str(caught.value)


def replaced(old, new):
    assert HOUSE.count(old) >= 1
    return refusal(HOUSE.replace(old, new, 1))


def test_every_key_is_read():
    house = parse_house(HOUSE, source="x")
    assert (house.site, house.time_zone, house.step_s, house.table_clock) == ("home", "Europe/Berlin", 900, "utc")
    assert house.zone.key == "Europe/Berlin"
    meter = house.sensor("meter")
    assert (meter.role, meter.unit, meter.column, meter.column_form) == ("energy", "kWh", "use", "counter")
    assert (meter.topic, meter.field, meter.topic_unit, meter.topic_form) == ("zigbee2mqtt/meter", "energy", "W", "power")
    assert (meter.low, meter.high, meter.hold_s) == (-100.0, 9000.5, 600)
    assert house.target("energy").sensor == "meter"


def test_defaults_come_from_the_role():
    kitchen = parse_house(HOUSE, source="x").sensor("kitchen")
    assert (kitchen.unit, kitchen.topic_unit, kitchen.column, kitchen.field) == ("degC", "degC", None, None)
    assert (kitchen.column_form, kitchen.topic_form) == ("state", "state")
    assert (kitchen.low, kitchen.high, kitchen.hold_s) == (-20.0, 60.0, 7200)


def counter(*lines, field="energy"):
    text = (
        'site = "h"\ntime_zone = "UTC"\ntargets = [{name = "e", sensor = "a"}]\n[[sensors]]\nname = "a"\nrole = "energy"\ntopic = "a"\nunit = "kWh"\n'
    )
    return parse_house("\n".join([text, f'field = "{field}"', *lines]), source="x").sensor("a")


def test_the_resolution_of_a_counter_is_in_the_topics_unit():
    assert counter().resolution is None
    assert counter("resolution = 0.01").resolution == 10.0
    assert counter("resolution = 0").resolution == 0.0
    with pytest.raises(ConfigError, match="key 'resolution'"):
        counter("resolution = -1")


@pytest.mark.parametrize(("field", "power"), [("energy", "power"), ("energy_l1", "power_l1"), ("produced_energy", None), ("sum", None)])
def test_the_power_of_a_counters_device_is_found_by_zigbee2mqtts_names(field, power):
    assert counter(field=field).power_field == power
    assert counter('power_field = "p"', field=field).power_field == "p"
    assert counter('power_field = ""', field=field).power_field is None


def test_energy_forms_default_to_what_the_unit_can_be():
    text = 'site = "h"\ntime_zone = "UTC"\n[[targets]]\nname = "e"\nsensor = "a"\n'
    text += '[[sensors]]\nname = "a"\nrole = "energy"\ncolumn = "a"\ntopic = "a"\n'
    text += '[[sensors]]\nname = "b"\nrole = "energy_part"\nunit = "kW"\ncolumn = "b"\n'
    house = parse_house(text, source="x")
    assert (house.sensor("a").column_form, house.sensor("a").topic_form) == ("interval", "counter")
    assert (house.sensor("b").column_form, house.sensor("b").topic_form) == ("power", "power")
    assert (house.step_s, house.table_clock) == (600, "local")


def test_features_follow_the_file_and_carry_canonical_units():
    house = parse_house(HOUSE, source="x")
    assert [(f.name, f.role, f.unit, f.kind) for f in house.features] == [
        ("meter", "energy", "Wh", "energy"),
        ("kitchen", "indoor_temperature", "degC", "state"),
    ]
    assert house.unit_of == {"energy": "Wh"}


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ('site = "home"', 'sight = "home"', ["key 'sight'", "unknown key", "'site'"]),
        ('site = "home"', "", ["key 'site'", "missing", "a text"]),
        ('site = "home"', "site = 7", ["key 'site'", "7 is a whole number", "a text"]),
        ('site = "home"', 'site = "my home"', ["key 'site'", "'my home' is no name"]),
        ('site = "home"', 'site = ""', ["key 'site'", "'' is no name"]),
        ("step = 900", "step = 700", ["key 'step'", "700 s", "300, 600, 900, 1800, 3600"]),
        ("step = 900", "step = 900.0", ["key 'step'", "900.0 is a number", "a whole number"]),
        ("step = 900", "step = true", ["key 'step'", "true or false", "a whole number"]),
        ('"utc"', '"UTC"', ["key 'table_clock'", "'utc'"]),
        ("Europe/Berlin", "Europe/Berln", ["key 'time_zone'", "unknown time zone", "'Europe/Berlin'"]),
        ("Europe/Berlin", "localtime", ["key 'time_zone'", "unknown time zone"]),
        ("Europe/Berlin", "../etc", ["key 'time_zone'", "unknown time zone"]),
        ("Europe/Berlin", "Europe", ["key 'time_zone'", "unknown time zone"]),
        ("Europe/Berlin", "", ["key 'time_zone'", "unknown time zone"]),
        ('role = "energy"', 'role = "enrgy"', ["[[sensors]] number 1 ('meter')", "key 'role'", "'energy'"]),
        ('role = "energy"', 'rol = "energy"', ["('meter')", "key 'rol'", "unknown key", "'role'"]),
        ('role = "energy"', "", ["('meter')", "key 'role'", "missing"]),
        ('unit = "kWh"', 'unit = "kwh"', ["key 'unit'", "'kWh'"]),
        ('unit = "kWh"', 'unit = "degC"', ["key 'unit'", "no unit of energy", "Wh"]),
        ('topic_unit = "W"', 'topic_unit = "Watt"', ["key 'topic_unit'", "unknown unit 'Watt'"]),
        ('topic_form = "power"', 'topic_form = "counter"', ["key 'topic_form'", "power"]),
        ('column_form = "counter"', 'column_form = "power"', ["key 'column_form'", "'counter'"]),
        ("zigbee2mqtt/meter", "zigbee2mqtt/#", ["key 'topic'", "wildcard"]),
        ("zigbee2mqtt/meter", "zigbee2mqtt/+/x", ["key 'topic'", "wildcard"]),
        ('field = "energy"', 'field = ""', ["key 'field'", "empty"]),
        ('column = "use"', 'column = ""', ["key 'column'", "empty"]),
        ('topic = "kitchen/temperature"', "", ["('kitchen')", "neither a column nor a topic"]),
        ('name = "kitchen"', 'name = "meter"', ["key 'sensors'", "two sensors are called 'meter'"]),
        ("[-100, 9000.5]", "[5, 5]", ["key 'valid'", "low first"]),
        ("[-100, 9000.5]", "[1, nan]", ["key 'valid'", "low first"]),
        ("[-100, 9000.5]", "[0, inf]", ["key 'valid'", "finite"]),
        ("[-100, 9000.5]", "[1]", ["key 'valid'", "two numbers"]),
        ("[-100, 9000.5]", '[1, "2"]', ["key 'valid'", "two numbers"]),
        ("[-100, 9000.5]", "7", ["key 'valid'", "[low, high]"]),
        ("hold = 600", "hold = 0", ["key 'hold'", "positive"]),
        ("hold = 600", "hold = 1.5", ["key 'hold'", "whole number"]),
        ("hold = 600", "resolution = 0.01", ["key 'resolution'", "counter over MQTT"]),
        ('sensor = "meter"', 'sensor = "metre"', ["key 'targets'", "unknown sensor 'metre'", "'meter'"]),
        ('sensor = "meter"', 'senser = "meter"', ["[[targets]] number 1 ('energy')", "key 'senser'", "'sensor'"]),
        ("[[targets]]", "[targets]", ["key 'targets'", "is a table", "[[targets]]"]),
        ("[[targets]]", "[[target]]", ["key 'target'", "unknown key", "'targets'"]),
        ('"Europe/Berlin"', '"Europe/Berlin', ["not valid TOML", "line 3"]),
    ],
)
def test_an_error_names_file_key_and_remedy(old, new, parts):
    message = replaced(old, new)
    assert message.startswith("my/house.toml: ")
    assert [part for part in parts if part not in message] == []


def test_a_missing_key_is_not_blamed_on_a_valid_one_that_looks_like_it():
    assert "key 'site': missing" in replaced('site = "home"', "")  # 'step' looks like 'site'


def test_two_targets_of_one_name_are_refused():
    again = '[[targets]]\nname = "energy"\nsensor = "kitchen"\n'
    assert "two targets are called 'energy'" in refusal(HOUSE + again)


def test_a_house_needs_a_sensor_and_a_target():
    head = 'site = "h"\ntime_zone = "UTC"\n'
    assert "key 'sensors'" in refusal(head + "sensors = []\ntargets = []")
    assert "one or more [[sensors]]" in refusal(head + "sensors = [1]\ntargets = []")


def test_unknown_names_are_answered_with_the_closest():
    house = parse_house(HOUSE, source="x")
    with pytest.raises(ConfigError, match=r"no sensor 'kitchn'.*did you mean 'kitchen'"):
        house.sensor("kitchn")
    with pytest.raises(ConfigError, match=r"no target 'enery'.*did you mean 'energy'"):
        house.target("enery")


def test_an_unreadable_file_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.toml: cannot be read"):
        read_house(tmp_path / "gone.toml")
    latin = tmp_path / "latin.toml"
    latin.write_bytes('site = "Käthe"'.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.toml: not valid TOML.*UTF-8"):
        read_house(latin)


@pytest.mark.parametrize("step_s", STEPS_S)
def test_every_step_divides_a_day_and_an_hour(step_s):
    assert 86_400 % step_s == 0
    assert 3600 % step_s == 0


def test_a_byte_order_mark_is_no_part_of_the_text():
    assert parse_house("\ufeff" + HOUSE, source="x") == parse_house(HOUSE, source="x")


def test_ranges_of_roles_ascend():
    assert all(role.low < role.high and role.hold_s > 0 for role in ROLES.values())


def test_the_reference_house_is_described_completely(reference_house):
    assert len(reference_house.sensors) == 28
    assert (reference_house.step_s, reference_house.time_zone, reference_house.table_clock) == (600, "Europe/Brussels", "standard")
    assert reference_house.unit_of == {"energy": "Wh"}
    assert reference_house.target("energy").sensor == "Appliances"
    roles = [sensor.role for sensor in reference_house.sensors]
    # energy of two meters; nine pairs of a climate sensor, of which the sixth hangs outside; six columns of weather; two random ones
    assert {role: roles.count(role) for role in set(roles)} == {
        "energy": 1,
        "energy_part": 1,
        "indoor_temperature": 8,
        "indoor_humidity": 8,
        "outdoor_temperature": 2,
        "outdoor_humidity": 2,
        "pressure": 1,
        "wind_speed": 1,
        "visibility": 1,
        "dew_point": 1,
        "other": 2,
    }
    assert all(sensor.column and sensor.topic for sensor in reference_house.sensors)
