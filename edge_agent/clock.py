"""The time that the agent goes by: the wall clock, but not at once when somebody sets it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edge_agent.contract.localtime import iso_utc

EARLIEST: Final = 1_700_000_000.0
"""2023-11-14: a clock that shows less was never set. A board without a battery begins in 1970, or where it was switched off."""
SLEW_S: Final = 2.0
"""A change this small is the clock's ordinary keeping of time."""
SLACK_S: Final = 60.0
CONFIRM_S: Final = 600.0
"""A set clock is believed when it stays set this long: some are set back within minutes."""
CONFIRM_BACK_S: Final = 6 * 3600.0
"""A clock set back, of which nobody knows that it was ahead before, when it stays so for this long: what was closed since would be taken back. It may
as well be wrong now, as on a board without a battery that finds no time server."""
YOUNG_S: Final = 600.0
"""For so long after the agent's start a clock that is set forward is believed sooner, because time servers answer then."""
CONFIRM_YOUNG_S: Final = 20.0


def boottime() -> float:
    """Seconds since the machine was switched on, also while it slept: what no setting of the clock changes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class ClockSet:
    """The agent's time made a leap, because the wall clock was set and stayed so."""

    before: float
    """Unix s that it would have been."""
    after: float
    """Unix s that it is."""


class Clock:
    """Follows the wall clock second by second; a leap of it only when it has lasted.

    Until the wall clock shows a time that can be, there is none: nothing is over, and messages wait.
    """

    def __init__(self, wall: Callable[[], float], boot: Callable[[], float]) -> None:
        """Begin without a time; `wall` gives unix s, `boot` seconds that nobody sets."""
        self.wall, self.boot = wall, boot
        self.known_until: float | None = None
        """Unix s that an earlier run has seen: before it, it cannot be."""
        self.problem: str | None = None
        """What the owner should look at, in words."""
        self.explains: Callable[[ClockSet], bool] = lambda _leap: True
        """Whether it is known what a leap back would put right."""
        self._began = boot()
        self._offset: float | None = None
        """Unix s at which `boot` was 0."""
        self._candidate: tuple[float, float] | None = None
        """An offset that waits for belief, and since when on `boot`."""

    def now(self) -> float | None:
        """Unix s; None while it is not known."""
        return self.at(self.boot())

    def at(self, boot_s: float) -> float | None:
        """Unix s of a moment on `boot`, by what is known now."""
        return None if self._offset is None else self._offset + boot_s

    @property
    def wall_ahead_s(self) -> float:
        """How far the wall clock is ahead of the agent's time, while it is not believed."""
        now = self.now()
        return 0.0 if now is None or self._candidate is None else self.wall() - now

    def look(self) -> ClockSet | None:
        """Compare the clocks; call it several times a second. Returns the leap that the agent's time made, if it did."""
        boot, wall = self.boot(), self.wall()
        offset = wall - boot
        if self._offset is None:
            return self._look_first(boot, wall)
        if abs(offset - self._offset) <= SLEW_S:
            self._offset, self._candidate, self.problem = offset, None, None
            return None
        leap = ClockSet(self._offset + boot, wall)
        if not self._has_stayed(leap, boot, is_back=offset < self._offset) or wall < EARLIEST:
            by = offset - self._offset
            self.problem = f"the clock was set by {by:+.0f} s, to {iso_utc(wall)}: waiting to see whether it stays so"
            return None
        return self._believe(leap, offset)

    def contradict(self) -> None:
        """Another machine goes by the agent's time, not by what the wall clock was set to: begin to wait anew."""
        if self._candidate is not None:
            self._candidate = (self._candidate[0], self.boot())

    def _look_first(self, boot: float, wall: float) -> ClockSet | None:
        if wall < EARLIEST:
            self.problem = f"the clock stands at {iso_utc(wall)}: waiting for it to be set (by a time server?); messages are kept meanwhile"
            return None
        was_behind = self._candidate is not None and abs(wall - boot - self._candidate[0]) <= SLEW_S  # and runs on, no more right than before
        if self.known_until is None or (wall >= self.known_until - SLACK_S and not was_behind):
            self._offset, self._candidate, self.problem = wall - boot, None, None
            return None
        leap = ClockSet(self.known_until, wall)
        if self._has_stayed(leap, boot, is_back=True):
            return self._believe(leap, wall - boot)
        self.problem = f"the clock shows {iso_utc(wall)}, before the last step in the history ({iso_utc(self.known_until)}): waiting for it to be set"
        return None

    def _has_stayed(self, leap: ClockSet, boot: float, *, is_back: bool) -> bool:
        """Whether the wall clock has shown long enough to be believed what the leap says."""
        offset = leap.after - boot
        if self._candidate is None or abs(offset - self._candidate[0]) > SLEW_S:
            self._candidate = (offset, boot)
        if is_back:
            confirm_s = CONFIRM_S if self.explains(leap) else CONFIRM_BACK_S
        else:
            confirm_s = CONFIRM_YOUNG_S if boot - self._began < YOUNG_S else CONFIRM_S
        return boot - self._candidate[1] >= confirm_s

    def _believe(self, leap: ClockSet, offset: float) -> ClockSet:
        self._offset, self._candidate, self.problem, self.known_until = offset, None, None, None
        return leap
