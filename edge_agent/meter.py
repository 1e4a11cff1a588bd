"""Energy of each step from what meters send: a cumulative counter, the power now, or the energy of an interval. Pure logic, no clock.

Every meter takes readings with `add` and gives the steps one after the other with `close`; `state` and `restore` carry it over a restart.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from math import fsum, inf, nan
from typing import Any, Final, NamedTuple

import numpy as np

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
    jump     the counter rose by more than the highest valid power allows, and stayed there
    outlier  one reading that the next one contradicted, ignored
    range    the energy of a step is outside the valid range
    """
    value: float
    """Change of the counter that no step holds, Wh (`outlier`: that was ignored; `range`: the energy of the step)."""


class _Point(NamedTuple):
    time: float
    value: float
    broken: bool
    """The energy between the point before and this one is unknown."""


class CounterMeter:
    """Turns a cumulative counter into the energy of each step.

    The energy of a step is the counter at its end less the counter at its start. The counter at an edge is the last reading at or before it, or
    lies on the line to the reading after it when that is already known. So the energies of consecutive known steps add up to what the counter
    rose by, whenever its readings came. Where the counter cannot be believed, the steps are unknown and a repair says how much no step holds:
    energies of the known steps + values of the repairs (without outliers) = the counter now - the counter at first.

    A reading that contradicts the one before it is believed once a later one confirms it. Plugs repeat old values when Zigbee2MQTT starts
    (zigbee2mqtt#9755, #11115), and every message repeats the cached value, so the same value again confirms only a step's length later.
    """

    def __init__(self, sensor: str, *, step_s: int, hold_s: float, low_w: float, high_w: float) -> None:
        """Begin without a reading.

        Args:
            sensor: name to put into repairs.
            step_s: the step in s.
            hold_s: the longest silence through which the counter is taken to go on.
            low_w: least valid mean power in W; a counter may run backwards only when it is negative.
            high_w: greatest valid mean power in W.
        """
        self.sensor, self.step_s, self.hold_s = sensor, step_s, hold_s
        self.low_w, self.high_w = min(low_w, 0.0), high_w
        self.repairs: list[Repair] = []
        self._points: list[_Point] = []
        self._changed_at = -inf
        """When the counter was first seen at its present value: energy may have gathered since then."""
        self._doubted: tuple[float, float] | None = None
        """A reading (time, value) that waits for confirmation."""
        self._breaks: list[tuple[float, str]] = []
        """Points with unknown energy before them, and why, that no repair has reported yet."""
        self._assigned = nan
        """The counter up to which all energy is in a step or in a repair."""
        self._intact = False
        """`_assigned` is the counter at the start of the open step."""
        self._open_from = -inf

    def add(self, time: float, value: float) -> bool:
        """Take a reading (unix s, Wh); False when it is older than what is known and adds nothing."""
        if not self._points:
            self._begin(time, value)
        elif time <= self._points[-1].time:
            return self._insert(time, value)
        elif self._doubted is not None and time <= self._doubted[0]:
            return self._doubted == (time, value)
        elif self._is_plausible(self._points[-1], value, time - self._changed_at):
            if self._doubted is not None:
                self._ignore_doubted()
            self._append(time, value)
        else:
            self._doubt(time, value)
        return True

    def close(self, start: int, end: int) -> float:
        """Energy in Wh of the step [start, end) after the ones closed before; NaN unknown."""
        before: float | None = self._assigned if self._intact else self._level(start)
        if before is not None and not self._intact:
            self._write_off(before, start)
        after = self._level(end)
        energy = nan
        if after is None:
            pass
        elif before is None or any(start < time <= end for time, _ in self._breaks):
            self._write_off(after, end)
        else:
            # A late reading may bend the line below an edge that is already assigned; the next steps make up for it.
            after = max(after, before) if self.low_w >= 0 else after
            energy, self._assigned = after - before, after
        self._intact, self._open_from = after is not None, end
        del self._points[: max(bisect_right(self._points, float(end), key=_time_of) - 1, 0)]
        return energy

    def _begin(self, time: float, value: float) -> None:
        self._points = [_Point(time, value, broken=True)]
        self._breaks = [(time, "start")]
        self._assigned, self._changed_at = value, time

    def _insert(self, time: float, value: float) -> bool:
        """Take a reading that is older than the newest one, where it fits between its neighbours."""
        at = bisect_left(self._points, time, key=_time_of)
        after = self._points[at]
        if at == 0:
            return self._begin_earlier(time, value)
        if not self._is_plausible(self._points[at - 1], value):
            return value == after.value and time == after.time
        if time == after.time:  # two messages in the second that ISO_8601_local resolves: the counter ends at the higher one
            if at == len(self._points) - 1 and value > after.value:
                self._points[at] = after._replace(value=value)
            return True
        if after.broken or not self._is_plausible(_Point(time, value, broken=False), after.value):
            return False
        self._points.insert(at, _Point(time, value, broken=False))
        if value == self._points[-1].value:
            self._changed_at = min(self._changed_at, time)
        return True

    def _begin_earlier(self, time: float, value: float) -> bool:
        """The reading thought to be the first was the second."""
        first = self._points[0]
        if time == first.time and value == first.value:
            return True
        if self._breaks[:1] != [(first.time, "start")] or time == first.time or not self._is_plausible(_Point(time, value, broken=True), first.value):
            return False
        self._breaks[0] = (time, "start")
        self._points[:1] = [_Point(time, value, broken=True), first._replace(broken=False)]
        self._assigned = value
        return True

    def _is_plausible(self, before: _Point, value: float, elapsed_s: float = 0.0) -> bool:
        """Whether the counter can have gone from `before` to `value`; coarse counters make it wait a step's length."""
        hours = max(elapsed_s, self.step_s) / SECONDS_PER_HOUR
        return self.low_w * hours <= value - before.value <= self.high_w * hours

    def _doubt(self, time: float, value: float) -> None:
        """`value` contradicts the last point: believe it when it confirms the doubted reading before it, else doubt it."""
        if self._doubted is not None:
            since, doubted = self._doubted
            if value == doubted and time - since < self.step_s:
                return
            if self._is_plausible(_Point(since, doubted, broken=True), value, time - since):
                self._break(since, doubted, "reset" if doubted < self._points[-1].value else "jump")
                self._doubted = None
                self._append(time, value)
                return
            self._ignore_doubted()
        self._doubted = (time, value)

    def _ignore_doubted(self) -> None:
        assert self._doubted is not None
        time, value = self._doubted
        self._doubted = None
        self.repairs.append(Repair(time, self.sensor, "outlier", value - self._points[-1].value))

    def _append(self, time: float, value: float) -> None:
        newest = self._points[-1]
        if time - newest.time > self.hold_s:
            self._break(time, value, "gap")
            return
        if value != newest.value:
            self._changed_at = time
        # Only the first and the last reading of a step bear on its edges.
        if len(self._points) > 1 and self._step(self._points[-2].time) == self._step(time):
            self._points.pop()
        self._points.append(_Point(time, value, broken=False))

    def _break(self, time: float, value: float, why: str) -> None:
        self._points.append(_Point(time, value, broken=True))
        self._breaks.append((time, why))
        self._changed_at = time
        if self._intact and time <= self._open_from:
            self._intact = False

    def _step(self, time: float) -> float:
        """Number of the step in (start, end] that `time` lies in."""
        return -(-time // self.step_s)

    def _level(self, time: float) -> float | None:
        """The counter at `time`; None when it is not known."""
        after = bisect_right(self._points, time, key=_time_of)
        if after == 0:
            return None
        last = self._points[after - 1]
        if last.time == time:
            return last.value
        if after == len(self._points):
            return last.value if time - last.time <= self.hold_s else None
        following = self._points[after]
        if following.broken:
            return None
        return last.value + (following.value - last.value) * ((time - last.time) / (following.time - last.time))

    def _write_off(self, level: float, time: float) -> None:
        """Report what the counter did up to `time` without its energy going into a step."""
        told = [(at, why) for at, why in self._breaks if at <= time]
        self._breaks = self._breaks[len(told) :]
        value, self._assigned = level - self._assigned, level
        whys = list(dict.fromkeys(why for _, why in told))
        if told and (value != 0 or whys != ["start"]):
            self.repairs.append(Repair(told[0][0], self.sensor, "+".join(whys), value))

    def known_from(self, time: float) -> float:
        """The first moment from `time` on at which anything can be known; inf when nothing is in sight."""
        return _first_known([point.time for point in self._points], time, self.hold_s)

    def state(self) -> dict[str, Any]:
        """What `restore` needs, as JSON."""
        if not self._points:
            return {}
        return {
            "points": [list(point) for point in self._points],
            "changed_at": self._changed_at,
            "doubted": self._doubted,
            "breaks": self._breaks,
            "assigned": self._assigned,
            "intact": self._intact,
        }

    def restore(self, state: Mapping[str, Any], *, open_from: float) -> None:
        """Go on from `state` with the step that starts at `open_from`; readings added again change nothing."""
        self._open_from = open_from
        if "points" not in state:
            return
        self._points = [_Point(time, value, broken) for time, value, broken in state["points"]]
        self._changed_at, self._assigned, self._intact = state["changed_at"], state["assigned"], state["intact"]
        self._doubted = None if state["doubted"] is None else (state["doubted"][0], state["doubted"][1])
        self._breaks = [(time, why) for time, why in state["breaks"]]


def _time_of(point: _Point) -> float:
    return point.time


def _first_known(times: list[float], time: float, hold_s: float) -> float:
    after = bisect_right(times, time)
    if after and time - times[after - 1] <= hold_s:
        return time
    return times[after] if after < len(times) else inf


class HeldMeter:
    """Time-weighted mean over each step of readings that hold until the next one, times a scale: states, and power turned into energy."""

    def __init__(self, *, hold_s: float, scale: float = 1.0) -> None:
        """Begin without a reading; a reading holds at most `hold_s`; `scale` turns the mean into the value of a step (W into Wh)."""
        self.hold_s, self.scale = hold_s, scale
        self.repairs: list[Repair] = []
        self._times: list[float] = []
        self._values: list[float] = []
        self._open_from = -inf

    def add(self, time: float, value: float) -> bool:
        """Take a reading; False when it is older than the one that holds at the start of the open step, or one too many."""
        at = bisect_left(self._times, time)
        if at < len(self._times) and self._times[at] == time:
            self._values[at] = value
        elif (at == 0 and self._times and self._times[0] <= self._open_from) or len(self._times) >= MAX_READINGS:
            return False
        else:
            self._times.insert(at, time)
            self._values.insert(at, value)
        return True

    def close(self, start: int, end: int) -> float:
        """Value of the step [start, end); NaN when readings cover less than half of it."""
        value = self._mean(start, end) * self.scale
        self._open_from = end
        past = max(bisect_right(self._times, end) - 1, 0)
        del self._times[:past], self._values[:past]
        return value

    def _mean(self, start: int, end: int) -> float:
        after = bisect_right(self._times, start)
        if after and bisect_left(self._times, end) == after and end - self._times[after - 1] <= self.hold_s:
            return self._values[after - 1]  # one reading holds throughout: when recorded months fly by, nearly always
        times, values = np.array(self._times), np.array(self._values)
        return float(time_weighted_means(times, values, start=start, step_s=end - start, n_steps=1, hold_s=self.hold_s)[0])

    def known_from(self, time: float) -> float:
        """The first moment from `time` on at which anything can be known; inf when nothing is in sight."""
        return _first_known(self._times, time, self.hold_s)

    def state(self) -> dict[str, Any]:
        """What `restore` needs, as JSON."""
        return {"times": self._times, "values": self._values} if self._times else {}

    def restore(self, state: Mapping[str, Any], *, open_from: float) -> None:
        """Go on from `state` with the step that starts at `open_from`."""
        self._open_from = open_from
        self._times, self._values = list(state.get("times", ())), list(state.get("values", ()))


class IntervalMeter:
    """Adds up messages that each carry the energy since the message before.

    A message is sent when its interval is over, so those in (start + grace, end + grace] belong to the step [start, end).
    """

    def __init__(self, sensor: str, *, grace_s: float, low_w: float, high_w: float) -> None:
        """Begin without a reading; `low_w` and `high_w` bound the mean power of a step in W."""
        self.sensor, self.grace_s, self.low_w, self.high_w = sensor, grace_s, low_w, high_w
        self.repairs: list[Repair] = []
        self._readings: dict[float, float] = {}
        self._open_from = -inf

    def add(self, time: float, value: float) -> bool:
        """Take a reading (unix s, Wh); False when its step is closed, or it is one too many. A second one with the same time replaces the first."""
        if time <= self._open_from + self.grace_s or len(self._readings) >= MAX_READINGS:
            return False
        self._readings[time] = value
        return True

    def close(self, start: int, end: int) -> float:
        """Energy in Wh of the step [start, end); NaN when there was no message, or their sum is not valid."""
        self._open_from = end
        mine = sorted(time for time in self._readings if time <= end + self.grace_s)
        values = [value for time, value in ((time, self._readings.pop(time)) for time in mine) if time > start + self.grace_s]
        if not values:
            return nan
        energy = fsum(values)
        if self.low_w <= energy * SECONDS_PER_HOUR / (end - start) <= self.high_w:
            return energy
        self.repairs.append(Repair(start, self.sensor, "range", energy))
        return nan

    def known_from(self, time: float) -> float:
        """The first moment from `time` on at which anything can be known; inf when nothing is in sight."""
        return max(time, min(self._readings, default=inf) - self.grace_s)

    def state(self) -> dict[str, Any]:
        """What `restore` needs, as JSON."""
        return {"readings": [list(reading) for reading in self._readings.items()]} if self._readings else {}

    def restore(self, state: Mapping[str, Any], *, open_from: float) -> None:
        """Go on from `state` with the step that starts at `open_from`."""
        self._open_from = open_from
        self._readings = dict(state.get("readings", ()))
