"""Time passes at a home, faster than ours: sensors report, and the machine sleeps through the dull part of every step."""

from __future__ import annotations

import time

from benchmarks.soak.clocked import MadeUpClock
from benchmarks.soak.home import Sensors

RATE = 5.0
"""The clock's seconds in one of ours. More of them would be too few of ours for what the agent gives 30 and 60 s: the broker, after its start."""
GRACE_S = 5.0
"""The agent closes a step this long after its end."""
AROUND_S = (7.0, 9.0)
"""Of each step, what is lived through before its end and after it, in the clock's seconds."""
REPORT_EVERY_S = 0.25


class Passing:
    """Ten minutes of a home in some three seconds. There are as many step ends as in ten minutes, and more messages."""

    def __init__(self, clock: MadeUpClock, sensors: Sensors) -> None:
        self.clock, self.sensors, self.step_s = clock, sensors, sensors.spec.step_s
        self.due: dict[int, float] = {}
        """When the step that ends at an origin (unix s) could be closed, on the monotonic clock."""
        self._report_at = 0.0

    def seconds(self, seconds: float) -> None:
        """Let so many of our seconds pass."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            self._look(now)
            time.sleep(0.01)

    def steps(self, n: int) -> None:
        """Until `n` more steps could be closed."""
        wanted = len(self.due) + n
        while len(self.due) < wanted:
            self.seconds(0.05)

    def until_close(self, *, early_s: float) -> None:
        """Until so many of our seconds before the next step can be closed."""
        end = (self.clock.true() // self.step_s + 1) * self.step_s + GRACE_S
        while self.clock.true() < end - early_s * RATE:
            self.seconds(0.02)

    def _look(self, now: float) -> None:
        true = self.clock.true()
        into = true % self.step_s
        if AROUND_S[1] < into < self.step_s - AROUND_S[0]:
            self.clock.sleep_until(true - into + self.step_s - AROUND_S[0])
        if now >= self._report_at:
            self._report_at = now + REPORT_EVERY_S
            self.sensors.report()
        if GRACE_S <= into < AROUND_S[1]:
            self.due.setdefault(int(true - into), now - (into - GRACE_S) / RATE)
