"""How often a sensor speaks: learnt, and forgotten again within days."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, inf, log2
from typing import Any, Final

HALF_LIFE_S: Final = 2 * 86_400.0
FORGET_EVERY_S: Final = 600.0
BUCKETS: Final = 40
"""Half octaves: the last one begins at 2^19.5 s, nine days."""
SHARE: Final = 0.95
"""Of all time, the share that lies in intervals no longer than the usual one."""
PATIENCE: Final = 2.5
"""Usual intervals without a message that are nothing unusual."""
LEARNT_S: Final = 3600.0
LEARNT_INTERVALS: Final = 8


class Cadence:
    """The usual interval of a sensor: the one that bounds 95 % of *time*, not of messages.

    By time, because a plug that sends every five seconds while it is on and once an hour while it is off must not be called dead after a minute,
    and one outage of twenty minutes in a day does not make a meter of ten seconds slow.
    """

    def __init__(self, *, longest_s: float = inf) -> None:
        """Begin to learn; a longer silence than `longest_s` is an outage, and no habit."""
        self.longest_s = longest_s
        self.last: float | None = None
        """Time of the newest message, unix s."""
        self._seconds = [0.0] * BUCKETS
        self._intervals = 0
        self._unforgotten_s = 0.0

    def add(self, time: float) -> None:
        """A message of this time came; one that is not newer tells nothing."""
        if self.last is None:
            self.last = time
        elif time > self.last:
            if time - self.last <= self.longest_s:
                self._note(time - self.last)
            self.last = time

    def _note(self, interval_s: float) -> None:
        self._unforgotten_s += interval_s
        if self._unforgotten_s >= FORGET_EVERY_S:  # not forty products for every message of a fast meter
            left = 0.5 ** (self._unforgotten_s / HALF_LIFE_S)
            self._seconds, self._unforgotten_s = [seconds * left for seconds in self._seconds], 0.0
        bucket = min(max(ceil(2 * log2(max(interval_s, 1.0))), 0), BUCKETS - 1)
        self._seconds[bucket] += interval_s
        self._intervals += 1

    @property
    def usual_s(self) -> float | None:
        """The usual interval in s, up to a factor of 1.5 too long; None while it is not known."""
        total = sum(self._seconds)
        if total < LEARNT_S or self._intervals < LEARNT_INTERVALS:
            return None
        counted = 0.0
        for bucket, seconds in enumerate(self._seconds):
            counted += seconds
            if counted >= SHARE * total:
                return float(2 ** (bucket / 2))
        return None

    def patience_s(self, *, at_least: float, at_most: float) -> float:
        """Silence that is nothing unusual: some of the usual intervals; `at_most` until they are known."""
        return at_most if self.usual_s is None else min(at_most, max(PATIENCE * self.usual_s, at_least))

    def state(self) -> dict[str, Any]:
        """What `restore` needs, as JSON."""
        return {
            "last": self.last,
            "seconds": {str(bucket): seconds for bucket, seconds in enumerate(self._seconds) if seconds > 0},
            "intervals": self._intervals,
            "unforgotten_s": self._unforgotten_s,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.last, self._intervals, self._unforgotten_s = state["last"], state["intervals"], state["unforgotten_s"]
        for bucket, seconds in state["seconds"].items():
            self._seconds[int(bucket)] = seconds
