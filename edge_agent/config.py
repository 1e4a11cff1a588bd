"""Settings of the agent: `agent.toml`, with the command line's flags on top. Read once, strictly."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import time
from pathlib import Path
from typing import Any, Final, Literal, cast

from edge_agent.contract.errors import ConfigError
from edge_agent.contract.localtime import DAY_S
from edge_agent.contract.toml_table import TableReader

Discovery = Literal["device", "single", "off"]

DISCOVERIES: Final = ("device", "single", "off")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
LOG_FORMS: Final = ("text", "json")
LEAST_MB: Final = 50
"""Smallest limit of the history's file."""
LEAST_STEPS_DAYS: Final = 60
"""Forecasts look back 57 days."""
LONGEST_SOCKET_PATH: Final = 107
"""See unix(7)."""
CREDENTIAL: Final = "mqtt-password"
"""Name under which the systemd unit hands over the broker's password (LoadCredential)."""
KEY_CREDENTIAL: Final = "mqtt-key"
"""The same of the private key that belongs to `cert_file`: the service's user cannot read what only root may."""
SERVICE_STATE_DIR: Final = Path("/var/lib/hearthcast")
"""Of the systemd unit."""


@dataclass(frozen=True)
class BrokerSettings:
    """Where the MQTT broker is, and who the agent is to it."""

    host: str = "127.0.0.1"
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca_file: Path | None = None
    """Certificate authority of the broker; None: those the system trusts."""
    cert_file: Path | None = None
    """The agent's own certificate, where the broker asks for one."""
    key_file: Path | None = None
    client_id: str | None = None
    """None: `hearthcast-<site>`, the same at every start, so that the broker keeps the session."""


@dataclass(frozen=True)
class HistoryLimits:
    """How much the history keeps, counted back from the last closed step."""

    readings_s: float = 30.0 * DAY_S
    """As they came."""
    steps_s: float = 3 * 365.0 * DAY_S
    """Closed steps, and repairs."""
    forecasts_s: float = 90.0 * DAY_S
    """By the hour, as entities show them."""
    issued_s: float = 35.0 * DAY_S
    """Whole: at 10 minutes 144 a day of 6 kB. They are needed until their day is scored; scores stay."""
    weather_s: float = 366.0 * DAY_S
    """Weather forecasts as they came: four roles each hour take 37 MB."""
    max_bytes: int = 1_000_000_000
    """Of the file; SQLite's log beside it takes up to 16 MB more."""


@dataclass(frozen=True)
class Settings:
    """Everything the agent can be told."""

    broker: BrokerSettings
    state_dir: Path
    """Holds the history; made when missing."""
    bundles: tuple[Path, ...] = ()
    """Model bundles, one target each."""
    base_topic: str = "hearthcast"
    zigbee2mqtt_topic: str = "zigbee2mqtt"
    discovery: Discovery = "device"
    discovery_prefix: str = "homeassistant"
    forecast_at: tuple[time, ...] = ()
    """Local times of the day to forecast at; empty: at every step."""
    allow_unsigned: bool = False
    replay_clock: bool = False
    """Take the time from the messages, so that recorded days can run at any speed."""
    log_level: str = "info"
    log_form: str = "text"
    """`text` for people, `json` for programs."""
    price: float | None = None
    """Of a kWh: what a wrong forecast costs is then told in money too."""
    currency: str = "EUR"
    limits: HistoryLimits = HistoryLimits()
    metrics_socket: Path | None = None
    """Prometheus text on this Unix socket."""
    metrics_port: int | None = None
    """The same on this port of 127.0.0.1."""


def read_settings(path: Path | None, *, flags: Mapping[str, Any] | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings in the file at `path` (None: the defaults), overridden by `flags` that are not None.

    Args:
        path: an agent.toml.
        flags: `broker` (`HOST:PORT`), `password_file`, `bundles`, and fields of Settings.
        environment: gives the state folder and systemd's credentials.

    Raises:
        ConfigError: unreadable file, unknown key, wrong type or value; the message names file and key.
    """
    settings = _parse(*_load(path), environment)
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    broker = settings.broker
    if "broker" in given:
        host, port = host_and_port(given.pop("broker"), default_port=broker.port)
        broker = replace(broker, host=host, port=port)
    if "username" in given:
        broker = replace(broker, username=given.pop("username"))
    if "password_file" in given:
        broker = replace(broker, password=_read_password(Path(given.pop("password_file"))))
    return replace(settings, broker=broker, **given)


def host_and_port(text: str, *, default_port: int) -> tuple[str, int]:
    """`HOST`, `HOST:PORT` or `[IPV6]:PORT`, taken apart.

    Raises:
        ConfigError: it is none of these.
    """
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]]+))(?::(\d{1,5}))?", text)
    port = int(match[3] or default_port) if match else 0
    if match is None or not 0 < port < 65_536:
        raise ConfigError(f"--broker {text!r} is no address: HOST:PORT is expected, such as 127.0.0.1:1883")
    return match[1] or match[2], port


def _load(path: Path | None) -> tuple[TableReader, Path]:
    """The file's table and its folder, against which paths in it are meant."""
    if path is None:
        return TableReader({}, source="agent.toml", where=""), Path()
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as err:
        raise ConfigError(f"{path}: cannot be read ({err.strerror}); give the path of an agent.toml with --config") from err
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise ConfigError(f"{path}: not valid TOML: {err}") from err
    return TableReader(data, source=str(path), where=""), path.parent.absolute()


def _parse(reader: TableReader, folder: Path, environment: Mapping[str, str]) -> Settings:
    state_dir = _path(reader, "state_dir", folder)
    settings = Settings(
        broker=_broker(reader.table("mqtt"), folder, environment),
        state_dir=state_dir or default_state_dir(environment),
        bundles=tuple(folder / text for text in reader.texts("bundles")),
        base_topic=_topic(reader, "base_topic", "hearthcast"),
        allow_unsigned=reader.flag("allow_unsigned", default=False),
        log_level=reader.choice("log_level", LOG_LEVELS, default="info"),
        log_form=reader.choice("log_form", LOG_FORMS, default="text"),
        forecast_at=_times(reader, "forecast_at"),
        price=_price(reader),
        currency=reader.text("currency", "EUR"),
        limits=_limits(reader.table("history")),
    )
    zigbee2mqtt = reader.table("zigbee2mqtt")
    home_assistant = reader.table("homeassistant")
    settings = replace(
        settings,
        zigbee2mqtt_topic=_topic(zigbee2mqtt, "base_topic", "zigbee2mqtt"),
        discovery=cast("Discovery", home_assistant.choice("discovery", DISCOVERIES, default="device")),
        discovery_prefix=_topic(home_assistant, "prefix", "homeassistant"),
    )
    settings = _with_metrics(settings, reader.table("metrics"), folder)
    for table in (zigbee2mqtt, home_assistant, reader):
        table.done()
    return settings


def _with_metrics(settings: Settings, table: TableReader, folder: Path) -> Settings:
    path = _path(table, "socket", folder)
    port = table.integer("port", 0) if "port" in table.data else None
    if path is not None and port is not None:
        raise table.error("port", "there is a 'socket' too: keep one of them")
    if port is not None and not 0 < port < 65_536:
        raise table.error("port", f"{port} is no port: 1 to 65535 is expected")
    if path is not None and len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        raise table.error("socket", f"{path}: the system takes at most {LONGEST_SOCKET_PATH} bytes for the path of a socket: give a shorter one")
    table.done()
    return replace(settings, metrics_socket=path, metrics_port=port)


def _price(reader: TableReader) -> float | None:
    price = reader.number("price", -1.0)
    if price < 0 and price != -1.0:
        raise reader.error("price", f"{price:g}: the price of a kWh is expected, such as 0.30")
    return None if price < 0 else price


def _limits(table: TableReader) -> HistoryLimits:
    default = HistoryLimits()

    def seconds(key: str, default_s: float, *, least: int) -> float:
        days = table.integer(key, round(default_s / DAY_S))
        if days < least:
            raise table.error(key, f"{days} days: at least {least} is expected")
        return days * float(DAY_S)

    max_mb = table.integer("max_mb", default.max_bytes // 1_000_000)
    if max_mb < LEAST_MB:
        raise table.error("max_mb", f"{max_mb} MB: at least {LEAST_MB} is expected, for the {LEAST_STEPS_DAYS} days that forecasts need")
    limits = HistoryLimits(
        readings_s=seconds("keep_readings_days", default.readings_s, least=1),
        steps_s=seconds("keep_steps_days", default.steps_s, least=LEAST_STEPS_DAYS),
        forecasts_s=seconds("keep_forecasts_days", default.forecasts_s, least=1),
        max_bytes=max_mb * 1_000_000,
    )
    table.done()
    return limits


def default_state_dir(environment: Mapping[str, str]) -> Path:
    """The state folder that systemd gives, else for root the service's, else the user's own (XDG base directory specification)."""
    if "STATE_DIRECTORY" in environment:
        return Path(environment["STATE_DIRECTORY"].split(":")[0])
    if "XDG_STATE_HOME" not in environment and os.geteuid() == 0 and SERVICE_STATE_DIR.is_dir():
        return SERVICE_STATE_DIR
    state_home = environment.get("XDG_STATE_HOME") or (environment["HOME"] + "/.local/state" if "HOME" in environment else "/var/lib")
    return Path(state_home) / "hearthcast"


def _broker(table: TableReader, folder: Path, environment: Mapping[str, str]) -> BrokerSettings:
    ca_file, cert_file, key_file = (_path(table, key, folder) for key in ("ca_file", "cert_file", "key_file"))
    if cert_file is not None and key_file is None:
        key_file = _credential(KEY_CREDENTIAL, environment)
    if (cert_file is None) != (key_file is None):
        raise table.error("cert_file", "'cert_file' and 'key_file' belong together: give both or none")
    tls = table.flag("tls", default=ca_file is not None or cert_file is not None)
    broker = BrokerSettings(
        host=table.text("host", "127.0.0.1"),
        port=table.integer("port", 8883 if tls else 1883),
        username=table.optional_text("username"),
        password=_password(table, folder, environment),
        tls=tls,
        ca_file=ca_file,
        cert_file=cert_file,
        key_file=key_file,
        client_id=table.optional_text("client_id"),
    )
    if not 0 < broker.port < 65_536:
        raise table.error("port", f"{broker.port} is no port: 1 to 65535 is expected")
    table.done()
    return broker


def _password(table: TableReader, folder: Path, environment: Mapping[str, str]) -> str | None:
    """From the file that is named, the key whose name says what it costs, systemd's credential, or what becomes one, beside agent.toml."""
    path = _path(table, "password_file", folder)
    plain = table.optional_text("insecure_plain_password")
    if path is not None and plain is not None:
        raise table.error("insecure_plain_password", "there is a 'password_file' too: keep one of them")
    if path is None and plain is None:
        path = _credential(CREDENTIAL, environment) or _readable(folder / CREDENTIAL, folder)
    return plain if path is None else _read_password(path)


def _readable(path: Path, folder: Path) -> Path | None:
    return path if folder.is_absolute() and os.access(path, os.R_OK) else None


def _credential(name: str, environment: Mapping[str, str]) -> Path | None:
    """The file in which systemd hands over a secret; None where it does not."""
    path = Path(environment.get("CREDENTIALS_DIRECTORY", "")) / name
    return path if "CREDENTIALS_DIRECTORY" in environment and path.exists() else None


def _read_password(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as err:
        raise ConfigError(f"password file {path}: cannot be read ({err.strerror}); make a file that holds the password and nothing else") from err


def _path(table: TableReader, key: str, folder: Path) -> Path | None:
    text = table.optional_text(key)
    return None if text is None else folder / text


def _topic(table: TableReader, key: str, default: str) -> str:
    topic = table.text(key, default)
    if not topic or set("#+\0$") & set(topic) or topic.startswith("/") or topic.endswith("/"):
        raise table.error(key, f"{topic!r} is no base topic: a topic without wildcards and without '/' at its ends is expected")
    return topic


def _times(table: TableReader, key: str) -> tuple[time, ...]:
    """Local times of the day, ascending."""
    times = set()
    for text in table.texts(key):
        if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text):
            raise table.error(key, f"{text!r} is no time of the day: 'HH:MM' is expected, such as '06:00'")
        times.add(time.fromisoformat(text))
    return tuple(sorted(times))
