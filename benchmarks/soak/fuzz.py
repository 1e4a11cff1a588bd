"""Messages that no house should send and some day one does: of the forms of Zigbee2MQTT's messages and of weather forecasts, broken in every way."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

MEGABYTE: Final = 1_000_000
FORECAST_FROM: Final = 1_780_264_800
"""2026-06-01 00:00 in Berlin: hours of weather forecasts that could be true begin here."""
LARGE_EVERY: Final = 1_000
"""One message in so many is a megabyte long."""
SWITCH: Final = {
    "state": "ON",
    "power": 41.7,
    "voltage": 231.4,
    "current": 0.19,
    "energy": 1204.33,
    "power_outage_memory": "restore",
    "update": {"state": "idle", "installed_version": 65_554, "latest_version": 65_554},
}
CLIMATE: Final = {"battery": 83, "temperature": 20.91, "humidity": 47.3, "pressure": 1003.2, "voltage": 2965, "linkquality": 118}
VALVE: Final = {
    "local_temperature": 20.5,
    "current_heating_setpoint": 21.0,
    "system_mode": "heat",
    "preset": None,
    "position": 37,
    "window_detection": "OFF",
    "schedule": {"monday": "06:00/21 22:00/17"},
    "inside": {"temperature": 20.4, "humidity": None},
}
THREE_PHASES: Final = {"energy": 9021.07, "produced_energy": 3.2, "power_l1": 120.3, "power_l2": -4.0, "power_l3": 0, "ac_frequency": 50.01}
DEVICES: Final = (SWITCH, CLIMATE, VALVE, THREE_PHASES)
VALUES: Final[tuple[Any, ...]] = (
    *(float("nan"), float("inf"), float("-inf"), 1e308, -1e308, 1.8e305, 5e-324, -0.0, -1, 2**63, 10**400, 99_999_999),
    *("", " ", "hot", "NaN", "inf", "-inf", "1e308", "1e999", "21,5", "21.5 °C", "0x1F", "1_000", "٢٣", "½", "\x00", "\ud800", "null"),
    *(None, True, False, [], {}, [1, 2, 3], {"value": 3}, [[[[]]]], {"": {"": {}}}),
)
TIMES: Final[tuple[Any, ...]] = (
    *("1970-01-01T00:00:00Z", "9999-12-31T23:59:59+14:00", "0001-01-01T00:00:00-14:00", "2026-02-30T12:00:00Z", "2026-06-01T12:00:00", "yesterday"),
    *(
        "2026-06-01T12:00:00.123456789Z",
        "20260601T120000Z",
        "",
        0,
        -1,
        1e308,
        1e18,
        1_780_264_800,
        1_780_264_800_000,
        float("nan"),
        None,
        [],
        {},
        True,
    ),
)
NAMES: Final = ("#", "+", "a/+/b", "a/#", "/", "//", "a//b", "/a", "a/", "", " ", "$SYS", "ünï/cödé", "\ud800", "\x00", "x" * 70_000, "bridge/state")
WORDS: Final = (
    b"",
    b" ",
    b"online",
    b"offline",
    b"ON",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"21.5",
    b"NaN",
    b"1e308",
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b"\x00",
)

Break = Callable[[random.Random, dict[str, Any]], bytes]


def messages(
    dice: random.Random, *, devices: list[str], places: list[str], good: list[str], bridge: str, weather: str
) -> Iterator[tuple[str, bytes]]:
    """Topics and payloads without end.

    Args:
        dice: the chance.
        devices: topics of Zigbee2MQTT's devices that have gone mad: anything may come of them.
        places: other topics of which anything may come.
        good: topics of devices that go on speaking: what comes here beside their own messages holds no value that could be true.
        bridge: Zigbee2MQTT's base topic; what it says of itself is as mad.
        weather: topic of a mad weather service.
    """
    number, hostile = 0, [*devices, *places]
    while True:
        number += 1
        if number % LARGE_EVERY == 0:
            yield dice.choice([*hostile, *good]), _large(dice)
        elif dice.random() < 0.1:
            yield dice.choice(good), dice.choice((_cut, _not_utf8, _deep))(dice, _device(dice))
        elif dice.random() < 0.1:
            yield _of_the_bridge(dice, devices, bridge)
        elif dice.random() < 0.05:
            yield weather, _forecast(dice)
        else:
            yield dice.choice(hostile), dice.choice(BREAKS)(dice, _device(dice))


def _device(dice: random.Random) -> dict[str, Any]:
    return {**dice.choice(DEVICES), "last_seen": dice.choice(TIMES)}


def _one_value(dice: random.Random, message: dict[str, Any]) -> bytes:
    return _text({**message, dice.choice(list(message)): dice.choice(VALUES)})


def _all_values(dice: random.Random, message: dict[str, Any]) -> bytes:
    return _text({key: dice.choice(VALUES) for key in message})


def _jumping(dice: random.Random, message: dict[str, Any]) -> bytes:
    """Numbers that could be true, and go up and down by any factor."""
    del message["last_seen"]
    return _text({key: value * 10 ** dice.uniform(-6, 6) if isinstance(value, float) else value for key, value in message.items()})


def _cut(dice: random.Random, message: dict[str, Any]) -> bytes:
    text = _text(message)
    return text[: dice.randrange(1, len(text))]


def _not_utf8(dice: random.Random, message: dict[str, Any]) -> bytes:
    text = bytearray(_text(message))
    for _ in range(dice.randrange(1, 5)):
        text[dice.randrange(len(text))] = dice.randrange(0x80, 0x100)
    return bytes(text) + b"\xff"


def _deep(dice: random.Random, _message: dict[str, Any]) -> bytes:
    opening = dice.choice((b"[", b'{"temperature":', b'{"a":['))
    return opening * dice.choice((10, 1_000, 50_000))


def _digits(dice: random.Random, message: dict[str, Any]) -> bytes:
    key = dice.choice(list(message))
    return b'{"%s": %s}' % (key.encode(), dice.choice((b"9" * 5_000, b"1e" + b"9" * 400, b"0." + b"0" * 4_000 + b"1", b"-" + b"1" * 300)))


def _doubled(dice: random.Random, message: dict[str, Any]) -> bytes:
    """A key twice."""
    return _text(message)[:-1] + b", " + _all_values(dice, message)[1:]


def _word(dice: random.Random, _message: dict[str, Any]) -> bytes:
    return dice.choice(WORDS)


BREAKS: Final[tuple[Break, ...]] = (_one_value, _one_value, _all_values, _jumping, _cut, _not_utf8, _deep, _digits, _doubled, _word)


def _of_the_bridge(dice: random.Random, devices: list[str], bridge: str) -> tuple[str, bytes]:
    """Devices with impossible names, events, and availability in every form; the good devices are always among them."""
    topic = dice.choice(("devices", "groups", "event", "availability"))
    mad = {"friendly_name": dice.choice((*NAMES, *VALUES)), "ieee_address": dice.choice((f"0x{dice.randrange(8)}", *VALUES))}
    if topic == "availability":
        return f"{dice.choice(devices)}/availability", dice.choice((*WORDS, b'{"state": "offline"}', b'{"state": [1]}', _deep(dice, {})))
    if topic == "event":
        kind = dice.choice(("device_leave", "device_joined", "device_announce", *VALUES))
        return f"{bridge}/bridge/event", _text({"type": kind, "data": dice.choice((mad, *VALUES))})
    listed = [{"friendly_name": name.removeprefix(f"{bridge}/"), "ieee_address": f"0x{i}"} for i, name in enumerate(devices)]
    return f"{bridge}/bridge/{topic}", _text(dice.choice(([*listed, mad], [mad, *VALUES], *VALUES, {"a": mad})))


def _forecast(dice: random.Random) -> bytes:
    """A weather forecast in one of its forms, some hours of which cannot be; now and then long, or of many columns."""
    if dice.random() < 0.01:
        wide = {"time": FORECAST_FROM, "temperature": 20.5, **{str(i): 0 for i in range(dice.choice((0, 500, 2_000)))}}
        return _text([wide, *[{} for _ in range(5_000)]]).replace(b" ", b"")
    n = 1_100 if dice.random() < 0.01 else dice.choice((1, 48, 240))
    times = [dice.choice(TIMES) if dice.random() < 0.1 else FORECAST_FROM + dice.choice((60, 3600)) * hour for hour in range(n)]
    values = [dice.choice(VALUES) if dice.random() < 0.1 else dice.uniform(-20, 40) for _ in range(n)]
    rows = [{"datetime": time, "temperature": value, "wind_speed": value} for time, value in zip(times, values, strict=True)]
    columns = {"time": times, "temperature": values, "wind_speed": values[: dice.randrange(n + 1)]}
    deep = {"a": {"utc_offset_seconds": dice.choice(VALUES), "hourly": columns}}
    form: Any = dice.choice((rows, columns, {"forecast": rows}, deep, [columns, rows]))
    if isinstance(form, dict) and dice.random() < 0.5:
        form = {"issued": dice.choice((*TIMES, *VALUES)), **form}
    return dice.choice((_text(form), _text(form), _text(form)[: dice.randrange(1, 200)]))


def _large(dice: random.Random) -> bytes:
    """A megabyte that is no reading."""
    text = dice.choice((b"x", b"[", b"\xff", b"9"))
    head, tail = dice.choice(((b"", b""), (b'"', b'"'), (b'{"temperature": "', b'"}'), (b'{"a": ', b"")))
    return head + text * MEGABYTE + tail


def _text(message: Any) -> bytes:
    return json.dumps(message).encode()
