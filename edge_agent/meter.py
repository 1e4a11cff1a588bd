"""Values of each step from what sensors send: states and power that hold, or the energy of an interval. Pure logic, no clock.

Every meter takes readings with `add` and gives the steps one after the other with `close`; `state` and `restore` carry it over a restart. What a
meter learns of a closed step afterwards it tells as a revision, once a step.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from math import fsum, inf, isnan, nan
from typing import Any, Final

import numpy as np

from edge_agent.cadence import Cadence
from edge_agent.contract.series import time_weighted_means

MAX_READINGS: Final = 20_000
"""Readings of one sensor kept for the open step: a device that floods the broker must not fill the memory."""
SECONDS_PER_HOUR: Final = 3600


@dataclass(frozen=True, slots=True)
class Repair:
    """What was done about a meter that cannot have meant what it sent."""

    time: float
    """Of the reading that gave the reason, unix s."""
    sensor: str
    what: str
    """Joined by `+` where several things happened at once:

    start    the first reading ever: a starting point
    gap      silence longer than the hold time
    reset    the counter went back, and stayed there
    jump     the counter rose by more than the highest valid power, or the power readings, allow, and stayed there
    scale    the counter counts in a thousandfold or a thousandth from here on, and is read so
    stuck    the counter stands still while power readings go on, which are counted instead; or, with a value, it moves again
    power    the step's energy was taken from power readings, because the counter did not tell it
    outlier  one reading that the next one contradicted, ignored
    range    the energy of a step is outside the valid range
    """
    value: float
    """Change of the counter that no step holds, Wh; less than nothing where a step holds what the counter does not.

    (`outlier`: the change that was ignored; `range`: the energy of the step.)
    """


@dataclass(frozen=True, slots=True)
class Revision:
    """What became known of a step after it was closed."""

    time: int
    """Start of the step, unix s."""
    sensor: str
    value: float
    """NaN: it turned out to be unknown."""
    was: float
    """As it was closed, NaN unknown."""


def first_known(times: list[float], time: float, hold_s: float) -> float:
    """The first moment from `time` on at which one of `times`, ascending, holds; inf when none does."""
    after = bisect_right(times, time)
    if after and time - times[after - 1] <= hold_s:
        return time
    return times[after] if after < len(times) else inf


class HeldMeter:
    """Time-weighted mean over each step of readings that hold until the next one, times a scale: states, and power turned into energy.

    A step that was unknown is filled when readings of its time come late, within the hold time.
    """

    def __init__(self, sensor: str, *, step_s: int, hold_s: float, scale: float = 1.0, is_power: bool = False) -> None:
        """Begin without a reading.

        Args:
            sensor: name to put into revisions.
            step_s: the step in s.
            hold_s: how long a reading holds at most.
            scale: turns the mean into the value of a step (W into Wh).
            is_power: a reading holds no longer than some of the sensor's usual intervals: a kettle must not boil on when its plug dies.
        """
        self.sensor, self.step_s, self.hold_s, self.scale = sensor, step_s, hold_s, scale
        self.repairs: list[Repair] = []
        self.revisions: list[Revision] = []
        self._cadence = Cadence(longest_s=hold_s) if is_power else None
        self._times: list[float] = []
        self._values: list[float] = []
        self._unknown: list[int] = []
        """Starts of steps closed as unknown that late readings may still fill."""
        self._open_from = -inf

    def add(self, time: float, value: float) -> bool:
        """Take a reading; False when it is older than the one that holds at the start of the first step not known yet, or one too many."""
        at = bisect_left(self._times, time)
        if at < len(self._times) and self._times[at] == time:
            self._values[at] = value
        elif (at < len(self._times) and self._times[at] <= self._wanted_from) or len(self._times) >= MAX_READINGS:
            return False
        else:
            self._times.insert(at, time)
            self._values.insert(at, value)
        if self._cadence is not None:
            self._cadence.add(time)
        return True

    @property
    def _wanted_from(self) -> float:
        return self._unknown[0] if self._unknown else self._open_from

    def close(self, start: int, end: int) -> float:
        """Value of the step [start, end); NaN when readings cover less than half of it."""
        self._fill(end)
        value = self._mean(start, end) * self.scale
        if isnan(value):
            self._unknown.append(start)
        self._open_from = end
        past = max(bisect_right(self._times, self._wanted_from) - 1, 0)
        del self._times[:past], self._values[:past]
        return value

    def _fill(self, now: int) -> None:
        """Look again at the steps that were unknown."""
        waiting, self._unknown = self._unknown, []
        for start in waiting:
            value = self._mean(start, start + self.step_s) * self.scale
            if not isnan(value):
                self.revisions.append(Revision(start, self.sensor, value, nan))
            elif now - start < self.hold_s:
                self._unknown.append(start)

    @property
    def _holds_s(self) -> float:
        return self.hold_s if self._cadence is None else self._cadence.patience_s(at_least=self.step_s, at_most=self.hold_s)

    def _mean(self, start: int, end: int) -> float:
        if not self._times:
            return nan
        after, holds_s = bisect_right(self._times, start), self._holds_s
        if after and bisect_left(self._times, end) == after and end - self._times[after - 1] <= holds_s:
            return self._values[after - 1]  # one reading holds throughout: when recorded months fly by, nearly always
        times, values = np.array(self._times), np.array(self._values)
        return float(time_weighted_means(times, values, start=start, step_s=end - start, n_steps=1, hold_s=holds_s)[0])

    def known_from(self, time: float) -> float:
        """The first moment from `time` on at which anything can be known; inf when nothing is in sight."""
        return first_known(self._times, time, self.hold_s)

    def begin_at(self, time: int) -> None:
        """Take all before `time` for settled: the steps before it are somebody else's."""
        self._unknown, self._open_from = [], time

    def state(self) -> dict[str, Any]:
        """What `restore` needs, as JSON."""
        if not self._times:
            return {}
        cadence = None if self._cadence is None else self._cadence.state()
        return {"times": self._times, "values": self._values, "unknown": self._unknown, "cadence": cadence}

    def restore(self, state: Mapping[str, Any], *, open_from: float) -> None:
        """Go on from `state` with the step that starts at `open_from`."""
        self._open_from = open_from
        self._times, self._values, self._unknown = list(state.get("times", ())), list(state.get("values", ())), list(state.get("unknown", ()))
        if self._cadence is not None and state.get("cadence"):
            self._cadence.restore(state["cadence"])


class IntervalMeter:
    """Adds up messages that each carry the energy since the message before.

    A message is sent when its interval is over, so those in (start + grace, end + grace] belong to the step [start, end). A step for which nothing
    came is filled when its messages come late, within the hold time.
    """

    def __init__(self, sensor: str, *, step_s: int, grace_s: float, hold_s: float, low_w: float, high_w: float) -> None:
        """Begin without a reading; `low_w` and `high_w` bound the mean power of a step in W."""
        self.sensor, self.step_s, self.grace_s, self.hold_s, self.low_w, self.high_w = sensor, step_s, grace_s, hold_s, low_w, high_w
        self.repairs: list[Repair] = []
        self.revisions: list[Revision] = []
        self._readings: dict[float, float] = {}
        self._unknown: list[int] = []
        """Starts of steps closed as unknown that late messages may still fill."""
        self._open_from = -inf

    def add(self, time: float, value: float) -> bool:
        """Take a reading (unix s, Wh); False when its step is known, or it is one too many. A second one with the same time replaces the first."""
        is_wanted = time > self._open_from + self.grace_s or any(start < time - self.grace_s <= start + self.step_s for start in self._unknown)
        if not is_wanted or len(self._readings) >= MAX_READINGS:
            return False
        self._readings[time] = value
        return True

    def close(self, start: int, end: int) -> float:
        """Energy in Wh of the step [start, end); NaN when there was no message, or their sum is not valid."""
        waiting, self._unknown = self._unknown, []
        for earlier in waiting:
            self._fill(earlier, now=end)
        self._open_from = end
        energy = self._sum(start, end)
        for time in [time for time in self._readings if time <= start + self.grace_s]:
            del self._readings[time]
        if energy is None:
            self._unknown.append(start)
        return nan if energy is None else energy

    def _fill(self, start: int, *, now: int) -> None:
        """Look again at a step for which nothing had come."""
        energy = self._sum(start, start + self.step_s)
        if energy is not None and not isnan(energy):
            self.revisions.append(Revision(start, self.sensor, energy, nan))
        elif energy is None and now - start < self.hold_s:
            self._unknown.append(start)

    def _sum(self, start: int, end: int) -> float | None:
        """Energy of the messages that belong to a step, NaN where it is not valid; None when there are none."""
        mine = sorted(time for time in self._readings if start + self.grace_s < time <= end + self.grace_s)
        values = [self._readings.pop(time) for time in mine]
        if not values:
            return None
        energy = fsum(values)
        if self.low_w <= energy * SECONDS_PER_HOUR / (end - start) <= self.high_w:
            return energy
        self.repairs.append(Repair(start, self.sensor, "range", energy))
        return nan

    def known_from(self, time: float) -> float:
        """The first moment from `time` on at which anything can be known; inf when nothing is in sight."""
        return max(time, min(self._readings, default=inf) - self.grace_s)

    def begin_at(self, time: int) -> None:
        """Take all before `time` for settled: the steps before it are somebody else's."""
        self._unknown, self._open_from = [], time

    def state(self) -> dict[str, Any]:
        """What `restore` needs, as JSON."""
        return (
            {"readings": [list(reading) for reading in self._readings.items()], "unknown": self._unknown} if self._readings or self._unknown else {}
        )

    def restore(self, state: Mapping[str, Any], *, open_from: float) -> None:
        """Go on from `state` with the step that starts at `open_from`."""
        self._open_from = open_from
        self._readings, self._unknown = dict(state.get("readings", ())), list(state.get("unknown", ()))
