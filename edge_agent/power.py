"""Power beside a counter, integrated: what the counter does not say yet, or no longer."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from itertools import pairwise
from math import inf
from typing import Any, Final

from edge_agent.cadence import Cadence

COVERED: Final = 0.95
"""Share of a time that power readings must cover, to say how much energy it took."""
MAX_READINGS: Final = 20_000


class PowerTrace:
    """Energy from power readings that hold until the next one, at most `hold_s` or as long as the sensor is usually silent."""

    def __init__(self, *, step_s: int, hold_s: float) -> None:
        self.step_s, self.hold_s = step_s, hold_s
        self._cadence = Cadence(longest_s=hold_s)
        self._times: list[float] = []
        self._watts: list[float] = []
        self._marked = inf
        """Unix s from which the energy is counted for `since_mark`."""
        self._folded_wh = self._folded_s = 0.0
        """Since the mark, of readings that are forgotten."""

    def add(self, time: float, watts: float) -> bool:
        """Take a reading; False when it is not newer than the one before, or one too many."""
        if (self._times and time <= self._times[-1]) or len(self._times) >= MAX_READINGS:
            return False
        self._cadence.add(time)
        self._times.append(time)
        self._watts.append(watts)
        return True

    def energy(self, start: float, end: float) -> float | None:
        """Wh between two times; None when readings do not cover them."""
        wh, covered_s = self._integral(start, end)
        return wh if covered_s >= COVERED * (end - start) else None

    def _integral(self, start: float, end: float) -> tuple[float, float]:
        """Wh, and seconds covered."""
        if not self._times or end <= start:
            return 0.0, 0.0
        first, last = max(bisect_right(self._times, start) - 1, 0), bisect_left(self._times, end)
        ends = [*self._times[first + 1 : last], inf]
        patience_s, wh, covered_s = self._cadence.patience_s(at_least=self.step_s, at_most=self.hold_s), 0.0, 0.0
        for begin, until, watts in zip(self._times[first:last], ends, self._watts[first:last], strict=False):
            seconds = min(until, begin + patience_s, end) - max(begin, start)
            if seconds > 0:
                wh += watts * seconds / 3600
                covered_s += seconds
        return wh, covered_s

    def mark(self, time: float) -> None:
        """Count anew from `time` on."""
        self._marked, self._folded_wh, self._folded_s = time, 0.0, 0.0

    def since_mark(self, end: float) -> float | None:
        """Wh from the mark to `end`; None when readings do not cover that."""
        if end <= self._marked:
            return None
        known_from = max(self._marked, self._times[0]) if self._times and self._folded_s else self._marked
        wh, covered_s = self._integral(known_from, end)
        wh, covered_s = wh + self._folded_wh, covered_s + self._folded_s
        return wh if covered_s >= COVERED * (end - self._marked) else None

    def forget(self, before: float) -> None:
        """Forget readings that no time from `before` on needs; what they held since the mark is kept as a sum."""
        gone = max(bisect_right(self._times, before) - 1, 0)
        if gone and self._marked < self._times[gone]:
            wh, covered_s = self._integral(max(self._marked, self._times[0]), self._times[gone])
            self._folded_wh, self._folded_s = self._folded_wh + wh, self._folded_s + covered_s
        del self._times[:gone], self._watts[:gone]

    def longest_gap_s(self, start: float, end: float) -> float:
        """The longest time between two readings from `start` to `end`."""
        inside = self._times[bisect_right(self._times, start) : bisect_left(self._times, end)]
        return max(later - earlier for earlier, later in pairwise([start, *inside, end]))

    def state(self) -> dict[str, Any]:
        """What `restore` needs, as JSON."""
        if not self._times:
            return {}
        marked = None if self._marked == inf else self._marked
        folded = [self._folded_wh, self._folded_s]
        return {"times": self._times, "watts": self._watts, "marked": marked, "folded": folded, "cadence": self._cadence.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        if not state:
            return
        self._times, self._watts = list(state["times"]), list(state["watts"])
        self._marked = inf if state["marked"] is None else state["marked"]
        self._folded_wh, self._folded_s = state["folded"]
        self._cadence.restore(state["cadence"])
