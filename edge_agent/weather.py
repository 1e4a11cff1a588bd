"""Weather forecasts that come over MQTT. Never an exception, whatever arrives.

Two forms of JSON are understood, also when they lie deeper in an object: rows as Home Assistant's `weather.get_forecasts` answers,
`[{"datetime": "…", "temperature": 5.1, …}, …]`, and columns as Open-Meteo's, `{"time": ["…", …], "temperature_2m": [5.1, …]}`.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from edge_agent.contract.errors import DataError
from edge_agent.contract.schema import ROLES, HouseSpec, WeatherTopic
from edge_agent.contract.units import to_canonical
from edge_agent.contract.weather import EDGE_S, WeatherForecast, WeatherForecasts
from edge_agent.history import History
from edge_agent.payload import LATEST, number_in, unix_s_in

MAX_PAYLOAD: Final = 256 * 1024
MAX_DEPTH: Final = 4
MAX_AHEAD_S: Final = 3 * 86_400
"""What a forecast says of later days is left out: half a day after its issue it is not asked any more, and then for a day ahead."""
SAME_SHARE: Final = 0.9
"""A forecast that says of this share of its times what the last one said is taken for the same."""
MAX_VALUES: Final = 1000
"""Of one role in one message: three days in steps of five minutes are 864. More would fill the memory."""
TIME_KEYS: Final = ("datetime", "time")
ISSUED_KEYS: Final = ("issued", "issued_at")
WHOLE_S: Final = 86_400
"""How long a forecast stays in memory as it came: well past the age at which none is used of what it says of the future."""
KEEP_S: Final = 8 * 86_400
"""How long its first hours stay, in place of sensors: a day more than models read of the past."""
NEAR_APART_S: Final = 1800
"""Of forecasts that came closer together only one's first hours stay: four roles take half a megabyte."""


@dataclass(frozen=True)
class _Found:
    """One column of a message, beside its times."""

    times: Sequence[Any]
    values: Sequence[Any]
    offset_s: float
    """How far the clock of times without an offset is ahead of UTC."""


class WeatherDecoder:
    """Turns messages on the house's weather topics into forecasts in canonical units."""

    def __init__(self, house: HouseSpec) -> None:
        """Know the weather topics of `house`."""
        self.rejected: Counter[tuple[str, str]] = Counter()
        """Values that could not be used, by (topic, reason). The reader clears it after each report."""
        self._topics: dict[str, list[WeatherTopic]] = {}
        for source in house.weather:
            self._topics.setdefault(source.topic, []).append(source)

    @property
    def topics(self) -> tuple[str, ...]:
        """What to subscribe to."""
        return tuple(self._topics)

    def decode(self, topic: str, payload: bytes, *, received_at: float, retained: bool) -> list[WeatherForecast]:
        """The forecasts in one message, one a role.

        A forecast is issued when its message says so (`issued`, ISO 8601 or an epoch), or else when it is received. One that the broker had kept is
        of unknown age: it counts as issued an hour after its first valid time at the latest.
        """
        message = self._message(topic, payload) if topic in self._topics else None
        if message is None:
            return []
        said = _said_issued(message)
        forecasts: list[WeatherForecast] = []
        for source in self._topics[topic]:
            known = dict(self._values(source, message))
            if known:
                issued_at = min(received_at, said if said is not None else min(known) + EDGE_S if retained else received_at)
                forecasts += self._forecast(source, issued_at, known)
        return forecasts

    def _forecast(self, source: WeatherTopic, issued_at: float, known: Mapping[int, float]) -> Iterator[WeatherForecast]:
        """What may be asked of it; nothing, and counted, when it is none of the next days or too much."""
        times = np.array(sorted(time for time in known if time <= issued_at + MAX_AHEAD_S), np.int64)
        if not len(times):
            self.rejected[source.topic, "only times more than three days ahead"] += 1
        elif len(times) > MAX_VALUES:
            self.rejected[source.topic, f"more than {MAX_VALUES} values of the next three days"] += 1
        else:
            yield WeatherForecast(source.role, issued_at, times, np.array([known[time] for time in times.tolist()]))

    def _message(self, topic: str, payload: bytes) -> Any:
        """The JSON list or object; None, and counted, when it is none."""
        if len(payload) > MAX_PAYLOAD:
            self.rejected[topic, f"payload over {MAX_PAYLOAD // 1024} KiB"] += 1
            return None
        try:
            message = json.loads(payload)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, (dict, list)):
            self.rejected[topic, "not a JSON list or object"] += 1
            return None
        return message

    def _values(self, source: WeatherTopic, message: Any) -> Iterator[tuple[int, float]]:
        """Valid times and values of one role; what cannot be used is counted."""
        found = next(_columns(message, source.field, MAX_DEPTH, 0.0), None)
        if found is None:
            self.rejected[source.topic, f"no forecast with times and {source.field!r}"] += 1
            return
        role = ROLES[source.role]
        for raw_time, raw in zip(found.times, found.values, strict=False):
            time, number = unix_s_in(raw_time, naive_offset_s=found.offset_s), number_in(raw)
            if raw is None:
                continue
            if time is None or not 0 <= time <= LATEST:
                self.rejected[source.topic, "no time"] += 1
            elif number is None:
                self.rejected[source.topic, f"{source.field} is no number"] += 1
            elif not role.low <= (value := to_canonical(number, source.unit)) <= role.high:
                self.rejected[source.topic, f"{source.field} outside the valid range"] += 1
            else:
                yield int(time), value


def _columns(message: Any, name: str, depth: int, offset_s: float) -> Iterator[_Found]:
    """Every column `name` of a message that has times beside it, the outermost first. No other is touched: hostile messages have many."""
    if depth == 0:
        return
    if isinstance(message, list):
        rows = [row for row in message if isinstance(row, dict)]
        for key in TIME_KEYS:
            if any(key in row and name in row for row in rows):
                yield _Found([row.get(key) for row in rows], [row.get(name) for row in rows], offset_s)
        inner: Iterable[Any] = rows
    elif isinstance(message, dict):
        offset_s = number_in(message.get("utc_offset_seconds")) or offset_s  # Open-Meteo says so when a time zone was asked for
        for key in TIME_KEYS:
            if isinstance(message.get(key), list) and isinstance(message.get(name), list):
                yield _Found(message[key], message[name], offset_s)
        inner = message.values()
    else:
        return
    for item in inner:
        yield from _columns(item, name, depth - 1, offset_s)


def _said_issued(message: Any) -> float | None:
    found = (unix_s_in(message[key], naive_offset_s=0.0) for key in ISSUED_KEYS if isinstance(message, dict) and key in message)
    return next(found, None)


@dataclass
class _Kept:
    """Forecasts of one role, in the order of their issue."""

    near: deque[WeatherForecast] = field(default_factory=deque)
    """First hours of those issued before the `whole` ones."""
    whole: deque[WeatherForecast] = field(default_factory=deque)
    newest_at: float = 0.0
    """When the newest was issued by its own word; it may have the time of the one whose place it took."""

    def keep(self, forecast: WeatherForecast) -> None:
        """Add the newest, cut down those that have grown old and drop the oldest."""
        self.whole.append(forecast)
        while self.whole[0].issued_at <= forecast.issued_at - WHOLE_S:
            near = self.whole.popleft().near_issue()
            if near is not None and (not self.near or near.issued_at >= self.near[-1].issued_at + NEAR_APART_S):
                self.near.append(near)
        while self.near and self.near[0].issued_at <= forecast.issued_at - KEEP_S:
            self.near.popleft()

    def forget_after(self, now: float) -> None:
        """Drop what was issued after `now`."""
        for forecasts in (self.whole, self.near):
            while forecasts and forecasts[-1].issued_at > now:
                forecasts.pop()
        if self.newest_at > now:
            self.newest_at = 0.0


class WeatherMemory:
    """The forecasts of the last day, and the first hours of those of a week before, to ask at an origin."""

    def __init__(self, forecasts: Iterable[WeatherForecast] = (), *, step_s: int) -> None:
        """Begin with `forecasts`, in the order of their issue, of a house with steps of `step_s`."""
        self._kept: defaultdict[str, _Kept] = defaultdict(_Kept)
        self.step_s = step_s
        for forecast in forecasts:
            self._kept[forecast.role].keep(forecast)

    def take(self, forecast: WeatherForecast, *, retained: bool, now: float) -> WeatherForecast | None:
        """Keep `forecast` where it is news, and return it as it is to be stored.

        What the broker had kept is none when it says the same as the last one. Of several that come within one of the house's steps
        the last one counts: it takes the place of the one before, and its time of issue, which lies between the same two origins. So
        nothing changes for an origin that has been, and of those that waited in the broker while the agent was away the newest is used.
        What was issued after `now` (unix s) came while the clock was ahead, and is forgotten.
        """
        kept = self._kept[forecast.role]
        kept.forget_after(now)
        if kept.whole:
            last = kept.whole[-1]
            if forecast.issued_at < max(last.issued_at, kept.newest_at) or (retained and _say_the_same(last, forecast)):
                return None
            kept.newest_at = forecast.issued_at
            if self._next_origin(forecast) == self._next_origin(last):
                forecast = replace(forecast, issued_at=last.issued_at)
                kept.whole.pop()
        kept.keep(forecast)
        return forecast

    def _next_origin(self, forecast: WeatherForecast) -> int:
        return math.ceil(forecast.issued_at / self.step_s)

    def forecasts(self) -> WeatherForecasts:
        """All that is kept."""
        return WeatherForecasts(forecast for kept in self._kept.values() for forecast in (*kept.near, *kept.whole))


def _say_the_same(one: WeatherForecast, other: WeatherForecast) -> bool:
    """Whether `other` brings next to nothing beside `one`: the same message is cut off elsewhere when its age is guessed otherwise."""
    _, here, there = np.intersect1d(one.times, other.times, return_indices=True)
    return len(here) >= SAME_SHARE * len(other.times) and np.allclose(one.values[here], other.values[there])


def add_weather(history: History, forecasts: Iterable[WeatherForecast]) -> None:
    """Store `forecasts`; one of the same role and time of issue is replaced. A power cut may take the last ones."""
    rows = [(f.role, f.issued_at, f.times.astype("<i8").tobytes(), f.values.astype("<f4").tobytes()) for f in forecasts]
    with history.transaction(synchronous="NORMAL") as db:
        db.executemany("INSERT OR REPLACE INTO weather VALUES (?, ?, ?, ?)", rows)


def correct_weather(history: History, *, later_than: float, by_s: float | None) -> None:
    """Forecasts issued after `later_than` (unix s) came `by_s` seconds earlier in truth, because the clock was ahead; None: they are forgotten."""
    with history.transaction() as db:
        if by_s is None:
            db.execute("DELETE FROM weather WHERE issued_at > ?", (later_than,))
        else:
            db.execute("UPDATE OR REPLACE weather SET issued_at = issued_at - ? WHERE issued_at > ?", (by_s, later_than))


def stored_weather(history: History, *, last_s: float | None = None) -> Iterator[WeatherForecast]:
    """Forecasts in the history in the order of their issue: all, or those of the last `last_s` before the newest."""
    # a damaged row may hold text for its time, which is more than any number
    keys = "SELECT role, issued_at FROM weather WHERE issued_at < ? AND issued_at >= ? ORDER BY issued_at, role"
    ((newest,),) = history.rows("SELECT max(issued_at) FROM weather WHERE issued_at < ?", LATEST)
    since = 0.0 if last_s is None else (newest or 0.0) - last_s
    for role, issued_at in history.rows(keys, LATEST, since):  # all forecasts at once would not fit in the agent's memory
        for times, values in history.rows("SELECT times, forecast FROM weather WHERE role = ? AND issued_at = ?", role, issued_at):
            with contextlib.suppress(ValueError, TypeError, DataError):  # a row saved from a damaged file may hold anything
                yield WeatherForecast(role, issued_at, np.frombuffer(times, "<i8"), np.frombuffer(values, "<f4").astype(np.float64))
