"""Energy of each step from a cumulative counter that may be coarse, reset, replay, stick, jump or fall silent. Pure logic, no clock."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from itertools import pairwise
from math import inf, isnan, nan
from typing import Any, Final, NamedTuple

from edge_agent.cadence import Cadence
from edge_agent.meter import SECONDS_PER_HOUR, Repair, Revision, first_known
from edge_agent.power import PowerTrace
from edge_agent.rounding import Rounding

SCALES: Final = (1e-3, 1e3)
"""Wh taken for kWh, and back."""
SCALED_FROM_WH: Final = 100.0
"""Below it a thousandfold is too easily met by chance."""
STUCK_WH: Final = 200.0
"""Energy by power without a tick after which a counter is said to stick, when it usually ticks sooner."""
TICKS: Final = 8
UNSEEN_W: Final = 4_000.0
"""What may have run between two power readings without showing in either."""


class _Point(NamedTuple):
    time: float
    value: float
    broken: bool
    """The energy between the point before and this one is unknown."""
    hidden: float
    """Energy that rounding hides then, Wh."""

    @property
    def level(self) -> float:
        return self.value + self.hidden


class _Open(NamedTuple):
    """A closed step whose end is not certain yet."""

    start: int
    end: int
    energy: float


class CounterMeter:
    """Turns a cumulative counter into the energy of each step.

    The energy of a step is the counter at its end less the counter at its start. The counter at an edge lies on the line between the readings before
    and after it, along the power where power readings know. At closing time the reading after the edge is mostly still to come: then the
    counter is guessed from the reading before and from what its rounding hides, and the step is revised, once, when that reading is there. A step
    during which the counter was silent for longer than usual is unknown; it is filled, the same way, when the silence ends within the hold time.
    What is not certain by then stays as it is.

    So the energies of consecutive known steps add up to what the counter rose by, whenever its readings came. Where the counter cannot be believed,
    the steps are unknown, or taken from the power readings, and a repair says how much no step holds: energies of the known steps + values of
    the repairs (without outliers) = the counter now - the counter at first, within the counter's resolution.

    A reading that contradicts the one before it, or the power readings, is believed once a later one confirms it. Plugs repeat old values when
    Zigbee2MQTT starts (zigbee2mqtt#9755, #11115), and every message repeats the cached value, so the same value again confirms only a step's
    length later.
    """

    def __init__(self, sensor: str, *, step_s: int, hold_s: float, low_w: float, high_w: float, resolution_wh: float | None = None) -> None:
        """Begin without a reading.

        Args:
            sensor: name to put into repairs.
            step_s: the step in s.
            hold_s: the longest silence through which the counter is taken to go on.
            low_w: least valid mean power in W; a counter may run backwards only when it is negative.
            high_w: greatest valid mean power in W.
            resolution_wh: smallest change that the counter shows (0: every digit is meant); None to learn it.
        """
        self.sensor, self.step_s, self.hold_s = sensor, step_s, hold_s
        self.low_w, self.high_w = min(low_w, 0.0), high_w
        self.repairs: list[Repair] = []
        self.revisions: list[Revision] = []
        self.power = PowerTrace(step_s=step_s, hold_s=hold_s)
        self.is_stuck = False
        self._cadence = Cadence(longest_s=hold_s)
        self._rounding = Rounding(0.0 if low_w < 0 else resolution_wh)  # a counter that runs both ways hides either way
        self._points: list[_Point] = []
        self._read_at = -inf
        self._changed_at = -inf
        """When the counter was first seen at its present value: energy may have gathered since then."""
        self._doubted: tuple[float, float] | None = None
        """A reading (time, value) that waits for confirmation."""
        self._scale = 1.0
        """Factor on what the counter sends, after a thousandfold jump."""
        self._ticks: list[tuple[float, float]] = []
        """The latest times and values at which the counter moved, to know what is usual."""
        self._breaks: list[tuple[float, str]] = []
        """Points with unknown energy before them, and why, that no repair has reported yet."""
        self._assigned = nan
        """The counter up to which all energy is in a certain step or in a repair."""
        self._intact = False
        """`_assigned` is the counter at the start of the first step that is not certain."""
        self._open: list[_Open] = []
        self._open_from = -inf

    # readings

    def add(self, time: float, value: float) -> bool:
        """Take a reading (unix s, Wh); False when it is older than what is known and adds nothing."""
        value *= self._scale
        self._cadence.add(time)
        if not self._points:
            self._begin(time, value)
        elif time <= self._points[-1].time:
            return self._insert(time, value)
        elif self._doubted is not None and time <= self._doubted[0]:
            return self._doubted == (time, value)
        elif self._is_plausible(self._points[-1], value, time - self._changed_at) and not self._is_contradicted(time, value):
            if self._doubted is not None and self._points[-1].value <= self._doubted[1] <= value:
                self._doubted = None  # the counter went through what was doubted: nothing was lost, and there is nothing to repair
            elif self._doubted is not None:
                self._ignore_doubted()
            self._append(time, value)
        else:
            self._doubt(time, value)
        self._read_at = max(self._read_at, time)
        return True

    def add_power(self, time: float, watts: float) -> bool:
        """Take a power reading of the same device (unix s, W)."""
        return self.power.add(time, watts)

    def _begin(self, time: float, value: float) -> None:
        self._points = [_Point(time, value, broken=True, hidden=0.0)]
        self._breaks = [(time, "start")]
        self._assigned, self._changed_at = value, time
        self._rounding.restart(time)
        self.power.mark(time)

    def _insert(self, time: float, value: float) -> bool:
        """Take a reading that is older than the newest one, where it fits between its neighbours."""
        at = bisect_left(self._points, time, key=_time_of)
        after = self._points[at]
        if at == 0:
            return self._begin_earlier(time, value)
        before = self._points[at - 1]
        if not self._is_plausible(before, value):
            return value == after.value and time == after.time
        if time == after.time:  # two messages in the second that ISO_8601_local resolves: the counter ends at the higher one
            if at == len(self._points) - 1 and value > after.value:
                self._points[at] = after._replace(value=value)
            return True
        if after.broken or not self._is_plausible(_Point(time, value, broken=False, hidden=0.0), after.value):
            return False
        hidden = min(before.hidden if value == before.value else after.hidden, after.level - value)
        self._points.insert(at, _Point(time, value, broken=False, hidden=hidden))
        if value == self._points[-1].value:
            self._changed_at = min(self._changed_at, time)
        return True

    def _begin_earlier(self, time: float, value: float) -> bool:
        """The reading thought to be the first was the second."""
        first = self._points[0]
        if time == first.time and value == first.value:
            return True
        is_plausible = self._is_plausible(_Point(time, value, broken=True, hidden=0.0), first.value)
        if self._breaks[:1] != [(first.time, "start")] or time == first.time or not is_plausible:
            return False
        self._breaks[0] = (time, "start")
        self._points[:1] = [_Point(time, value, broken=True, hidden=0.0), first._replace(broken=False)]
        self._assigned = value
        return True

    # belief

    def _is_plausible(self, before: _Point, value: float, elapsed_s: float = 0.0) -> bool:
        """Whether the counter can have gone from `before` to `value`; coarse counters make it wait a step's length."""
        hours = max(elapsed_s, self.step_s) / SECONDS_PER_HOUR
        return self.low_w * hours <= value - before.value <= self.high_w * hours

    def _is_contradicted(self, time: float, value: float) -> bool:
        """Whether power readings rule out such a rise since the last change."""
        rise = value - self._points[-1].value
        if rise <= STUCK_WH or self.is_stuck:
            return False
        used = self.power.since_mark(time)
        if used is None:
            return False
        unseen = UNSEEN_W * self.power.longest_gap_s(self._changed_at, time) / SECONDS_PER_HOUR
        return rise > 2 * used + unseen + STUCK_WH + 10 * self._rounding.wh

    def _doubt(self, time: float, value: float) -> None:
        """`value` contradicts the last point: believe it when it confirms the doubted reading before it, else doubt it."""
        if self._doubted is not None:
            since, doubted = self._doubted
            if value == doubted and time - since < self.step_s:
                return
            if self._is_scale_found(since, doubted, time, value):
                return
            if self._is_plausible(_Point(since, doubted, broken=True, hidden=0.0), value, time - since):
                self._doubted = None
                self._break(since, doubted, "reset" if doubted < self._points[-1].value else "jump")
                self._append(time, value)
                return
            self._ignore_doubted()
        self._doubted = (time, value)

    def _is_scale_found(self, since: float, doubted: float, time: float, value: float) -> bool:
        """Whether two readings go on where the counter was, in another unit; it is read so from here on."""
        for scale in SCALES:
            if self._is_scaled(since, doubted * scale) and self._is_scaled(time, value * scale):
                self._scale *= scale
                self._doubted = None
                self.repairs.append(Repair(since, self.sensor, "scale", 0.0))
                self._append(since, doubted * scale)
                self._append(time, value * scale)
                return True
        return False

    def _is_scaled(self, time: float, value: float) -> bool:
        """Whether the counter can have come to `value` by about its usual way: a thousandfold must not be met by chance."""
        last = self._points[-1].value
        (begin, low), (end, high) = self._ticks[:1] + self._ticks[-1:] if len(self._ticks) > 1 else ((0.0, 0.0), (1.0, 0.0))
        most = max(50.0, 0.01 * last, 5 * (time - self._changed_at) * (high - low) / (end - begin))
        return last >= SCALED_FROM_WH and 0 <= value - last <= most

    def _ignore_doubted(self) -> None:
        assert self._doubted is not None
        time, value = self._doubted
        self._doubted = None
        self.repairs.append(Repair(time, self.sensor, "outlier", value - self._points[-1].value))

    # points

    def _append(self, time: float, value: float) -> None:
        newest = self._points[-1]
        if time - newest.time > self.hold_s and self.power.energy(newest.time, time) is None:
            self._break(time, value, "gap")
            return
        used = self.power.since_mark(time)
        hidden = self._rounding.reading(time, value, before=(newest.time, newest.value), read_at=self._read_at, by_power_wh=used)
        if value != newest.value:
            self._tick(time, value)
        elif self.is_stuck and used is not None:
            hidden = used
        if self.low_w >= 0:  # a level never falls
            hidden = max(hidden, self._points[-1].level - value)
        # Only the first and the last reading of a step bear on its edges.
        if len(self._points) > 1 and self._step(self._points[-2].time) == self._step(time):
            self._points.pop()
        self._points.append(_Point(time, value, broken=False, hidden=hidden))

    def _tick(self, time: float, value: float) -> None:
        """The counter moved."""
        if self.is_stuck:
            self._unstick(time, value - self._points[-1].value)
        self._ticks = [*self._ticks[-TICKS + 1 :], (time, value)]
        self._changed_at = time
        self.power.mark(time)

    def _break(self, time: float, value: float, why: str) -> None:
        self._points.append(_Point(time, value, broken=True, hidden=0.0))
        self._breaks.append((time, why))
        self._changed_at = time
        self._ticks = []
        self.is_stuck = False
        self._rounding.restart(time)
        self.power.mark(time)
        if self._intact and time <= self._certain_until:
            self._intact = False

    def _step(self, time: float) -> float:
        """Number of the step in (start, end] that `time` lies in."""
        return -(-time // self.step_s)

    # a counter that sticks

    def _note_stuck(self, used_wh: float) -> None:
        """Say that the counter sticks when power has seen much more than it usually takes to tick."""
        usual = 3 * max((later - earlier for (_, earlier), (_, later) in pairwise(self._ticks)), default=0.0)
        if not self.is_stuck and used_wh > max(STUCK_WH, usual, 10 * self._rounding.wh):
            self.is_stuck = True
            self.repairs.append(Repair(self._changed_at, self.sensor, "stuck", 0.0))

    def _unstick(self, time: float, rise: float) -> None:
        """The counter moves again; steps hold energy that the power readings told. Had it gone on counting inside, or not?"""
        for step in self._open:
            self._settle(step.start, step.end, revised=step.energy)
        self._open.clear()
        self.is_stuck = False
        before = self._points[-1].value
        self._points[-1] = self._points[-1]._replace(hidden=0.0)
        if not self._intact:
            return
        used = self.power.since_mark(time) or 0.0
        told = self._assigned - before
        surplus = told - rise if rise >= 0.5 * used else told
        if surplus > 0:
            self._assigned -= surplus
            self.repairs.append(Repair(time, self.sensor, "stuck", -surplus))

    # steps

    def close(self, start: int, end: int) -> float:
        """Energy in Wh of the step [start, end) after the ones closed before; NaN unknown."""
        self._watch_power(end)
        while self._open and self._is_certain(self._open[0].end, now=end):
            step = self._open.pop(0)
            self._settle(step.start, step.end, revised=step.energy)
        self._open_from = end
        if not self._open and self._is_certain(end, now=end):
            energy = self._settle(start, end)
        else:
            energy = self._estimate(start, end)
            self._open.append(_Open(start, end, energy))
        self._forget()
        return energy

    @property
    def _certain_until(self) -> float:
        return self._open[0].start if self._open else self._open_from

    def _is_certain(self, edge: int, *, now: int) -> bool:
        """Whether nothing more can be learnt of the counter at `edge`: there is a later reading, or it is too late for one."""
        return (bool(self._points) and self._points[-1].time >= edge) or now - edge >= self.hold_s or (not self._points and not self._open)

    def _settle(self, start: int, end: int, *, revised: float | None = None) -> float:
        """Energy of a step, for certain; written off where no step holds it. `revised`: what was said of it before."""
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
        self._intact = after is not None
        if isnan(energy):
            energy = self._by_power(start, end)
            if not isnan(energy):
                self.repairs.append(Repair(start, self.sensor, "power", -energy))
        if revised is not None and not _is_same(revised, energy):
            self.revisions.append(Revision(start, self.sensor, energy, revised))
        return energy

    def _estimate(self, start: int, end: int) -> float:
        """Energy of a step as far as is known now."""
        before = self._assigned if self._intact and not self._open else self._level(start)
        after = self._level(end)
        if before is None or after is None or any(start < time <= end for time, _ in self._breaks):
            return self._by_power(start, end)
        return max(after - before, 0.0) if self.low_w >= 0 else after - before

    def _by_power(self, start: int, end: int) -> float:
        used = self.power.energy(start, end)
        return nan if used is None else used

    def _watch_power(self, now: float) -> None:
        used = self.power.since_mark(now)
        if used is not None:
            self._note_stuck(used)

    def _level(self, time: float) -> float | None:
        """The true counter at `time`; None when it is not known."""
        after = bisect_right(self._points, time, key=_time_of)
        if after == 0:
            return None
        last = self._points[after - 1]
        if last.time == time:
            return last.level
        if after == len(self._points):
            return self._level_after(last, time)
        following = self._points[after]
        if following.broken:
            usual_s = self._cadence.usual_s
            return last.level if usual_s is not None and time - last.time <= usual_s else None
        return last.level + (following.level - last.level) * self._share(last.time, time, following.time)

    def _level_after(self, last: _Point, time: float) -> float | None:
        """The counter after its newest reading."""
        used = self.power.since_mark(time)
        if self.is_stuck and used is not None:
            return last.value + used
        if time - last.time <= self._cadence.patience_s(at_least=self.step_s, at_most=self.hold_s):
            return max(last.value + self._rounding.ahead(time, used), last.level) if self.low_w >= 0 else last.value
        since = self.power.energy(last.time, time)
        return None if since is None else last.level + since

    def _share(self, start: float, time: float, end: float) -> float:
        """Share of the energy from `start` to `end` that was used by `time`: along the power, or evenly."""
        whole, part = self.power.energy(start, end), self.power.energy(start, time)
        return part / whole if whole and part is not None and part <= whole else (time - start) / (end - start)

    def _write_off(self, level: float, time: float) -> None:
        """Report what the counter did up to `time` without its energy going into a step."""
        told = [(at, why) for at, why in self._breaks if at <= time]
        self._breaks = self._breaks[len(told) :]
        value, self._assigned = level - self._assigned, level
        whys = list(dict.fromkeys(why for _, why in told)) or ["gap"]
        if value != 0 or whys not in (["start"], ["gap"]):
            self.repairs.append(Repair(told[0][0] if told else time, self.sensor, "+".join(whys), value))

    def _forget(self) -> None:
        """Forget what no step that is not certain needs."""
        del self._points[: max(bisect_right(self._points, float(self._certain_until), key=_time_of) - 1, 0)]
        self.power.forget(min(self._certain_until, self._points[0].time) if self._points else self._certain_until)

    def known_from(self, time: float) -> float:
        """The first moment from `time` on at which anything can be known; inf when nothing is in sight."""
        return first_known([point.time for point in self._points], time, self.hold_s)

    def begin_at(self, time: int) -> None:
        """Take all before `time` for settled: the steps before it are somebody else's."""
        self._open = []
        level = self._level(time)
        self._intact = level is not None
        self._breaks = [(at, why) for at, why in self._breaks if at > time]
        if level is not None:
            self._assigned = level
        self._open_from = time

    # over a restart

    def state(self) -> dict[str, Any]:
        """What `restore` needs, as JSON."""
        power = self.power.state()
        if not self._points:
            return {"power": power} if power else {}
        return {
            "points": [list(point) for point in self._points],
            "read_at": self._read_at,
            "changed_at": self._changed_at,
            "doubted": self._doubted,
            "scale": self._scale,
            "ticks": self._ticks,
            "breaks": self._breaks,
            "assigned": self._assigned,
            "intact": self._intact,
            "open": [[step.start, step.end, None if isnan(step.energy) else step.energy] for step in self._open],
            "is_stuck": self.is_stuck,
            "cadence": self._cadence.state(),
            "rounding": self._rounding.state(),
            "power": power,
        }

    def restore(self, state: Mapping[str, Any], *, open_from: float) -> None:
        """Go on from `state` with the step that starts at `open_from`; readings added again change nothing."""
        self._open_from = open_from
        self.power.restore(state.get("power", {}))
        if "points" not in state:
            return
        self._points = [_Point(*point) for point in state["points"]]
        self._read_at, self._changed_at, self._scale, self.is_stuck = state["read_at"], state["changed_at"], state["scale"], state["is_stuck"]
        self._assigned, self._intact = state["assigned"], state["intact"]
        self._doubted = None if state["doubted"] is None else (state["doubted"][0], state["doubted"][1])
        self._ticks = [(time, value) for time, value in state["ticks"]]
        self._breaks = [(time, why) for time, why in state["breaks"]]
        self._open = [_Open(start, end, nan if energy is None else energy) for start, end, energy in state["open"]]
        self._cadence.restore(state["cadence"])
        self._rounding.restore(state["rounding"])


def _time_of(point: _Point) -> float:
    return point.time


def _is_same(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-9 * max(abs(one), abs(other), 1.0) or (isnan(one) and isnan(other))
