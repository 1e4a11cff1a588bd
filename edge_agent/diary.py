"""One line a day: what the agent has done, whether or not all is well."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import date
from zoneinfo import ZoneInfo

from edge_agent.contract.localtime import local_date
from edge_agent.health import Health

log = logging.getLogger(__name__)


class Diary:
    """Counts what happened since the day before."""

    def __init__(self, zone: ZoneInfo, health: Health) -> None:
        self.zone, self.health = zone, health
        self._day: date | None = None
        self._before: Counter[str] = Counter()

    def look(self, end: int) -> None:
        """Write the line when `end` (unix s), where the last closed step ends, lies in another day than last time."""
        day = local_date(end, self.zone)
        if self._day is not None and day != self._day:
            self._write(self._day)
        self._day = day

    def _write(self, day: date) -> None:
        health = self.health
        grades = {f"forecasts_{grade}": 0 for _, grade in health.graded}
        for (_, grade), n in health.graded.items():
            grades[f"forecasts_{grade}"] += n
        now = Counter(
            messages=health.messages,
            steps=health.steps,
            forecasts=health.forecasts,
            **grades,
            rejected=health.rejected.total(),
            repairs=health.repairs.total(),
            failures=health.failures.total(),
        )
        done = {key: n - self._before[key] for key, n in now.items()}
        self._before = now
        log.info("%s is over", day, extra={"fields": {**done, "problems": health.n_problems}})
