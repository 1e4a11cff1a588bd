"""The agent's memory on disk: one SQLite file that survives kill -9 and that its owner can read with the sqlite3 tool."""

from __future__ import annotations

import json
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np

from edge_agent.contract.errors import ConfigError, CorruptError
from edge_agent.contract.schema import Feature, HouseSpec
from edge_agent.contract.series import Series
from edge_agent.database import Database
from edge_agent.meter import Repair, Revision
from edge_agent.reading import Reading
from edge_agent.rescue import finish, set_aside
from edge_agent.steps import ClosedStep

APPLICATION_ID: Final = 0x48434153  # "HCAS"; tells another program's database from an empty one
COMMIT_EVERY_S: Final = 0.5
MAX_BUFFERED: Final = 50_000
"""Readings kept while the disk takes none; then the oldest go first."""
BUILDER: Final = "builder"
"""Key of the step builder's state, saved with the steps it belongs to."""

_READINGS: Final = """
CREATE TABLE sensors (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, role TEXT, unit TEXT);
CREATE TABLE readings (time REAL NOT NULL, sensor INTEGER NOT NULL REFERENCES sensors, value REAL NOT NULL, retained INTEGER NOT NULL,
                       PRIMARY KEY (time, sensor)) WITHOUT ROWID;
CREATE TABLE steps (sensor INTEGER NOT NULL REFERENCES sensors, time INTEGER NOT NULL, value REAL NOT NULL, imported INTEGER NOT NULL,
                    PRIMARY KEY (sensor, time)) WITHOUT ROWID;
CREATE TABLE repairs (time REAL NOT NULL, sensor INTEGER NOT NULL REFERENCES sensors, what TEXT NOT NULL, value REAL NOT NULL);
CREATE INDEX repairs_by_time ON repairs (time);
CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE forecasts (target TEXT NOT NULL, origin INTEGER NOT NULL, issued_at REAL NOT NULL, payload TEXT NOT NULL,
                        UNIQUE (target, origin, issued_at));
CREATE VIEW steps_utc AS SELECT name, datetime(time, 'unixepoch') AS utc, value, unit, imported FROM steps JOIN sensors ON sensor = id;
CREATE VIEW readings_utc AS SELECT name, datetime(time, 'unixepoch') AS utc, value, retained FROM readings JOIN sensors ON sensor = id;
CREATE VIEW repairs_utc AS SELECT name, datetime(time, 'unixepoch') AS utc, what, value FROM repairs JOIN sensors ON sensor = id;
"""
_ISSUED: Final = """
CREATE TABLE issued (target TEXT NOT NULL, model TEXT NOT NULL, role TEXT NOT NULL, origin INTEGER NOT NULL, issued_at REAL NOT NULL,
                     step_s INTEGER NOT NULL, levels TEXT NOT NULL, quantiles BLOB NOT NULL, mean BLOB NOT NULL, grade TEXT NOT NULL, total TEXT,
                     UNIQUE (target, origin, role, model));
"""
_WEATHER: Final = """
CREATE TABLE weather (role TEXT NOT NULL, issued_at REAL NOT NULL, times BLOB NOT NULL, forecast BLOB NOT NULL, PRIMARY KEY (role, issued_at));
"""
_REVISIONS: Final = """
CREATE TABLE revisions (time INTEGER NOT NULL, sensor INTEGER NOT NULL REFERENCES sensors, was REAL, PRIMARY KEY (time, sensor)) WITHOUT ROWID;
CREATE VIEW revisions_utc AS SELECT name, datetime(r.time, 'unixepoch') AS utc, was, value, unit FROM revisions AS r
  JOIN sensors ON r.sensor = id LEFT JOIN steps ON steps.sensor = id AND steps.time = r.time;
"""
_PUBLISHED: Final = "ALTER TABLE issued ADD COLUMN published BLOB;"
_SCHEMAS: Final = (_READINGS, _ISSUED, _WEATHER, _REVISIONS, _PUBLISHED)
"""The first makes an empty file; each further one brings a file to the next version."""
_REVISE: Final = """
INSERT INTO steps VALUES (?, ?, ?, 0) ON CONFLICT (sensor, time) DO UPDATE SET value = excluded.value, imported = 0
"""
_INSERT_MEASURED: Final = """
INSERT INTO steps VALUES (?, ?, ?, 0) ON CONFLICT (sensor, time) DO UPDATE SET value = excluded.value, imported = 0 WHERE imported = 1
"""


@dataclass(frozen=True, slots=True)
class StoredForecast:
    """A forecast as it was issued."""

    target: str
    origin: int
    """Unix s."""
    issued_at: float
    """Unix s."""
    payload: dict[str, Any]
    """What was published."""


class History:
    """Readings, closed steps, repairs, forecasts and the agent's own state.

    A closed step is on the disk when `close_steps` returns, a reading a second after `add_readings` at the latest when `commit_if_due` is called
    several times a second. A step holds a row for each sensor that was known; what has no row is unknown. One thread only.

    Every method raises ServiceError, naming the file and SQLite's reason, when the file cannot be read or written (CorruptError: `rescue` helps).
    """

    def __init__(self, path: Path) -> None:
        """Know the file at `path`; `open` opens it."""
        self.path = path
        self.database = Database(path, application_id=APPLICATION_ID, schemas=_SCHEMAS)
        self._ids: dict[str, int] = {}
        self._buffer: deque[Reading] = deque(maxlen=MAX_BUFFERED)
        self._committed_at = 0.0
        self._is_synced = True
        """Nothing that was written is still on its way to the disk."""
        self.readings_written = 0
        """Since the start."""

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Open the file, or make it and the folder it lies in.

        Raises:
            ServiceError: it cannot be opened, belongs to another program, or was written by a newer agent.
        """
        finish(self.path)
        self.database.open()
        self._know_sensors()

    def open_to_read(self) -> None:
        """Open what cannot be written now.

        Raises:
            ServiceError: it cannot be read either.
        """
        self.database.open_to_read()
        self._know_sensors()

    def rescue(self, now: float) -> str:
        """Begin a new file with all that can be read of the damaged one, which is set aside; returns what came of it, in words.

        Only for the agent itself: no other program may have the file open. `now` is unix s.
        """
        came_of_it = str(set_aside(self.database, now=now))
        self.open()
        return came_of_it

    def _know_sensors(self) -> None:
        try:
            self._ids = {str(name): int(number) for name, number in self.database.rows("SELECT name, id FROM sensors")}
        except (TypeError, ValueError) as err:
            raise self._damaged("sensors") from err

    def close(self) -> None:
        """Write what is buffered and close the file."""
        if not self.database.is_open:
            return
        try:
            self.commit()
        finally:
            self.database.close()

    def bind(self, house: HouseSpec) -> None:
        """Register the house's sensors with their roles and units.

        Raises:
            ConfigError: the history belongs to a house with another step, or in which a sensor had another role.
        """
        with self.transaction():
            self._check_step(house.step_s)
            for sensor in house.sensors:
                was = self.database.one("SELECT role FROM sensors WHERE name = ?", sensor.name)
                if was not in (None, sensor.role):
                    change = f"sensor {sensor.name!r} has the role {was!r} there and {sensor.role!r} in house.toml"
                    raise ConfigError(f"{self.path}: {change}: give the new sensor a name of its own")
                self._db.execute("UPDATE sensors SET role = ?, unit = ? WHERE id = ?", (sensor.role, sensor.feature.unit, self._id(sensor.name)))

    # Writing

    def add_readings(self, readings: Iterable[Reading]) -> None:
        """Buffer `readings` for the next commit. A second one of a sensor with the same time replaces the first."""
        self._buffer += readings

    def commit_if_due(self, now_monotonic: float) -> None:
        """Bring the buffered readings to the disk when the last time was half a second ago or longer; call it every half second at least."""
        if now_monotonic - self._committed_at >= COMMIT_EVERY_S:
            self._committed_at = now_monotonic
            self.commit()
            self._sync()

    def commit(self, synchronous: Literal["FULL", "NORMAL"] = "FULL") -> None:
        """Write the buffered readings now. FULL: on the disk afterwards; NORMAL: safe from the death of the program, on the disk when it is due."""
        if self._buffer:
            with self.transaction(synchronous):
                self._write_readings()
            self._buffer.clear()
            self._is_synced = synchronous == "FULL"  # which takes with it what was written before

    def _sync(self) -> None:
        """Bring to the disk what `commit` has only written: SQLite's log, which would be written once more by a further transaction."""
        if not self._is_synced:
            self.database.sync()
            self._is_synced = True

    def close_steps(self, closed: Iterable[ClosedStep], state: Mapping[str, Any]) -> None:
        """Store `closed` with their repairs, the step builder's `state` after them and the buffered readings: all of it or nothing.

        On the disk when this returns. A step measured before is changed by its revision alone, which remembers what it was; one imported is replaced.
        """
        closed = list(closed)
        with self.transaction():
            self._write_readings()
            rows = [(self._id(name), step.time, value) for step in closed for name, value in step.values.items() if np.isfinite(value)]
            self._db.executemany(_INSERT_MEASURED, rows)
            for revision in (revision for step in closed for revision in step.revisions):
                self._revise(revision)
            repairs = [repair for step in closed for repair in step.repairs]
            self._db.executemany("INSERT INTO repairs VALUES (?, ?, ?, ?)", [(r.time, self._id(r.sensor), r.what, r.value) for r in repairs])
            self._put(BUILDER, state)
            if closed:
                self._put("last_closed", closed[-1].time)
        self._forget_buffer()

    def _revise(self, revision: Revision) -> None:
        key = self._id(revision.sensor), revision.time
        was = revision.was if np.isfinite(revision.was) else None
        self._db.execute("INSERT OR IGNORE INTO revisions (sensor, time, was) VALUES (?, ?, ?)", (*key, was))
        if np.isfinite(revision.value):
            self._db.execute(_REVISE, (*key, revision.value))
        else:
            self._db.execute("DELETE FROM steps WHERE sensor = ? AND time = ? AND imported = 0", key)

    def withdraw(self, open_from: int, *, step_s: int, later_than: float, by_s: float | None) -> int:
        """Take back what was stored by a clock that was ahead; returns how many steps were.

        Args:
            open_from: steps, repairs and forecasts from this unix s on are forgotten, but for imported steps.
            step_s: the step in s.
            later_than: readings later than this unix s
            by_s: were so many seconds earlier in truth; None: are forgotten.
        """
        self.commit()
        with self.transaction() as db:
            (n,) = db.execute("SELECT count(DISTINCT time) FROM steps WHERE time >= ? AND imported = 0", (open_from,)).fetchone()
            db.execute("DELETE FROM steps WHERE time >= ? AND imported = 0", (open_from,))
            for table, column in (("repairs", "time"), ("revisions", "time"), ("forecasts", "origin"), ("issued", "origin")):
                db.execute(f"DELETE FROM {table} WHERE {column} > ?", (open_from,))  # noqa: S608  own names
            if by_s is None:
                db.execute("DELETE FROM readings WHERE time > ?", (later_than,))
            else:
                db.execute("UPDATE OR REPLACE readings SET time = time - ? WHERE time > ?", (by_s, later_than))
            self._put("last_closed", open_from - step_s)
            db.execute("DELETE FROM state WHERE key = ?", (BUILDER,))
        return int(n)

    def import_series(self, series: Series) -> int:
        """Store the known values of `series` from elsewhere where nothing is stored yet; returns how many were."""
        with self.transaction():
            self._check_step(series.step_s)
            before = self._db.total_changes
            for column, feature in enumerate(series.features):
                known = np.flatnonzero(np.isfinite(series.values[:, column]))
                times = (series.start + series.step_s * known).tolist()
                sensor = self._id(feature.name, feature)
                rows = zip(times, series.values[known, column].tolist(), strict=True)
                self._db.executemany("INSERT OR IGNORE INTO steps VALUES (?, ?, ?, 1)", ((sensor, time, value) for time, value in rows))
            return self._db.total_changes - before

    def save_forecast(self, target: str, *, origin: int, issued_at: float, payload: Mapping[str, Any]) -> None:
        """Store a forecast as it was issued (times in unix s). A power cut may take the last ones: not worth a write to the card each."""
        with self.transaction(synchronous="NORMAL"):
            self._db.execute("INSERT OR REPLACE INTO forecasts VALUES (?, ?, ?, ?)", (target, origin, issued_at, json.dumps(payload)))

    def save_state(self, key: str, value: Any) -> None:
        """Remember `value` (JSON) under `key`."""
        with self.transaction():
            self._put(key, value)

    # Reading

    def last_closed(self) -> int | None:
        """Start of the last step closed by this agent, unix s; None when there is none."""
        value = self.state("last_closed")
        return None if value is None else int(value)

    def last_step(self) -> int | None:
        """Start of the last step, unix s, closed or imported; None when there is none."""
        closed, bounds = self.last_closed(), self.bounds()
        return max((time for time in (closed, bounds and bounds[1]) if time is not None), default=None)

    def series(self, features: tuple[Feature, ...], start: int, end: int, step_s: int) -> Series:
        """The steps in [start, end) (unix s, on the grid), NaN where nothing is stored.

        Raises:
            ConfigError: the history holds steps of another length.
        """
        stored = self.state("step_s")
        if stored is not None:
            self._compare_step(stored, step_s)
        values = np.full((max(end - start, 0) // step_s, len(features)), np.nan)
        for column, feature in enumerate(features):
            if feature.name in self._ids:
                self._fill(values[:, column], self._ids[feature.name], start, step_s)
        return Series(start, step_s, features, values)

    def _fill(self, values: np.ndarray[Any, np.dtype[np.float64]], sensor: int, start: int, step_s: int) -> None:
        """Put what is stored of `sensor` into `values`, `(n_steps,)`."""
        query = "SELECT (time - ?) / ?, value FROM steps WHERE sensor = ? AND time >= ? AND time < ?"
        try:
            with self.database.errors("read"):
                rows = self._db.execute(query, (start, step_s, sensor, start, start + step_s * len(values)))
                flat = np.fromiter(chain.from_iterable(rows), np.float64).reshape(-1, 2)
            values[flat[:, 0].astype(np.int64)] = flat[:, 1]
        except (TypeError, ValueError, IndexError) as err:  # text for a number, or a row out of order
            raise self._damaged("steps") from err

    def bounds(self) -> tuple[int, int] | None:
        """Start of the first and of the last step stored for any sensor, unix s; None when there is none."""
        ((first, last),) = self.rows("SELECT min(time), max(time) FROM steps")
        return None if first is None else (first, last)

    def readings_since(self, time: float) -> list[Reading]:
        """Readings of `time` (unix s) and later, oldest first, the buffered ones included."""
        self.commit()
        query = "SELECT name, time, value, retained FROM readings JOIN sensors ON sensor = id WHERE time >= ? ORDER BY time, sensor"
        return [Reading(name, at, value, bool(retained)) for name, at, value, retained in self.rows(query, time)]

    def repairs(self, since: float) -> list[Repair]:
        """Repairs of `since` (unix s) and later, oldest first."""
        query = "SELECT time, name, what, value FROM repairs JOIN sensors ON sensor = id WHERE time >= ? ORDER BY time"
        return [Repair(*row) for row in self.rows(query, since)]

    def revisions(self, since: float) -> list[Revision]:
        """Revisions of steps of `since` (unix s) and later, oldest first."""
        query = (
            "SELECT r.time, name, value, was FROM revisions AS r JOIN sensors ON r.sensor = id"
            " LEFT JOIN steps ON steps.sensor = id AND steps.time = r.time WHERE r.time >= ? ORDER BY r.time, r.sensor"
        )
        nan = float("nan")
        return [
            Revision(time, name, nan if value is None else value, nan if was is None else was) for time, name, value, was in self.rows(query, since)
        ]

    def forecasts(self, target: str, since: int) -> list[StoredForecast]:
        """Forecasts of `target` with an origin of `since` (unix s) and later, oldest first."""
        query = "SELECT origin, issued_at, payload FROM forecasts WHERE target = ? AND origin >= ? ORDER BY origin, issued_at"
        return [StoredForecast(target, origin, issued_at, json.loads(payload)) for origin, issued_at, payload in self.rows(query, target, since)]

    def rows(self, query: str, *values: Any) -> list[Any]:
        """What `query` finds."""
        return self.database.rows(query, *values)

    def state(self, key: str) -> Any:
        """What was remembered under `key`; None when nothing was."""
        value = self.database.one("SELECT value FROM state WHERE key = ?", key)
        try:
            return None if value is None else json.loads(value)
        except (TypeError, ValueError) as err:
            raise self._damaged("state") from err

    # Within

    @property
    def _db(self) -> sqlite3.Connection:
        return self.database.connection

    def _damaged(self, table: str) -> CorruptError:
        return CorruptError(f"{self.path}: table {table} holds what was never written: the file is damaged; the agent sets it aside when it starts")

    def _put(self, key: str, value: Any) -> None:
        self._db.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (key, json.dumps(value)))

    def _id(self, name: str, feature: Feature | None = None) -> int:
        """Number of the sensor called `name`, registered when new; only inside a transaction."""
        if name not in self._ids:
            role, unit = (None, None) if feature is None else (feature.role, feature.unit)
            self._db.execute("INSERT OR IGNORE INTO sensors (name, role, unit) VALUES (?, ?, ?)", (name, role, unit))
            self._ids[name] = self.database.one("SELECT id FROM sensors WHERE name = ?", name)
        return self._ids[name]

    def _write_readings(self) -> None:
        rows = [(r.time, self._id(r.sensor), r.value, r.retained) for r in self._buffer]
        self._db.executemany("INSERT OR REPLACE INTO readings VALUES (?, ?, ?, ?)", rows)

    def _forget_buffer(self) -> None:
        self.readings_written += len(self._buffer)
        self._buffer.clear()

    def _check_step(self, step_s: int) -> None:
        stored = self.state("step_s")
        if stored is None:
            self._put("step_s", step_s)
        else:
            self._compare_step(stored, step_s)

    def _compare_step(self, stored: int, step_s: int) -> None:
        if stored != step_s:
            raise ConfigError(
                f"{self.path}: holds steps of {stored} s, the house has {step_s} s: set step = {stored} in house.toml, or move the file away"
            )

    @contextmanager
    def transaction(self, synchronous: Literal["FULL", "NORMAL"] = "FULL") -> Iterator[sqlite3.Connection]:
        """All of the block or nothing. FULL: on the disk afterwards; NORMAL: safe from the death of the program, not from a power cut."""
        ids = dict(self._ids)
        try:
            with self.database.transaction(synchronous) as connection:
                yield connection
        except BaseException:
            self._ids = ids
            raise
