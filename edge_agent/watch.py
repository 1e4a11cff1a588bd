"""Which sensors are silent, stand still or send nonsense, measured by each one's own habits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from edge_agent.cadence import Cadence
from edge_agent.contract.localtime import iso_utc
from edge_agent.contract.schema import HouseSpec, Sensor
from edge_agent.reading import Reading

SILENT_INTERVALS: Final = 4
"""Usual intervals without a word after which a sensor is called silent."""
SILENT_S: Final = 900.0
"""Nobody is called silent sooner."""
FLAT_INTERVALS: Final = 10
"""Usual times between two changes without one after which a sensor is called flat."""
FLAT_S: Final = {"energy": 3 * 3600.0, "state": 12 * 3600.0}
"""Nobody is called flat sooner, by kind: fog holds the humidity for half a night."""
FLAT_UNLEARNT_S: Final = 2 * 86_400.0
BAD_VALUES: Final = 3
"""Values out of range in an hour or two, and more than good ones, that make a problem."""
HOUR_S: Final = 3600.0
OUT_OF_RANGE: Final = "outside the valid range"
NEVER: Final = ", nor ever before: is the topic right, and does the broker's ACL let the agent read it?"


class _Habit:
    """What is known of one sensor."""

    def __init__(self, sensor: Sensor) -> None:
        self.sensor = sensor
        self.spoken, self.changes = Cadence(), Cadence()
        self.last: float | None = None
        """Time of the newest reading, unix s."""
        self.value: float | None = None
        self.changed_at: float | None = None
        self.good, self.bad = [0, 0], [0, 0]
        """Values this hour, and in the one before."""

    def see(self, reading: Reading) -> None:
        if self.last is not None and reading.time <= self.last:
            return
        self.last = reading.time
        self.spoken.add(reading.time)
        if reading.value != self.value:
            self.value, self.changed_at = reading.value, reading.time
            self.changes.add(reading.time)
        self.good[0] += 1

    def silent_after_s(self) -> float:
        usual_s = self.spoken.usual_s
        return float(self.sensor.hold_s) if usual_s is None else max(SILENT_INTERVALS * usual_s, SILENT_S)

    def flat_after_s(self) -> float | None:
        usual_s, kind = self.changes.usual_s, self.sensor.feature.kind
        if usual_s is None:
            return FLAT_UNLEARNT_S if kind == "state" else None  # a plug may be idle for weeks
        return max(FLAT_INTERVALS * usual_s, FLAT_S[kind])


class Watch:
    """Learns how often each sensor speaks and changes, and names those that no longer do."""

    def __init__(self, house: HouseSpec) -> None:
        """Watch the sensors of `house` that have a topic."""
        self._habits = {sensor.name: _Habit(sensor) for sensor in house.sensors if sensor.topic is not None}
        self._since: float | None = None
        """Unix s since when every sensor could be heard."""
        self._hour = 0.0
        self.muted: str | None = None
        """Sensors whose topics begin so cannot be heard, and are not spoken of."""

    def saw(self, readings: Iterable[Reading]) -> None:
        """Take note of readings; a snapshot of unknown age proves nothing."""
        for reading in readings:
            habit = self._habits.get(reading.sensor)
            if habit is not None and not reading.retained:
                habit.see(reading)

    def rejected(self, values: Counter[tuple[str, str]]) -> None:
        """Take note of values that could not be used, by (sensor, reason)."""
        for (name, reason), n in values.items():
            if reason == OUT_OF_RANGE and name in self._habits:
                self._habits[name].bad[0] += n

    def resumed(self, now: float) -> None:
        """From `now` (unix s) on sensors can be heard (again): what was silent before was no habit of theirs."""
        self._since = now
        for habit in self._habits.values():
            habit.spoken.last = habit.changes.last = None

    def interrupted(self) -> None:
        """Nobody can be heard."""
        self._since = None

    def problems(self, now: float) -> list[str]:
        """What is wrong with which sensor, in words, at unix s `now`; nothing before anything could be heard."""
        if self._since is None:
            return []
        self._turn_hour(now)
        heard = [h for h in self._habits.values() if self.muted is None or not str(h.sensor.topic).startswith(self.muted)]
        found = [self._problem(habit, self._since, now) for habit in heard]
        return [text for text in found if text is not None]

    def silent_since(self, prefix: str, now: float) -> float | None:
        """Unix s since when none of the sensors whose topics begin with `prefix` was heard, once that is longer than any of them is ever silent."""
        habits = [habit for habit in self._habits.values() if str(habit.sensor.topic).startswith(prefix)]
        if self._since is None or not habits:
            return None
        since = max(_silent_since(habit, self._since) for habit in habits)
        return since if now - since > min(habit.silent_after_s() for habit in habits) else None

    def has_heard(self, prefix: str) -> bool:
        """Whether any of the sensors whose topics begin with `prefix` ever spoke."""
        return any(habit.last is not None for habit in self._habits.values() if str(habit.sensor.topic).startswith(prefix))

    def _problem(self, habit: _Habit, heard_since: float, now: float) -> str | None:
        sensor, bad, good = habit.sensor, sum(habit.bad), sum(habit.good)
        who = f"{sensor.name} ({sensor.topic})"
        if bad >= BAD_VALUES and bad > good:
            unit = "W" if sensor.feature.kind == "energy" else sensor.feature.unit
            return f"{who} sends values outside its valid range of {sensor.low:g} to {sensor.high:g} {unit}: {bad} lately"
        since = _silent_since(habit, heard_since)
        if now - since > habit.silent_after_s():
            never = NEVER if habit.last is None else ""
            return f"{who} has sent nothing since {iso_utc(since if habit.last is None else habit.last)}{_usually(habit.spoken)}{never}"
        flat_after_s = habit.flat_after_s()
        if flat_after_s is not None and habit.changed_at is not None and now - max(habit.changed_at, heard_since) > flat_after_s:
            return f"{who} sends the same value since {iso_utc(habit.changed_at)}{_usually(habit.changes)}"
        return None

    def _turn_hour(self, now: float) -> None:
        if now - self._hour < HOUR_S:
            return
        for habit in self._habits.values():
            habit.good, habit.bad = [0, habit.good[0]], [0, habit.bad[0]]
        self._hour = now

    @property
    def last_seen(self) -> dict[str, float | None]:
        """Time of each sensor's newest reading, unix s."""
        return {name: habit.last for name, habit in self._habits.items()}

    @property
    def usual_s(self) -> dict[str, float | None]:
        """Each sensor's usual interval."""
        return {name: habit.spoken.usual_s for name, habit in self._habits.items()}

    def state(self) -> dict[str, Any]:
        """What `restore` needs, as JSON."""
        return {
            name: {
                "spoken": habit.spoken.state(),
                "changes": habit.changes.state(),
                "last": habit.last,
                "value": habit.value,
                "changed_at": habit.changed_at,
            }
            for name, habit in self._habits.items()
            if habit.last is not None
        }

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Go on from `state`; sensors that it does not know begin anew.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is damaged.
        """
        for name, stored in (state or {}).items():
            habit = self._habits.get(name)
            if habit is not None:
                habit.spoken.restore(stored["spoken"])
                habit.changes.restore(stored["changes"])
                habit.last, habit.value, habit.changed_at = stored["last"], stored["value"], stored["changed_at"]


def _silent_since(habit: _Habit, heard_since: float) -> float:
    return heard_since if habit.last is None else max(habit.last, heard_since)


def _usually(cadence: Cadence) -> str:
    """`; usually every 5 min at most`."""
    seconds = cadence.usual_s
    if seconds is None:
        return ""
    every = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
    return f"; usually at least every {every}"
