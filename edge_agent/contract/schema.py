"""Roles, features and the house: what `house.toml` may say, read strictly."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from edge_agent.contract.errors import ConfigError, closest
from edge_agent.contract.toml_table import TableReader
from edge_agent.contract.units import to_canonical, unit_named

Kind = Literal["energy", "state"]
Form = Literal["interval", "counter", "power", "state"]
TableClock = Literal["local", "standard", "utc"]

STEPS_S: Final = (300, 600, 900, 1800, 3600)
FORMS: Final = ("interval", "counter", "power", "state")
TABLE_CLOCKS: Final = ("local", "standard", "utc")
HOUSE_KEYS: Final = ("site", "time_zone", "step", "table_clock", "sensors", "targets", "weather")
SENSOR_KEYS: Final = (
    "name",
    "role",
    "unit",
    "column",
    "column_form",
    "topic",
    "field",
    "topic_unit",
    "topic_form",
    "valid",
    "hold",
    "resolution",
    "power_field",
)
TARGET_KEYS: Final = ("name", "sensor")
WEATHER_KEYS: Final = ("role", "topic", "field", "unit")


@dataclass(frozen=True)
class Role:
    """What a sensor measures, and how its values behave in time."""

    name: str
    unit: str
    """Canonical unit of a series with this role."""
    kind: Kind
    """`energy` adds up over time, `state` averages."""
    low: float
    high: float
    """Default valid range: the canonical unit; for `energy` mean power in W."""
    hold_s: int
    """How long a reading stays true when no other follows."""


def _roles(*roles: Role) -> dict[str, Role]:
    return {role.name: role for role in roles}


ROLES: Final[dict[str, Role]] = _roles(
    Role("energy", "Wh", "energy", 0.0, 50_000.0, 7200),
    Role("energy_part", "Wh", "energy", 0.0, 50_000.0, 7200),
    Role("indoor_temperature", "degC", "state", -20.0, 60.0, 7200),
    Role("indoor_humidity", "%", "state", 0.0, 100.0, 7200),
    Role("outdoor_temperature", "degC", "state", -60.0, 60.0, 7200),
    Role("outdoor_humidity", "%", "state", 0.0, 100.0, 7200),
    Role("dew_point", "degC", "state", -60.0, 50.0, 7200),
    Role("pressure", "hPa", "state", 500.0, 1100.0, 14_400),  # not reduced to sea level: La Paz has 650
    Role("wind_speed", "m/s", "state", 0.0, 80.0, 7200),
    Role("visibility", "km", "state", 0.0, 200.0, 14_400),
    Role("solar_radiation", "W/m2", "state", 0.0, 1500.0, 7200),
    Role("illuminance", "lx", "state", 0.0, 200_000.0, 7200),
    Role("co2", "ppm", "state", 0.0, 20_000.0, 7200),
    Role("other", "1", "state", -1e12, 1e12, 7200),
)


WEATHER_ROLES: Final = ("outdoor_temperature", "outdoor_humidity", "wind_speed", "solar_radiation")
"""Roles that a weather forecast may tell ahead."""


@dataclass(frozen=True)
class Feature:
    """One column of a Series."""

    name: str
    role: str

    @property
    def unit(self) -> str:
        """Canonical unit of the column."""
        return ROLES[self.role].unit

    @property
    def kind(self) -> Kind:
        """`energy` (Wh in the step) or `state` (mean over the step)."""
        return ROLES[self.role].kind


@dataclass(frozen=True)
class Sensor:
    """One sensor of a house: a column of a table, a field of an MQTT topic, or both."""

    name: str
    role: str
    unit: str
    """Unit of the table's column."""
    column: str | None
    """Column in a CSV or Parquet file."""
    column_form: Form
    """What the column holds: energy of the step (`interval`), a cumulative `counter`, `power`, or a `state`."""
    topic: str | None
    """MQTT topic, without wildcards."""
    field: str | None
    """Key in the topic's JSON object (dots go deeper); None when the payload is a plain number."""
    topic_unit: str
    """Unit of the value in the MQTT message."""
    topic_form: Form
    """What the MQTT value holds, as `column_form`."""
    low: float
    high: float
    """Valid range: the role's canonical unit; for energy, mean power over the step in W."""
    hold_s: int
    """Seconds a reading stays true when no other follows."""
    resolution: float | None = None
    """Smallest change that a counter over MQTT shows, in Wh (0: every digit is meant); None to learn it."""
    power_field: str | None = None
    """Key beside `field` that holds the power of the same device in W, for a counter; None when there is none."""

    @property
    def feature(self) -> Feature:
        """The series column this sensor fills."""
        return Feature(self.name, self.role)


@dataclass(frozen=True)
class Target:
    """A series to forecast."""

    name: str
    sensor: str


@dataclass(frozen=True)
class WeatherTopic:
    """Where the forecast of one role comes from."""

    role: str
    topic: str
    """MQTT topic, without wildcards; several roles may share one."""
    field: str
    """Key of the values in the message."""
    unit: str


@dataclass(frozen=True)
class HouseSpec:
    """A house: its sensors, its time zone and its sampling step."""

    site: str
    time_zone: str
    """IANA name; used for calendar features and day totals only."""
    step_s: int
    table_clock: TableClock
    """How times without an offset in a table are meant: wall time with daylight saving, the zone's standard time all year, or UTC."""
    targets: tuple[Target, ...]
    sensors: tuple[Sensor, ...]
    weather: tuple[WeatherTopic, ...] = ()
    """Weather forecasts that reach the gateway."""

    @property
    def zone(self) -> ZoneInfo:
        """The house's time zone."""
        return ZoneInfo(self.time_zone)

    @property
    def features(self) -> tuple[Feature, ...]:
        """Series columns, in the order of the file."""
        return tuple(sensor.feature for sensor in self.sensors)

    def sensor(self, name: str) -> Sensor:
        """The sensor called `name`.

        Raises:
            ConfigError: there is none.
        """
        for sensor in self.sensors:
            if sensor.name == name:
                return sensor
        raise ConfigError(f"house {self.site!r} has no sensor {name!r}: {closest(name, [s.name for s in self.sensors])}")

    def target(self, name: str) -> Target:
        """The target called `name`.

        Raises:
            ConfigError: there is none.
        """
        for target in self.targets:
            if target.name == name:
                return target
        raise ConfigError(f"house {self.site!r} has no target {name!r}: {closest(name, [t.name for t in self.targets])}")

    @property
    def unit_of(self) -> dict[str, str]:
        """Canonical unit by target name."""
        return {t.name: self.sensor(t.sensor).feature.unit for t in self.targets}


def read_house(path: Path) -> HouseSpec:
    """The house described by the TOML file at `path`.

    Raises:
        ConfigError: unreadable file, unknown key, wrong type, unknown unit or role, two sensors with one name. The message names file, key and
            the closest valid word.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as err:
        raise ConfigError(f"{path}: cannot be read ({err.strerror}); give the path of a house.toml with --house") from err
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path}: not valid TOML: {err}; save the file as UTF-8") from err
    return parse_house(text, source=str(path))


def parse_house(text: str, *, source: str) -> HouseSpec:
    """The house described by TOML `text`; `source` names it in errors. Raises as `read_house`."""
    try:
        data = tomllib.loads(text.removeprefix("\ufeff"))  # some editors begin UTF-8 with a byte order mark
    except tomllib.TOMLDecodeError as err:
        raise ConfigError(f"{source}: not valid TOML: {err}") from err
    reader = TableReader(data, source=source, where="", keys=HOUSE_KEYS)
    site = reader.name("site")
    time_zone = reader.text("time_zone")
    if not _is_zone(time_zone):
        raise reader.error("time_zone", f"unknown time zone {time_zone!r}: {_closest_zone(time_zone)}")
    step_s = reader.integer("step", default=600)
    if step_s not in STEPS_S:
        raise reader.error("step", f"{step_s} s is not a supported step: one of {', '.join(map(str, STEPS_S))} is expected")
    table_clock = reader.choice("table_clock", TABLE_CLOCKS, default="local")
    sensors = tuple(_sensor(table) for table in reader.tables("sensors", keys=SENSOR_KEYS))
    targets = tuple(Target(table.name("name"), table.text("sensor")) for table in reader.tables("targets", keys=TARGET_KEYS))
    weather = tuple(_weather(table) for table in reader.tables("weather", keys=WEATHER_KEYS)) if "weather" in data else ()
    _check_names(reader, sensors, targets)
    _check_weather(reader, weather)
    return HouseSpec(site, time_zone, step_s, table_clock, targets, sensors, weather=weather)  # type: ignore[arg-type]


def _is_zone(name: str) -> bool:
    """Asks for the one zone: listing them all reads hundreds of files. Names in lower case are aliases of this machine alone (`localtime`)."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return not name[0].islower()


def _closest_zone(zone: str) -> str:
    hint = closest(zone, available_timezones())
    return hint if hint.startswith("did") else "an IANA name such as 'Europe/Berlin' is expected"


def _check_names(reader: TableReader, sensors: tuple[Sensor, ...], targets: tuple[Target, ...]) -> None:
    for what, names in (("sensors", [s.name for s in sensors]), ("targets", [t.name for t in targets])):
        for name in names:
            if names.count(name) > 1:
                raise reader.error(what, f"two {what} are called {name!r}: give each its own name")
    known = [s.name for s in sensors]
    for target in targets:
        if target.sensor not in known:
            raise reader.error("targets", f"target {target.name!r} forecasts unknown sensor {target.sensor!r}: {closest(target.sensor, known)}")


def _check_weather(reader: TableReader, weather: tuple[WeatherTopic, ...]) -> None:
    roles = [source.role for source in weather]
    for role in roles:
        if roles.count(role) > 1:
            raise reader.error("weather", f"two forecasts of {role}: give each role one")


def _weather(table: TableReader) -> WeatherTopic:
    role = ROLES[table.choice("role", WEATHER_ROLES)]
    return WeatherTopic(role.name, _topic(table, table.text("topic")), table.text("field"), _unit(table, "unit", default=role.unit, role=role))


def _topic(table: TableReader, topic: str) -> str:
    if not topic or set("#+\0") & set(topic):
        raise table.error("topic", f"{topic!r} is empty or holds a wildcard (# or +): name one topic")
    return topic


def _sensor(table: TableReader) -> Sensor:
    name = table.name("name")
    role = ROLES[table.choice("role", tuple(ROLES))]
    unit = _unit(table, "unit", default=role.unit, role=role)
    column, topic = table.optional_text("column"), table.optional_text("topic")
    if column is None and topic is None:
        raise table.error("column", "neither a column nor a topic: give 'column' (a table's column), 'topic' (MQTT), or both")
    if topic is not None:
        _topic(table, topic)
    field = table.optional_text("field")
    topic_unit = _unit(table, "topic_unit", default=unit, role=role)
    column_form = _form(table, "column_form", unit=unit, role=role, default="interval")
    topic_form = _form(table, "topic_form", unit=topic_unit, role=role, default="counter")
    low, high = table.number_pair("valid", default=(role.low, role.high))
    hold_s = table.integer("hold", default=role.hold_s)
    if hold_s <= 0:
        raise table.error("hold", f"{hold_s} s is not a hold time: a positive number of seconds is expected")
    resolution = None if "resolution" not in table.data else to_canonical(table.number("resolution"), topic_unit)
    if resolution is not None and (resolution < 0 or topic_form != "counter"):
        raise table.error("resolution", "the smallest change of a counter over MQTT is expected, 0 when every digit is meant")
    power_field = table.text("power_field", _power_field(topic_form, field)) or None
    return Sensor(name, role.name, unit, column, column_form, topic, field, topic_unit, topic_form, low, high, hold_s, resolution, power_field)


def _power_field(topic_form: str, field: str | None) -> str:
    """Where Zigbee2MQTT puts the power of a device whose counter is `field`: `power`, or `power_l1` beside `energy_l1`."""
    is_energy = field is not None and (field == "energy" or field.startswith("energy_"))
    return f"power{field.removeprefix('energy')}" if topic_form == "counter" and field is not None and is_energy else ""


def _unit(table: TableReader, key: str, *, default: str, role: Role) -> str:
    unit = table.text(key, default=default)
    try:
        canonical = unit_named(unit).canonical
    except ConfigError as err:
        raise table.error(key, str(err)) from None
    expected = {"Wh", "W"} if role.kind == "energy" else {role.unit}
    if role.name != "other" and canonical not in expected:
        raise table.error(key, f"{unit!r} is no unit of {role.name} (canonical unit {role.unit})")
    return unit


def _form(table: TableReader, key: str, *, unit: str, role: Role, default: str) -> Form:
    valid: tuple[str, ...] = ("interval", "counter")
    if role.kind == "state":
        default, valid = "state", ("state",)
    elif unit_named(unit).canonical == "W":
        default, valid = "power", ("power",)
    return table.choice(key, valid, default=default)  # type: ignore[return-value]
