"""The agent's one loop: messages in, steps closed, forecasts out. Everything happens here but the network's own thread."""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from edge_agent.config import Settings
from edge_agent.contract.bundle import read_bundle
from edge_agent.contract.errors import ConfigError, DataError, HearthcastError
from edge_agent.contract.schema import HouseSpec
from edge_agent.forecaster import Forecaster, Model, base_forecaster
from edge_agent.health import Health
from edge_agent.history import BUILDER, History, StoredForecast
from edge_agent.issued import IssuedForecast, add_issued
from edge_agent.mqtt import BrokerLink, Message
from edge_agent.publisher import Publisher, base_of
from edge_agent.recent import RecentSteps
from edge_agent.schedule import is_due
from edge_agent.steps import ClosedStep, StepBuilder
from edge_agent.systemd import Notifier
from edge_agent.zigbee import Decoder

log = logging.getLogger(__name__)

LONGEST_WAIT_S: Final = 0.5
"""The loop looks up this often at least: at signals, at the wall clock (which may be set) and at the watchdog."""
FIRST_CONNECT_S: Final = 1.0
"""Longest wait for the first connect attempt before the agent calls itself ready."""
BIRTH_WAIT_S: Final = (2.0, 5.0)
"""Home Assistant says that it is online before it listens everywhere; all services answering at once would add to its start."""
REPLAY_SAVE_EVERY_S: Final = 1.0
RETRY_SAVE_S: Final = 10.0
MOST_UNSAVED: Final = 10_000
"""Steps and forecasts kept in memory while the disk takes none."""
MOST_UNSAVED_ISSUED: Final = 1_000
"""Whole forecasts are larger: 6 MB, a week of one target."""
ANNOUNCED: Final = "announced"
"""Key of the discovery topics in use, remembered to remove them when the configuration changes."""
KEEP_READINGS_S: Final = 30 * 86_400.0
KEEP_STEPS_S: Final = 3 * 365 * 86_400.0
PRUNE_EVERY_S: Final = 86_400.0


def load_forecasters(house: HouseSpec, settings: Settings) -> list[Forecaster]:
    """A forecaster for each target of the house: by a bundle where one is given, else by the model that ships, else by the climatology.

    Raises:
        BundleError: a bundle is refused.
        ConfigError: it does not fit the house, or two forecast the same target.
    """
    forecasters: dict[str, Forecaster] = {}
    for path in settings.bundles:
        model = Model(read_bundle(path, allow_unsigned=settings.allow_unsigned))
        model.check_golden()
        forecaster = Forecaster(house, model)
        if forecaster.plan.target in forecasters:
            raise ConfigError(f"{path}: a second bundle for target {forecaster.plan.target!r}: give one bundle a target")
        forecasters[forecaster.plan.target] = forecaster
    return [forecasters.get(target.name) or base_forecaster(house, target.name) for target in house.targets]


def subscriptions(house: HouseSpec, settings: Settings) -> list[str]:
    """What the agent reads: sensors, commands, and Home Assistant's birth."""
    sensors = Decoder(house, base_topic=settings.zigbee2mqtt_topic).topics
    return [*sensors, f"{base_of(house, settings)}/cmd/forecast", f"{settings.discovery_prefix}/status"]


class Service:
    """Runs until `stop_requested`; the link, the history and the clock's kind are given."""

    def __init__(
        self,
        house: HouseSpec,
        settings: Settings,
        *,
        forecasters: Sequence[Forecaster],
        history: History,
        link: BrokerLink,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Put the parts together; nothing is opened.

        Args:
            house: the house.
            settings: the agent's.
            forecasters: one a target.
            history: not open yet.
            link: subscribed to `subscriptions`, not started yet.
            wall: the clock, unix s; not looked at when the settings say `replay_clock`.
        """
        self.house, self.settings, self.forecasters, self.history, self.link = house, settings, forecasters, history, link
        self.wall = wall
        self.publisher = Publisher(house, settings, link)
        self.decoder = Decoder(house, base_topic=settings.zigbee2mqtt_topic)
        self.builder = StepBuilder(house)
        read = tuple(feature for feature in house.features if any(feature in f.features for f in forecasters))
        self.recent = RecentSteps(read, step_s=house.step_s, keep_s=max(f.history_s for f in forecasters))
        self.health = Health(house)
        self.notifier = Notifier()
        self.stop_requested = False
        self.crash: BaseException | None = None
        """Set by whoever sees another thread die: the loop must not go on deaf."""
        self._newest_event = float("-inf")
        self._next_close = float("-inf")
        self._republish_at = float("inf")
        self._save_at = float("-inf")
        self._prune_at = time.monotonic() + PRUNE_EVERY_S
        self._unsaved_steps: deque[ClosedStep] = deque(maxlen=MOST_UNSAVED)
        self._unsaved_forecasts: deque[StoredForecast] = deque(maxlen=MOST_UNSAVED)
        self._unsaved_issued: deque[IssuedForecast] = deque(maxlen=MOST_UNSAVED_ISSUED)

    # life

    def run(self) -> None:
        """Start, work until `stop_requested`, stop in good order.

        Raises:
            HearthcastError: the history cannot be opened or is another house's.
        """
        self.start()
        while not self.stop_requested:
            if self.crash is not None:
                raise self.crash
            self.turn()
        self.stop()

    def start(self) -> None:
        """Open the history, go on where the last run stopped, begin to connect."""
        self.history.open()
        self.history.bind(self.house)
        self._resume()
        announced = self.publisher.announce(self.forecasters, announced_before=self.history.state(ANNOUNCED) or [])
        self.history.save_state(ANNOUNCED, announced)
        self.link.start()
        self.link.attempted.wait(FIRST_CONNECT_S)
        log.info("ready: %s", ", ".join(f"{f.plan.target} by {' '.join(f.identity.values())}" for f in self.forecasters))
        self.notifier.ready(self.link.problem or "waiting for the first step")

    def turn(self) -> None:
        """Wait for one message or the next deadline, and do what is due."""
        message = self.link.get(self._wait_s())
        if message is not None:
            self._take(message)
        now = self._now()
        if now >= self._next_close and now != float("-inf"):
            self._close_steps(now)
        monotonic = time.monotonic()
        if monotonic >= self._republish_at:
            self._republish_at = float("inf")
            self.link.republish()
        self.notifier.alive(monotonic)
        self._keep(monotonic)

    def stop(self) -> None:
        """Save, say `stopped` and close; takes less than two seconds."""
        self.notifier.stopping()
        self._save()
        self.link.stop()
        self.history.close()
        log.info("stopped")

    # time

    def _now(self) -> float:
        return self._newest_event if self.settings.replay_clock else self.wall()

    def _wait_s(self) -> float:
        if self.settings.replay_clock:
            return LONGEST_WAIT_S
        return min(max(self._next_close - self.wall(), 0.0), LONGEST_WAIT_S)

    # in

    def _take(self, message: Message) -> None:
        self.health.messages += 1
        if message.topic == f"{self.publisher.base}/cmd/forecast":
            if not message.retained:  # a command kept by the broker is an old one
                self._forecast_all(self.recent.end)
        elif message.topic == f"{self.settings.discovery_prefix}/status":
            if message.payload == b"online" and not message.retained:
                self._republish_at = time.monotonic() + random.uniform(*BIRTH_WAIT_S)  # noqa: S311  no secret
        else:
            self._take_readings(message)

    def _take_readings(self, message: Message) -> None:
        received_at = None if self.settings.replay_clock else message.received_at
        readings = self.decoder.decode(message.topic, message.payload, received_at=received_at, retained=message.retained)
        for reading in readings:
            self.builder.add(reading)
            self._newest_event = max(self._newest_event, reading.time)
        if readings:
            self.health.saw(readings)
            with self._going_on("history"):
                self.history.add_readings(readings)

    # steps

    def _resume(self) -> None:
        """Go on from the last closed step and the readings since."""
        state = self.history.state(BUILDER)
        if state is not None:
            self.builder.restore(state)
        if self.builder.open_from is not None:
            for reading in self.history.readings_since(self.builder.open_from):
                self.builder.add(reading)
                self._newest_event = max(self._newest_event, reading.time)

    def _close_steps(self, now: float) -> None:
        closed = self.builder.close_until(now)
        open_from = self.builder.open_from
        assert open_from is not None
        self._next_close = open_from + self.house.step_s + self.builder.grace_s
        if self.recent.end is None:
            self._begin_recent(closed[0].time if closed else open_from)
        due = [step.time for step in closed if self._is_due(step)]
        if not self.settings.replay_clock:
            due = [closed[-1].time] if due else []  # of several that are overdue, the newest is enough
        for step in closed:
            self.recent.append(step.time, step.values)
            if step.time in due:
                self._forecast_all(self.recent.end)
        if closed:
            self._unsaved_steps += closed
            self._tell_health(closed, now)

    def _begin_recent(self, end: int) -> None:
        """Load the last weeks; whoever restarts the agent wants to see a forecast now."""
        for feature in self.recent.features:  # one by one, because all at once would take the memory twice
            self.recent.load(self.history.series((feature,), end - self.recent.keep_s, end, self.house.step_s))
        if not self.settings.replay_clock:
            self._forecast_all(end)

    def _is_due(self, step: ClosedStep) -> bool:
        origin = step.time + self.house.step_s
        return is_due(origin, step_s=self.house.step_s, at=self.settings.forecast_at, zone=self.house.zone)

    # out

    def _forecast_all(self, origin: int | None) -> None:
        """Forecast every target at `origin` (unix s); what fails for one does not stop the others."""
        if origin is None:
            log.info("asked for a forecast before the first step was closed: there is nothing to forecast from")
            return
        for forecaster in self.forecasters:
            target = forecaster.plan.target
            try:
                forecast = forecaster.forecast(self.recent.series(), origin, issued_at=int(self._now()))
                hourly = self.publisher.forecast(forecast)
            except DataError as err:
                self.health.forecast_waits(target, str(err))
            except Exception as err:  # noqa: BLE001  a model that breaks must not silence the other targets
                self.health.fails(f"forecast {target}", err)
            else:
                self.health.forecast_done(forecast)
                # by the hour: 2 kB instead of 14 kB, 144 times a day
                self._unsaved_forecasts.append(StoredForecast(target, origin, forecast.issued_at, hourly))
                self._unsaved_issued.append(IssuedForecast.of(forecast, model=forecaster.model_id, role="live"))

    def _tell_health(self, closed: Sequence[ClosedStep], now: float) -> None:
        self.health.repairs += sum(len(step.repairs) for step in closed)
        self.health.count_rejected(self.decoder.rejected, self.builder.dropped, now_monotonic=time.monotonic())
        payload = self.health.payload(now, last_step=self.recent.end, link=self.link.state())
        self.publisher.health(payload)
        problems = "; ".join(payload["problems"][:1])
        self.notifier.status(f"{self.health.forecasts} forecasts, last step {payload['last_step']}{problems and '; '}{problems}")

    # disk

    def _keep(self, monotonic: float) -> None:
        """Save what is due: at once in normal life, once a second when days fly by."""
        with self._going_on("history"):
            self.history.commit_if_due(monotonic)
            if monotonic >= self._prune_at:
                self._prune_at = monotonic + PRUNE_EVERY_S
                self.history.prune(KEEP_READINGS_S, KEEP_STEPS_S)
        if (self._unsaved_steps or self._unsaved_forecasts or self._unsaved_issued) and monotonic >= self._save_at:
            saved = self._save()
            self._save_at = monotonic + (RETRY_SAVE_S if not saved else REPLAY_SAVE_EVERY_S if self.settings.replay_clock else 0.0)

    def _save(self) -> bool:
        """Write closed steps and issued forecasts; False when the disk takes none, and they are kept for later."""
        with self._going_on("history"):
            if self._unsaved_steps:
                self.history.close_steps(self._unsaved_steps, self.builder.state())
                self._unsaved_steps.clear()
            while self._unsaved_forecasts:
                issued = self._unsaved_forecasts[0]
                self.history.save_forecast(issued.target, origin=issued.origin, issued_at=issued.issued_at, payload=issued.payload)
                self._unsaved_forecasts.popleft()
            if self._unsaved_issued:
                add_issued(self.history, self._unsaved_issued)
                self._unsaved_issued.clear()
            self.health.works("history")
        return not (self._unsaved_steps or self._unsaved_forecasts or self._unsaved_issued)

    @contextlib.contextmanager
    def _going_on(self, what: str) -> Iterator[None]:
        """Expected errors of the block are counted and logged, and do not end the loop."""
        try:
            yield
        except HearthcastError as err:
            self.health.fails(what, err)
