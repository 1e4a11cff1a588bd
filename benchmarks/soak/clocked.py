"""The agent by a clock that a proof sets: `python -m benchmarks.soak.clocked` takes the arguments of `hearthcast-agent`.

The whole real program; only what it takes for the machine's wall clock and for the time since the machine was switched on comes from a file. That
clock may run faster than ours, sleep (as a suspended machine does, nothing notices but the two clocks), and be wrong. The monotonic clock, by
which the agent waits and writes to the disk, is the machine's.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Self

VARIABLE = "HEARTHCAST_SOAK_CLOCK"
"""Environment variable that names the file."""
SWITCHED_ON_S = 5_000.0
"""What the machine's clock has counted since it was switched on, when a proof begins."""

_real_gettime = time.clock_gettime


class MadeUpClock:
    """A machine's clocks, shared through a file by a proof and the agents that it starts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._version, self._values = (0, 0), list[float]()

    @classmethod
    def create(cls, path: Path, *, start: float, rate: float) -> Self:
        """A right clock that shows `start` (unix s) now and runs `rate` times as fast as ours."""
        clock = cls(path)
        clock._write(_boot(), start, rate, 0.0, start)
        return clock

    def true(self) -> float:
        """What the time really is, unix s."""
        at, true, rate, _, _ = self._read()
        return true + (_boot() - at) * rate

    def wall(self) -> float:
        """What the wall clock shows, unix s."""
        return self.true() + self._read()[3]

    def boot(self) -> float:
        """Seconds since the machine was switched on."""
        return self.true() - self._read()[4] + SWITCHED_ON_S

    def sleep_until(self, true: float) -> None:
        """Suspend the machine until unix s `true`: all of its time goes on, but no program notices."""
        _, _, rate, ahead, began = self._read()
        self._write(_boot(), true, rate, ahead, began)

    def set_rate(self, rate: float) -> None:
        """Run so many times as fast as ours from now on."""
        true, (_, _, _, ahead, began) = self.true(), self._read()
        self._write(_boot(), true, rate, ahead, began)

    def set_ahead(self, seconds: float) -> None:
        """Set the wall clock this far ahead of the truth."""
        at, true, rate, _, began = self._read()
        self._write(at, true, rate, seconds, began)

    def _read(self) -> list[float]:
        found = self.path.stat()
        version = found.st_ino, found.st_mtime_ns
        if version != self._version:  # asked for several times a message
            self._version, self._values = version, list(json.loads(self.path.read_bytes()))
        return self._values

    def _write(self, *values: float) -> None:
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(values), encoding="ascii")
        fresh.replace(self.path)  # no agent may read half of it


def _boot() -> float:
    return _real_gettime(time.CLOCK_BOOTTIME)


def main() -> int:
    """Run the agent's command line by the clock in the file that `VARIABLE` names."""
    clock = MadeUpClock(Path(os.environ[VARIABLE]))
    time.time = clock.wall
    time.clock_gettime = lambda which: clock.boot() if which == time.CLOCK_BOOTTIME else _real_gettime(which)
    from edge_agent.__main__ import main as agent

    return agent()


if __name__ == "__main__":
    sys.exit(main())
