"""The agent's one loop: messages in, steps closed, forecasts out. Everything happens here but the network's own thread."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from edge_agent.clock import Clock, boottime
from edge_agent.config import Settings
from edge_agent.conformal import Bands
from edge_agent.contract.errors import DataError
from edge_agent.contract.forecast import Forecast
from edge_agent.contract.localtime import iso_utc
from edge_agent.contract.schema import Feature, HouseSpec
from edge_agent.contract.series import Series
from edge_agent.diary import Diary
from edge_agent.drift import drift, moved_sensors
from edge_agent.forecaster import WAITING, Forecaster
from edge_agent.health import Health
from edge_agent.hearing import Hearing
from edge_agent.history import History, StoredForecast
from edge_agent.issued import IssuedForecast
from edge_agent.keeping import Keeper
from edge_agent.leaps import Leaps, Undo
from edge_agent.lineup import Lineup
from edge_agent.mqtt import BrokerLink, Message
from edge_agent.publisher import Publisher, base_of
from edge_agent.reading import Reading
from edge_agent.recent import RecentSteps
from edge_agent.referee import Referee
from edge_agent.resume import begin, go_back, resume
from edge_agent.schedule import is_due
from edge_agent.scoreboard import Scoreboard, score_payload
from edge_agent.steps import ClosedStep, StepBuilder
from edge_agent.systemd import Notifier
from edge_agent.timing import Timing
from edge_agent.weather import WeatherDecoder, WeatherMemory
from edge_agent.zigbee import Decoder

log = logging.getLogger(__name__)

LONGEST_WAIT_S: Final = 0.5
"""The loop looks up this often at least: at signals, at the wall clock (which may be set) and at the watchdog."""
GATHER_S: Final = 0.02
"""Messages that come within this time are written to the disk together, before the broker may forget them."""
MOST_UNACKNOWLEDGED: Final = 20
"""As many as Mosquitto sends ahead of acknowledgement; more need not be gathered."""
FIRST_CONNECT_S: Final = 1.0
"""Longest wait for the first connect attempt before the agent calls itself ready."""
BIRTH_WAIT_S: Final = (2.0, 5.0)
"""Home Assistant says that it is online before it listens everywhere; all services answering at once would add to its start."""
COMMAND_PACE_S: Final = 1.0
"""Commands to forecast that come faster are answered together."""
LEAPS: Final = "leaps"
"""Key of the clock's leaps forward."""
ANNOUNCED: Final = "announced"
"""Key of the discovery topics in use, remembered to remove them when the configuration changes."""


def subscriptions(house: HouseSpec, settings: Settings) -> list[str]:
    """What the agent reads: sensors, commands, and Home Assistant's birth."""
    sensors = Decoder(house, base_topic=settings.zigbee2mqtt_topic).topics
    return [*sensors, *WeatherDecoder(house).topics, f"{base_of(house, settings)}/cmd/forecast", f"{settings.discovery_prefix}/status"]


class Service:
    """Runs until `stop_requested`; the link, the history and the clock's kind are given."""

    def __init__(
        self,
        house: HouseSpec,
        settings: Settings,
        *,
        lineup: Lineup,
        history: History,
        link: BrokerLink,
        wall: Callable[[], float] = time.time,
        boot: Callable[[], float] | None = None,
    ) -> None:
        """Put the parts together; nothing is opened.

        Args:
            house: the house.
            settings: the agent's.
            lineup: who forecasts.
            history: not open yet.
            link: subscribed to `subscriptions`, not started yet.
            wall: the clock, unix s; not looked at when the settings say `replay_clock`.
            boot: seconds that nobody sets, as in `Message.boot_s`; None: the machine's, or `wall` where that is not the machine's either.
        """
        self.house, self.settings, self.lineup, self.history, self.link = house, settings, lineup, history, link
        self.clock, self.leaps = Clock(wall, boot or (boottime if wall is time.time or settings.replay_clock else wall)), Leaps()
        self.clock.explains = self.leaps.explains
        self.timing = Timing(self.clock, link)
        self.publisher = Publisher(house, settings, link)
        self.weather_decoder, self.weather = WeatherDecoder(house), WeatherMemory(step_s=house.step_s)
        self._command_topic, self._birth_topic = f"{self.publisher.base}/cmd/forecast", f"{settings.discovery_prefix}/status"
        self.builder = StepBuilder(house)
        self.recent = self._new_recent()
        self.health = Health(house)
        self.diary = Diary(house.zone, self.health)
        self.keeper = Keeper(history, settings.limits, self.health, is_replay=settings.replay_clock)
        self.keeper.in_memory = lambda: None if self.recent.end is None else self.recent.series()
        self.hearing = Hearing(house, settings, link=link, keeper=self.keeper, health=self.health)
        self.referee = Referee(house, lineup, self.keeper, self.health)
        self.bands, self.scoreboard = Bands(house, self.keeper), Scoreboard(house, self.keeper)
        self.notifier = Notifier()
        self.began_at = time.time()
        self.stop_requested = False
        self.crash: BaseException | None = None
        """Set by whoever sees another thread die: the loop must not go on deaf."""
        self._newest_event = float("-inf")
        self._next_close = float("-inf")
        self._republish_at = float("inf")
        self._is_asked, self._answer_from = False, float("-inf")
        self._is_clock_told = self._is_start_told = False

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
        self.keeper.open(self.house)
        self.weather = self.keeper.weather(self.weather)
        self._resume()
        announced_before = self.keeper.read(lambda history: history.state(ANNOUNCED), None) or []
        self.keeper.save_state(ANNOUNCED, self.publisher.announce(announced_before=announced_before))
        self._tell_models()
        self.scoreboard.restore()
        self._tell_scores()
        self.link.start()
        self.link.attempted.wait(FIRST_CONNECT_S)
        log.info("ready: %s", self._who_forecasts())
        self.notifier.ready(self.link.problem or "waiting for the first step")

    def turn(self) -> None:
        """Wait for one message or the next deadline, and do what is due."""
        self._look_at_clock()
        self._hear()
        now = self._now()
        if not self._is_start_told and now != float("-inf"):
            self._tell_start(now)
        if now >= self._next_close and now != float("-inf") and self._may_close(now):
            self._close_steps(now)
        monotonic = time.monotonic()
        if self._is_asked and monotonic >= self._answer_from:
            self._is_asked, self._answer_from = False, monotonic + COMMAND_PACE_S
            self._forecast_all(self.recent.end)
        if monotonic >= self._republish_at:
            self._republish_at = float("inf")
            self.link.republish()
        if now != float("-inf"):
            self.hearing.look(now, monotonic)
        self.notifier.alive(monotonic)
        self.keeper.keep(monotonic)

    def stop(self) -> None:
        """Save, say `stopped` and close; takes less than two seconds."""
        self.notifier.stopping()
        self.keeper.save()
        self.hearing.save()
        self._acknowledge()
        self.link.stop()
        self.keeper.close()
        self.health.tell_rejected()
        log.info("stopped")

    # time

    def _now(self) -> float:
        if self.settings.replay_clock:
            return self._newest_event
        now = self.clock.now()
        return float("-inf") if now is None else now

    def _wait_s(self) -> float:
        longest_s = GATHER_S if self.link.n_unacknowledged else LONGEST_WAIT_S
        if self.settings.replay_clock or self._next_close == float("-inf"):
            return longest_s
        return min(max(self._next_close - self._now(), 0.0), longest_s)

    def _admitted(self, message: Message | None) -> list[Message]:
        if self.settings.replay_clock:
            return [] if message is None else [message]
        return self.timing.admit(message)

    def _may_close(self, now: float) -> bool:
        open_from = self.builder.open_from
        is_overdue = open_from is not None and open_from + self.house.step_s + self.builder.grace_s <= now
        wants_weather = bool(self.house.weather) and self.recent.end is None  # the first forecast, which follows at once
        return self.settings.replay_clock or self.timing.may_close(is_overdue=is_overdue or wants_weather)

    def _look_at_clock(self) -> None:
        """Go by the clock, and mend what a wrong one has done."""
        if self.settings.replay_clock:
            return
        leap = self.clock.look()
        self._tell_clock()
        if leap is None:
            self.leaps.begin(self.clock.now())
        else:
            self.health.happened(f"the clock was set by {leap.after - leap.before:+.0f} s, to {iso_utc(leap.after)}")
            if leap.after >= leap.before:
                self.leaps.note(leap)
            else:
                self._go_back(self.leaps.undo(leap))
            self.keeper.save_state(LEAPS, self.leaps.state())

    def _go_back(self, undo: Undo) -> None:
        """Take back what a clock ahead had closed."""
        self.keeper.correct_weather(later_than=undo.later_than, by_s=undo.by_s)
        self.weather = self.keeper.weather(self.weather)
        if self.builder.open_from is None or undo.since >= self.builder.open_from:
            return
        self.builder, n = go_back(undo, self.house, self.keeper)
        open_from = self.builder.open_from
        assert open_from is not None
        self.recent.cut(open_from)
        self._next_close = float("-inf")
        self.health.happened(f"{n} steps from {iso_utc(open_from)} on are closed again: the clock was ahead")

    def _tell_clock(self) -> None:
        """Say at once that steps wait for the clock: nothing else would come."""
        problem = self.clock.problem
        self.health.notices["clock"] = [] if problem is None else [problem]
        if (problem is not None) != self._is_clock_told:
            self._is_clock_told = problem is not None
            log.warning("%s", problem or "the clock is right again")
            self._publish_health(self.clock.wall())

    # in

    def _hear(self) -> None:
        """Wait for a message, and use it and those that have come behind it; looking up after each would cost as much as using it."""
        first = message = self.link.take(self._wait_s())
        end = time.monotonic() + GATHER_S
        while True:
            for each in self._admitted(message):
                self._take(each)
            if message is None or self._is_close_due() or time.monotonic() >= end:
                break
            message = self.link.take(0.0)
        if self.link.n_unacknowledged >= (1 if first is None else MOST_UNACKNOWLEDGED):
            self._acknowledge()

    def _is_close_due(self) -> bool:
        """Whether recorded days have come to the end of a step; the clock's time can wait for the end of a batch."""
        return self.settings.replay_clock and self._newest_event >= self._next_close

    def _acknowledge(self) -> None:
        """Let the broker forget what the disk knows now: a kill -9 must not cost a reading that it would have sent again."""
        if not self.settings.replay_clock:  # a replay begins anew
            self.keeper.secure()
        self.link.acknowledge()

    def _take(self, message: Message) -> None:
        self.health.messages += 1
        if message.topic == self._command_topic:
            if not message.retained:  # a command kept by the broker is an old one
                self._is_asked = True
        elif message.topic == self._birth_topic:
            if message.payload == b"online" and not message.retained and self._republish_at == float("inf"):
                self._republish_at = time.monotonic() + random.uniform(*BIRTH_WAIT_S)  # noqa: S311  no secret
                self.hearing.decoder.note_birth(self.timing.received_at(message))
        else:
            if message.topic in self.weather_decoder.topics:
                self._take_weather(message)
            self._take_readings(message)

    def _take_weather(self, message: Message) -> None:
        now = self._now() if self.settings.replay_clock else self.timing.received_at(message)
        if now == float("-inf"):  # recorded days have not begun yet
            return
        found = self.weather_decoder.decode(message.topic, message.payload, received_at=now, retained=message.retained)
        taken = (self.weather.take(forecast, retained=message.retained, now=now) for forecast in found)
        self.keeper.add_weather(forecast for forecast in taken if forecast is not None)

    def _take_readings(self, message: Message) -> None:
        received_at = None if self.settings.replay_clock else self.timing.received_at(message)
        decoder = self.hearing.decoder
        decoder.wall_ahead_s = 0.0 if self.settings.replay_clock else self.clock.wall_ahead_s
        readings = self.hearing.readings(message, received_at=received_at)
        if decoder.contradictions:
            decoder.contradictions = 0
            self.clock.contradict()
        for reading in readings:
            self.builder.add(reading)
            self._newest_event = max(self._newest_event, reading.time)
        if readings:
            self.keeper.add_readings(readings)

    # steps

    def _resume(self) -> None:
        """Go on from the last closed step and the readings since."""
        self.builder = resume(self.house, self.keeper, self.health)
        self.hearing.restore()
        open_from = self.builder.open_from
        self.clock.known_until = self.leaps.known_until = open_from
        self.leaps.restore(self.keeper.read(lambda history: history.state(LEAPS), None))
        if open_from is not None:
            since: list[Reading] = self.keeper.read(lambda history: history.readings_since(open_from), [])
            for reading in since:
                self.builder.add(reading)
                self._newest_event = max(self._newest_event, reading.time)

    def _close_steps(self, now: float) -> None:
        if self.builder.open_from is None and not self.settings.replay_clock:
            self.builder = begin(self.house, self.keeper, now)
        closed = self.builder.close_until(now)
        open_from = self.builder.open_from
        assert open_from is not None
        self._next_close = open_from + self.house.step_s + self.builder.grace_s
        has_begun = self.recent.end is None
        if has_begun:
            self._begin_recent(closed[0].time if closed else open_from)
        due = [step.time for step in closed if self._is_due(step)]
        if not self.settings.replay_clock:
            due = [closed[-1].time] if due else []  # of several that are overdue, the newest is enough
        if closed:
            self._follow_models()
        for step in closed:
            self.recent.append(step.time, step.values)
            for revision in step.revisions:
                self.recent.revise(revision.time, revision.sensor, revision.value)
            if step.time in due:
                self._forecast_all(self.recent.end)
        if closed:
            self.keeper.add_steps(closed, self.builder.state)
        if closed or (has_begun and self.health.forecasts):
            self._tell_health(closed, now)
            self.diary.look(open_from)

    def _new_recent(self) -> RecentSteps:
        """An empty window for what the lineup reads."""
        forecasters = [*self.lineup.live, *self.lineup.shadows]
        # in the order of the first, which then reads the window itself instead of a copy
        read = tuple(dict.fromkeys(feature for forecaster in forecasters for feature in forecaster.features))
        return RecentSteps(read, step_s=self.house.step_s, keep_s=max(f.history_s for f in forecasters))

    def _load_recent(self, end: int) -> None:
        start = end - self.recent.keep_s
        for feature in self.recent.features:  # one by one, because all at once would take the memory twice
            self.recent.load(self._past(feature, start, end))

    def _begin_recent(self, end: int) -> None:
        """Load the last weeks; whoever restarts the agent wants to see a forecast now."""
        self._load_recent(end)
        if not self.settings.replay_clock:
            self._forecast_all(end)

    def _past(self, feature: Feature, start: int, end: int) -> Series:
        unknown = Series(start, self.house.step_s, (feature,), np.full(((end - start) // self.house.step_s, 1), np.nan))
        return self.keeper.read(lambda history: history.series((feature,), start, end, self.house.step_s), unknown)

    def _is_due(self, step: ClosedStep) -> bool:
        origin = step.time + self.house.step_s
        return is_due(origin, step_s=self.house.step_s, at=self.settings.forecast_at, zone=self.house.zone)

    # models

    def _follow_models(self) -> None:
        """Learn and let the scores decide once a day; then go on with the models that the store names, whoever changed it."""
        end = self.recent.end
        if end is not None:
            self.bands.learn_daily(self.lineup.live, end)
            if self.scoreboard.score_daily(end):
                self._tell_scores()
        if end is not None and self.referee.judge_daily(end):
            self._tell_models()
        if not self.lineup.is_outdated or not self.keeper.save():  # what the new models read comes from the disk
            return
        self.lineup.refresh()
        log.info("the models changed: %s", self._who_forecasts())
        needed = self._new_recent()
        if end is None or needed.keep_s > self.recent.keep_s or not set(needed.features) <= set(self.recent.features):
            self.recent = needed
            if end is not None:
                self._load_recent(end)
        self._tell_models()

    def _who_forecasts(self) -> str:
        """`energy by base-energy 1.0, in shadow tiny 1.1`."""
        live = [f"{place.target} by {' '.join(place.live.identity.values())}" for place in self.lineup.places]
        shadows = [f", in shadow {' '.join(place.shadow.identity.values())}" if place.shadow else "" for place in self.lineup.places]
        return "; ".join(map("".join, zip(live, shadows, strict=True)))

    def _tell_models(self) -> None:
        self.health.notices["models"] = self.lineup.problems
        self.publisher.models(self.lineup.places, self.referee.comparisons)

    def _tell_scores(self) -> None:
        for target, scores in self.scoreboard.scores.items():
            self.publisher.score(score_payload(self.house, target, scores, price=self.settings.price, currency=self.settings.currency))
        self._tell_drift()

    def _tell_drift(self) -> None:
        read = {place.target: place.live.sensors[1:] for place in self.lineup.places}
        sensors = {name: self.house.sensor(name) for names in read.values() for name in names}
        moved: dict[str, str] = self.keeper.read(lambda history: moved_sensors(history, sensors.values(), step_s=self.house.step_s), {})
        told = [f"{name}: {text}" for name, text in moved.items()]
        for target, scores in self.scoreboard.scores.items():
            told += drift(target, scores, moved.keys() & read[target])
        self.health.notices["drift"] = told

    # out

    def _tell_start(self, now: float) -> None:
        """On a new house: what it waits for, and until when."""
        self._is_start_told = True
        if self.builder.open_from is not None or self.settings.replay_clock:
            return
        step_s = self.house.step_s
        ready = iso_utc((int(now) // step_s + 2) * step_s + self.builder.grace_s)  # the step that has begun is not heard in full
        for target in self.house.targets:
            self.health.forecast_waits(target.name, f"no full step of {target.sensor} is known yet: {WAITING} {ready}")
        self._publish_health(now)

    def _forecast_all(self, origin: int | None) -> None:
        """Forecast every target at `origin` (unix s); what fails for one does not stop the others."""
        if origin is None:
            log.info("asked for a forecast before the first step was closed: there is nothing to forecast from")
            return
        for place in self.lineup.places:
            self._forecast_live(place.live, origin)
            if place.shadow is not None:
                self._forecast_shadow(place.shadow, origin)

    def _forecast_live(self, forecaster: Forecaster, origin: int) -> None:
        target, began = forecaster.plan.target, time.perf_counter()
        try:
            forecast = self._forecast(forecaster, origin)
            published = self.bands.corrected(forecaster, forecast)
            hourly = self.publisher.forecast(published)
        except DataError as err:
            self.health.forecast_waits(target, str(err))
        except Exception as err:  # noqa: BLE001  a model that breaks must not silence the other targets
            self.health.fails(f"forecast {target}", err)
        else:
            self.health.forecast_done(published, seconds=time.perf_counter() - began)
            # by the hour: 2 kB instead of 14 kB, 144 times a day
            hourly_too = StoredForecast(target, origin, forecast.issued_at, hourly)
            self.keeper.add_forecast(hourly_too, IssuedForecast.of(forecast, model=forecaster.model_id, role="live", published=published))

    def _forecast_shadow(self, forecaster: Forecaster, origin: int) -> None:
        what = f"shadow forecast {forecaster.plan.target}"
        try:
            forecast = self._forecast(forecaster, origin)
        except DataError:
            return  # the live one has said so
        except Exception as err:  # noqa: BLE001  nobody waits for it
            self.health.fails(what, err)
        else:
            self.health.works(what)
            self.keeper.add_shadow(IssuedForecast.of(forecast, model=forecaster.model_id, role="shadow"))

    def _forecast(self, forecaster: Forecaster, origin: int) -> Forecast:
        with self.lineup.at_work(forecaster):
            return forecaster.forecast(self.recent.series(), origin, issued_at=int(self._now()), weather=self.weather.forecasts())

    def _tell_health(self, closed: Sequence[ClosedStep], now: float) -> None:
        self.health.steps += len(closed)
        self.health.repairs.update(f"{repair.sensor}: {repair.what}" for step in closed for repair in step.repairs)
        standing = "{} ({}): the counter stands still while power readings go on; the power is counted instead"
        self.health.notices["meters"] = [standing.format(name, self.house.sensor(name).topic) for name in self.builder.stuck]
        self.health.count_rejected(self.hearing.decoder.rejected, self.weather_decoder.rejected, self.builder.dropped, now_monotonic=time.monotonic())
        self._publish_health(now)

    def _publish_health(self, now: float) -> None:
        self.hearing.tell(now)
        self.health.tell_problems(now)
        payload = self.health.payload(now, last_step=self.recent.end, link=self.link.state())
        self.publisher.health(payload)
        problems = "; ".join(payload["problems"][:1])
        step = "waiting for the first step" if payload["last_step"] is None else f"last step {payload['last_step']}"
        self.notifier.status(f"{self.health.forecasts} forecasts, {step}{problems and '; '}{problems}")
