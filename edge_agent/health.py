"""How the agent is: what it published, what it could not use, and what its owner should look at."""

from __future__ import annotations

import logging
import re
import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any, Final

from edge_agent.contract.forecast import Forecast
from edge_agent.contract.localtime import iso_utc
from edge_agent.contract.schema import HouseSpec
from edge_agent.forecaster import WAITING
from edge_agent.watch import Watch

log = logging.getLogger(__name__)

SCHEMA: Final = 1
REPORT_EVERY_S: Final = 3600.0
LONGEST_REPORT_EVERY_S: Final = 86_400.0
MOST_NAMED: Final = 10
MOST_EVENTS: Final = 10
LOGGED: Final = ("zigbee2mqtt", "drift")
"""Whose notices go to the log as they come and go; the others log their own, with what led to them."""


class Health:
    """Counts while the agent runs; a payload on demand."""

    def __init__(self, house: HouseSpec) -> None:
        self.house = house
        self.messages = 0
        self.steps = 0
        self.forecasts = 0
        self.graded: Counter[tuple[str, str]] = Counter()
        """Forecasts by (target, grade)."""
        self.latest: dict[str, Forecast] = {}
        """The last forecast of each target, as published."""
        self.forecast_seconds: dict[str, float] = {}
        """What they took in all, by target."""
        self.n_problems = 0
        """When `payload` was asked for last."""
        self.repairs: Counter[str] = Counter()
        """Since the start, by `sensor: kind`."""
        self.failures: Counter[str] = Counter()
        """Failed attempts by what failed (`forecast energy`, `history`)."""
        self.rejected: Counter[str] = Counter()
        """Unusable values since the start, by `sensor or topic: reason`."""
        self.notices: dict[str, list[str]] = {}
        """What lasts and the owner should look at, in words, by who found it."""
        self.events: deque[str] = deque(maxlen=MOST_EVENTS)
        """What happened once, newest last."""
        self._failing: dict[str, str] = {}
        self._waiting: dict[str, str] = {}
        self._told: dict[str, str] = {}
        """Problems that the log knows of, by their words without figures."""
        self.watch = Watch(house)
        self._unreported: Counter[str] = Counter()
        self._report_at = float("-inf")
        self._report_every_s = REPORT_EVERY_S

    def forecast_done(self, forecast: Forecast, *, seconds: float) -> None:
        """A forecast of this target went out, which took so long."""
        self.forecasts += 1
        self.graded[forecast.target, forecast.grade] += 1
        self.forecast_seconds[forecast.target] = self.forecast_seconds.get(forecast.target, 0.0) + seconds
        self.latest[forecast.target] = forecast
        self._waiting.pop(forecast.target, None)
        waits = [reason for reason in forecast.reasons if WAITING in reason]
        if waits:
            self._waiting[forecast.target] = "; ".join(waits)
        self.works(f"forecast {forecast.target}")

    def forecast_waits(self, target: str, why: str) -> None:
        """There is nothing to forecast this target from yet."""
        self._waiting[target] = why

    def fails(self, what: str, error: Exception) -> None:
        """Count a failure; log it with its traceback when it is another one than last time."""
        self.failures[what] += 1
        message = f"{type(error).__name__}: {error}"
        if self._failing.get(what) != message:
            log.error("%s failed, going on: %s", what, message, exc_info=error)
        self._failing[what] = message

    def works(self, what: str) -> None:
        """`what` succeeded, whatever it did before."""
        if self._failing.pop(what, None) is not None:
            log.info("%s works again", what)

    def is_failing(self, what: str) -> bool:
        """Whether `what` failed and has not worked since."""
        return what in self._failing

    def happened(self, what: str) -> None:
        """Log something that the owner should know of, and keep it among the last events."""
        log.warning("%s", what)
        self.events.append(f"{iso_utc(time.time())} {what}")

    def count_rejected(self, *counters: Counter[tuple[str, str]], now_monotonic: float) -> None:
        """Move what the input side rejected into the totals; tell the log at once, then hourly, then ever less often while it goes on."""
        for counter in counters:
            self.watch.rejected(counter)
            found = Counter({f"{who}: {why}": n for (who, why), n in counter.items()})
            counter.clear()
            self.rejected += found
            self._unreported += found
        if self._unreported and now_monotonic >= self._report_at:
            is_going_on = now_monotonic - self._report_at < self._report_every_s
            self._report_every_s = min(2 * self._report_every_s, LONGEST_REPORT_EVERY_S) if is_going_on else REPORT_EVERY_S
            self._report_at = now_monotonic + self._report_every_s
            self.tell_rejected()

    def tell_rejected(self) -> None:
        """Tell the log what could not be used since it was told last."""
        if not self._unreported:
            return
        named = ", ".join(f"{what} ({n} times)" for what, n in self._unreported.most_common(MOST_NAMED))
        more = len(self._unreported) - MOST_NAMED
        if more > 0:
            named += f", and {more} kinds more"
        log.warning("not usable: %s", named, extra={"fields": {"values": self._unreported.total()}})
        self._unreported.clear()

    def tell_problems(self, now: float) -> None:
        """Tell the log what is new and what is over, at unix s `now`; the same with other figures is not new."""
        standing = [*(text for who in LOGGED for text in self.notices.get(who, ())), *self.watch.problems(now)]
        problems = {re.sub(r"\d+", "#", text): text for text in standing}
        for kind, text in problems.items():
            if kind not in self._told:
                log.warning("%s", text)
        for kind, text in self._told.items():
            if kind not in problems:
                log.info("no longer so: %s", text)
        self._told = problems

    def problems(self, now: float) -> list[str]:
        """What the owner should look at, in words, at unix s `now`."""
        failing = [f"{what} fails: {message}" for what, message in self._failing.items()]
        return [*failing, *(text for texts in self.notices.values() for text in texts), *self.watch.problems(now)]

    def payload(self, now: float, *, last_step: int | None, link: Mapping[str, Any]) -> dict[str, Any]:
        """The `health` message (schema 1).

        Args:
            now: unix s.
            last_step: end of the last closed step, unix s.
            link: what the connection has to tell (`dropped`, `refused_topics`, …).
        """
        problems = self.problems(now)
        self.n_problems = len(problems)
        return {
            "schema": SCHEMA,
            "site": self.house.site,
            "time": iso_utc(now),
            "problem": bool(problems),
            "problems": problems,
            "last_step": None if last_step is None else iso_utc(last_step),
            "grades": {target: forecast.grade for target, forecast in self.latest.items()},
            "waiting": self._waiting,
            "sensors": {name: None if last is None else iso_utc(last) for name, last in self.watch.last_seen.items()},
            "usual_s": self.watch.usual_s,
            "messages": self.messages,
            "rejected": dict(self.rejected),
            "repairs": self.repairs.total(),
            "repaired": dict(self.repairs),
            "forecasts": self.forecasts,
            "failures": dict(self.failures),
            "events": list(self.events),
            "mqtt": dict(link),
        }
