"""Keeps what must outlive the program, whatever the disk does: at once when it can, in memory until it can again."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Final, TypeVar

from edge_agent.config import HistoryLimits
from edge_agent.contract.errors import CorruptError, FullError, HearthcastError, StorageError
from edge_agent.contract.schema import HouseSpec
from edge_agent.contract.series import Series
from edge_agent.contract.weather import WeatherForecast
from edge_agent.database import examine
from edge_agent.health import Health
from edge_agent.history import History, StoredForecast
from edge_agent.issued import IssuedForecast, add_issued
from edge_agent.reading import Reading
from edge_agent.rescue import damaged_files
from edge_agent.retention import Retention
from edge_agent.steps import ClosedStep
from edge_agent.weather import KEEP_S, WeatherMemory, add_weather, correct_weather, stored_weather

T = TypeVar("T")

WHAT: Final = "history"
"""The name of all this in `health`."""
MOST_UNSAVED: Final = 10_000
"""Steps and forecasts kept in memory while the disk takes none."""
MOST_UNSAVED_ISSUED: Final = 1_000
"""Whole forecasts are larger: 6 MB, a week of one target."""
RETRY_SAVE_S: Final = 10.0
REPLAY_SAVE_EVERY_S: Final = 1.0
REOPEN_EVERY_S: Final = 60.0
TIDY_FIRST_S: Final = 300.0
TIDY_EVERY_S: Final = 3600.0
TIDY_PACE_S: Final = 0.5
"""Between two pieces of tidying."""
EXAMINE_FIRST_S: Final = 60.0
EXAMINE_EVERY_S: Final = 86_400.0


class Keeper:
    """Between the loop and its history: nothing in here raises but what is wrong with the configuration.

    A damaged file is set aside, what can be read of it goes on in a new one. While the disk takes nothing, closed steps and forecasts wait in memory.
    """

    def __init__(self, history: History, limits: HistoryLimits, health: Health, *, is_replay: bool) -> None:
        """Keep in `history`, which is not open yet; tell `health` what fails. A replay saves once a second, because its days fly by."""
        self.history, self.health, self.is_replay = history, health, is_replay
        self.retention = Retention(history, limits)
        self.in_memory: Callable[[], Series | None] = lambda: None
        """The last weeks of closed steps, as the loop has them: they go into a new file too."""
        self._house: HouseSpec | None = None
        self._steps: deque[ClosedStep] = deque(maxlen=MOST_UNSAVED)
        self._state: Callable[[], Mapping[str, Any]] = dict
        self._forecasts: deque[StoredForecast] = deque(maxlen=MOST_UNSAVED)
        self._issued: deque[IssuedForecast] = deque(maxlen=MOST_UNSAVED_ISSUED)
        self._weather: deque[WeatherForecast] = deque(maxlen=MOST_UNSAVED_ISSUED)
        self._save_at = self._reopen_at = float("-inf")
        now = time.monotonic()
        self._tidy_at, self._examine_at = now + TIDY_FIRST_S, now + EXAMINE_FIRST_S
        self._tidied_step = 0
        self._can_write = False
        self._finding: str | None = None
        """What the examination found wrong; told by its thread."""

    # life

    def open(self, house: HouseSpec) -> None:
        """Open the history of `house`.

        Raises:
            ServiceError: the file is another program's, or a newer agent's, or lies where this user may not write.
            ConfigError: it is another house's.
        """
        self._house = house
        try:
            self._open()
        except StorageError as err:
            self.health.fails(WHAT, err)

    def _open(self) -> None:
        """Open to write, and take `house` for its owner; what cannot be written is opened to be read, and tried again later."""
        assert self._house is not None
        self._reopen_at = time.monotonic() + REOPEN_EVERY_S
        try:
            self.history.open()
            self.history.bind(self._house)
        except CorruptError as err:
            self._rescue(err)
        except StorageError:
            if not self.history.database.is_open:
                with contextlib.suppress(StorageError):
                    self.history.open_to_read()
            raise
        self._can_write = True
        self._note_damaged()

    def _rescue(self, reason: Exception | str) -> None:
        """Set the damaged file aside and go on with what can be read."""
        assert self._house is not None
        self._can_write = False
        self._reopen_at = time.monotonic() + REOPEN_EVERY_S
        came_of_it = self.history.rescue(time.time())
        self.history.bind(self._house)
        remembered = self.in_memory()
        if remembered is not None:
            self.history.import_series(remembered)
        self._can_write = True
        self.health.happened(f"{self.history.path.name} is damaged ({reason}): {came_of_it}")
        self._note_damaged()

    def _note_damaged(self) -> None:
        files = damaged_files(self.history.path)
        text = "{} was damaged; it is set aside, and what could be read goes on. Move it away, or delete it, to end this notice"
        self.health.notices[WHAT] = [text.format(file.name) for file in files]

    def close(self) -> None:
        """Save and close."""
        self.save()
        with self._going_on():
            self.history.close()

    # reading

    def read(self, question: Callable[[History], T], otherwise: T) -> T:
        """What `question` finds; `otherwise`, and told, when nothing can be read."""
        for _ in range(2):  # the second time in the file that took a damaged one's place
            with self._going_on():
                return question(self.history)
        return otherwise

    # keeping

    def add_readings(self, readings: Iterable[Reading]) -> None:
        """To be written within a second."""
        self.history.add_readings(readings)

    def secure(self) -> None:
        """Let no reading depend on this life of the program, because the broker is about to forget it; a disk that takes none is not waited on."""
        if self._can_write and not self.health.is_failing(WHAT):
            with self._going_on():
                self.history.commit("NORMAL")

    def add_steps(self, closed: Sequence[ClosedStep], state: Callable[[], Mapping[str, Any]]) -> None:
        """To be written at once, with the step builder's `state`, asked for when they are."""
        self._steps += closed
        self._state = state
        if self.is_replay and closed and closed[-1].time - self._tidied_step >= TIDY_EVERY_S:
            self._tidied_step, self._tidy_at = closed[-1].time, float("-inf")  # its hours fly by too

    def add_forecast(self, hourly: StoredForecast, whole: IssuedForecast) -> None:
        """To be written with the steps."""
        self._forecasts.append(hourly)
        self._issued.append(whole)

    def add_weather(self, forecasts: Iterable[WeatherForecast]) -> None:
        """To be written at once."""
        self._weather += forecasts

    def add_shadow(self, whole: IssuedForecast) -> None:
        """To be written with the steps: a forecast that nobody saw."""
        self._issued.append(whole)

    def keep(self, monotonic: float) -> None:
        """Do what is due at this time of the monotonic clock; call it every half second at least."""
        if self._finding is not None:
            finding, self._finding = self._finding, None
            self._rescue_going_on(finding)
        if not self._can_write and monotonic >= self._reopen_at:
            with self._going_on():
                self._open()
        if self._can_write:
            self._write_due(monotonic)

    def _write_due(self, monotonic: float) -> None:
        with self._going_on():
            self.history.commit_if_due(monotonic)
        if self._is_unsaved and monotonic >= self._save_at:
            saved = self.save()
            self._save_at = monotonic + (RETRY_SAVE_S if not saved else REPLAY_SAVE_EVERY_S if self.is_replay else 0.0)
        if monotonic >= self._tidy_at:
            self._tidy(monotonic)
        if monotonic >= self._examine_at and not self.is_replay:
            self._examine_at = monotonic + EXAMINE_EVERY_S
            threading.Thread(target=self._examine, name="examine", daemon=True).start()

    @property
    def _is_unsaved(self) -> bool:
        return bool(self._steps or self._forecasts or self._issued or self._weather)

    def save(self) -> bool:
        """Write closed steps and forecasts; False when the disk takes none, and they are kept for later."""
        with self._going_on():
            if self._steps:
                self.history.close_steps(self._steps, self._state())
                self._steps.clear()
            while self._forecasts:
                hourly = self._forecasts[0]
                self.history.save_forecast(hourly.target, origin=hourly.origin, issued_at=hourly.issued_at, payload=hourly.payload)
                self._forecasts.popleft()
            if self._issued:
                add_issued(self.history, self._issued)
                self._issued.clear()
            if self._weather:
                add_weather(self.history, self._weather)
                self._weather.clear()
            self.health.works(WHAT)
        return not self._is_unsaved

    def withdraw(self, open_from: int, *, step_s: int, later_than: float, by_s: float | None) -> int:
        """`History.withdraw`, also of what was not written yet; returns how many steps."""
        self.save()
        self._state = dict  # what is written before the next step closes must not bring the old state back
        withdrawn = [step for step in self._steps if step.time >= open_from]
        self._steps = deque((step for step in self._steps if step.time < open_from), maxlen=MOST_UNSAVED)
        self._forecasts = deque((f for f in self._forecasts if f.origin <= open_from), maxlen=MOST_UNSAVED)
        self._issued = deque((f for f in self._issued if f.origin <= open_from), maxlen=MOST_UNSAVED_ISSUED)
        return len(withdrawn) + self.read(lambda history: history.withdraw(open_from, step_s=step_s, later_than=later_than, by_s=by_s), 0)

    def correct_weather(self, *, later_than: float, by_s: float | None) -> None:
        """As `weather.correct_weather`, also of what was not written yet."""
        self.save()
        early = [f for f in self._weather if f.issued_at <= later_than]
        late = [] if by_s is None else [replace(f, issued_at=f.issued_at - by_s) for f in self._weather if f.issued_at > later_than]
        self._weather = deque(early + late, maxlen=MOST_UNSAVED_ISSUED)
        with self._going_on():
            correct_weather(self.history, later_than=later_than, by_s=by_s)

    def weather(self, otherwise: WeatherMemory) -> WeatherMemory:
        """The last week's forecasts, also those that were not written yet; `otherwise`, and told, when nothing can be read."""
        step_s = otherwise.step_s
        return self.read(lambda history: WeatherMemory(chain(stored_weather(history, last_s=KEEP_S), self._weather), step_s=step_s), otherwise)

    def save_state(self, key: str, value: Any) -> None:
        """Write `value` under `key` now."""
        with self._going_on():
            self.history.save_state(key, value)

    def _tidy(self, monotonic: float) -> None:
        self._tidy_at = monotonic + TIDY_EVERY_S
        with self._going_on():
            has_more = self.retention.tidy()
            while has_more and self.is_replay:  # nobody waits, and the next hours are here at once
                has_more = self.retention.tidy()
            if has_more:
                self._tidy_at = monotonic + TIDY_PACE_S

    def _examine(self) -> None:
        self._finding = examine(self.history.path)

    @contextlib.contextmanager
    def _going_on(self) -> Iterator[None]:
        """What the disk does to the block is told, and does not end the loop."""
        try:
            yield
        except CorruptError as err:
            self._rescue_going_on(err)
        except HearthcastError as err:
            self.health.fails(WHAT, err)
            if isinstance(err, FullError):
                self._tidy_at = float("-inf")  # its own limit may be what is full

    def _rescue_going_on(self, reason: Exception | str) -> None:
        try:
            self._rescue(reason)
        except HearthcastError as err:
            self.health.fails(WHAT, err)
