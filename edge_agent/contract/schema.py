"""Roles, features and the house: what `house.toml` may say, read strictly."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from edge_agent.contract.errors import ConfigError, closest
from edge_agent.contract.units import unit_named

Kind = Literal["energy", "state"]
Form = Literal["interval", "counter", "power", "state"]
TableClock = Literal["local", "standard", "utc"]

STEPS_S: Final = (300, 600, 900, 1800, 3600)
FORMS: Final = ("interval", "counter", "power", "state")
TABLE_CLOCKS: Final = ("local", "standard", "utc")
HOUSE_KEYS: Final = ("site", "time_zone", "step", "table_clock", "sensors", "targets")
SENSOR_KEYS: Final = ("name", "role", "unit", "column", "column_form", "topic", "field", "topic_unit", "topic_form", "valid", "hold")
TARGET_KEYS: Final = ("name", "sensor")
NAME_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


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
        data = tomllib.loads(text)
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
    _check_names(reader, sensors, targets)
    return HouseSpec(site, time_zone, step_s, table_clock, targets, sensors)  # type: ignore[arg-type]


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


def _sensor(table: TableReader) -> Sensor:
    name = table.name("name")
    role = ROLES[table.choice("role", tuple(ROLES))]
    unit = _unit(table, "unit", default=role.unit, role=role)
    column, topic = table.optional_text("column"), table.optional_text("topic")
    if column is None and topic is None:
        raise table.error("column", "neither a column nor a topic: give 'column' (a table's column), 'topic' (MQTT), or both")
    if topic is not None and set("#+\0") & set(topic):
        raise table.error("topic", f"{topic!r} holds a wildcard (# or +): name one topic")
    field = table.optional_text("field")
    topic_unit = _unit(table, "topic_unit", default=unit, role=role)
    column_form = _form(table, "column_form", unit=unit, role=role, default="interval")
    topic_form = _form(table, "topic_form", unit=topic_unit, role=role, default="counter")
    low, high = table.number_pair("valid", default=(role.low, role.high))
    hold_s = table.integer("hold", default=role.hold_s)
    if hold_s <= 0:
        raise table.error("hold", f"{hold_s} s is not a hold time: a positive number of seconds is expected")
    return Sensor(name, role.name, unit, column, column_form, topic, field, topic_unit, topic_form, low, high, hold_s)


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


_MISSING: Final = object()


class TableReader:
    """Takes typed values out of one TOML table, and complains about keys that it does not know."""

    def __init__(self, data: dict[str, Any], *, source: str, where: str, keys: tuple[str, ...] | None = None) -> None:
        """Read `data`.

        Args:
            data: the table.
            source: the file, for messages.
            where: the table's place in the file, for messages.
            keys: all keys that it may have. None: those asked for until `done` is called.

        Raises:
            ConfigError: another key than `keys`.
        """
        self.data, self.source, self.where = data, source, where
        self.known = list(keys or ())
        if keys is not None:
            self.done()

    def error(self, key: str, problem: str) -> ConfigError:
        """The error to raise about `key`."""
        return ConfigError(f"{self.source}: {self.where}key {key!r}: {problem}")

    def _take(self, key: str, types: tuple[type, ...], expected: str, default: Any) -> Any:
        self.known.append(key)
        value = self.data.get(key, _MISSING)
        if value is _MISSING:
            if default is _MISSING:
                raise self.error(key, f"missing: {expected} is expected")
            return default
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise self.error(key, f"{value!r} is {_type_name(value)}: {expected} is expected")
        return value

    def text(self, key: str, default: Any = _MISSING) -> str:
        """A string."""
        return str(self._take(key, (str,), "a text", default))

    def optional_text(self, key: str) -> str | None:
        """A string, or None when the key is absent."""
        value = self._take(key, (str,), "a text", None)
        if value == "":
            raise self.error(key, "the text is empty: fill it in, or leave the key out")
        return None if value is None else str(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings; empty when the key is absent."""
        value = self._take(key, (list,), "a list of texts", [])
        if not all(isinstance(item, str) for item in value):
            raise self.error(key, f"{value!r}: a list of texts is expected")
        return tuple(value)

    def name(self, key: str) -> str:
        """A string that is safe in topics, file names and column names."""
        value = self.text(key)
        if not value or not set(value) <= NAME_CHARACTERS:
            raise self.error(key, f"{value!r} is no name: letters, digits, '_' and '-' are expected")
        return value

    def integer(self, key: str, default: Any = _MISSING) -> int:
        """A whole number."""
        return int(self._take(key, (int,), "a whole number", default))

    def number(self, key: str, default: Any = _MISSING) -> float:
        """A finite number."""
        value = float(self._take(key, (int, float), "a number", default))
        if not math.isfinite(value):
            raise self.error(key, f"{value!r}: a finite number is expected")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """A boolean."""
        return bool(self._take(key, (bool,), "true or false", default))

    def choice(self, key: str, valid: tuple[str, ...], default: Any = _MISSING) -> str:
        """One of the words in `valid`."""
        value = self.text(key, default)
        if value not in valid:
            raise self.error(key, f"{value!r} is not valid: {closest(value, valid)}")
        return value

    def number_pair(self, key: str, default: tuple[float, float]) -> tuple[float, float]:
        """`[low, high]`, ascending."""
        value = self._take(key, (list,), "[low, high]", list(default))
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
        if len(value) != 2 or not numbers or not value[0] < value[1]:
            raise self.error(key, f"{value!r}: two numbers [low, high], low first, are expected")
        return float(value[0]), float(value[1])

    def tables(self, key: str, keys: tuple[str, ...]) -> list[TableReader]:
        """The tables of an array of tables, at least one; `keys` are all that each may have."""
        value = self._take(key, (list,), f"one or more [[{key}]] tables", _MISSING)
        if not value or not all(isinstance(item, dict) for item in value):
            raise self.error(key, f"one or more [[{key}]] tables are expected")
        names = [f" ({item['name']!r})" if isinstance(item.get("name"), str) else "" for item in value]
        return [
            TableReader(item, source=self.source, where=f"[[{key}]] number {i}{name}: ", keys=keys)
            for i, (item, name) in enumerate(zip(value, names, strict=True), 1)
        ]

    def table(self, key: str) -> TableReader:
        """A sub-table; empty when absent."""
        value = self._take(key, (dict,), f"a [{key}] table", {})
        return TableReader(value, source=self.source, where=f"[{key}] ")

    def done(self) -> None:
        """Complain about a key that nobody knows.

        Raises:
            ConfigError: there is one; the message names the closest known key.
        """
        for key in self.data:
            if key not in self.known:
                raise self.error(key, f"unknown key: {closest(key, self.known)}")


def _type_name(value: object) -> str:
    names = {str: "a text", bool: "true or false", int: "a whole number", float: "a number", list: "a list", dict: "a table"}
    return next((name for kind, name in names.items() if type(value) is kind), type(value).__name__)
