"""A damaged history is set aside, and everything that SQLite can still read of it goes into a new one."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any, Final

from edge_agent.database import Database

log = logging.getLogger(__name__)

ASIDE: Final = ".damaged-"
KEPT: Final = 2
"""Damaged files that stay for their owner; older ones go, because each is as large as the history."""
BATCH: Final = 500
PAGE: Final = 4096
"""Bytes: SQLite's own choice."""
NEEDED: Final = ("sensors", "steps")
"""Tables that every history has."""
BESIDE: Final = ("-wal", "-shm")
"""Files that SQLite keeps beside a database."""

Row = tuple[Any, ...]


@dataclass
class Rescue:
    """What came of a damaged file."""

    aside: Path
    """Where the damaged file lies now."""
    saved: Counter[str] = field(default_factory=Counter)
    """Rows in the new file, by table."""
    damaged: set[str] = field(default_factory=set)
    """Tables of which something could not be read."""

    def __str__(self) -> str:
        saved = ", ".join(f"{n} {table}" for table, n in self.saved.items() if n) or "nothing"
        missing = f"; of {', '.join(sorted(self.damaged))} something is lost" if self.damaged else ""
        return f"set aside as {self.aside.name}; saved {saved}{missing}"


def set_aside(database: Database, *, now: float) -> Rescue:
    """Put a new file in the place of `database`'s, which is damaged, with all that can be read of it; the connection is closed.

    The new file is finished before the old one is moved, so that a power cut at any moment leaves one of them to `finish`.

    Raises:
        ServiceError: there is no room, or no right, to write the new file.
    """
    database.close()
    path, part = database.path, _part(database.path)
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    rescue = Rescue(path.with_name(f"{path.name}{ASIDE}{stamp}"))
    with database.errors("written"):
        _remove(part)
        fresh = Database(part, application_id=database.application_id, schemas=database.schemas)
        try:
            fresh.open()
            _copy_all(path, fresh, rescue)
            fresh.close()
        except BaseException:
            fresh.close()
            _remove(part)
            raise
        _swap(path, part, rescue.aside)
        for old in damaged_files(path)[:-KEPT]:
            _remove(old)
    return rescue


def finish(path: Path) -> None:
    """Go on where a power cut stopped `set_aside` between its last two moves."""
    part = _part(path)
    if part.exists() and not path.exists():
        part.rename(path)


def damaged_files(path: Path) -> list[Path]:
    """Damaged files that lie beside the history at `path`, oldest first."""
    return sorted(file for file in path.parent.glob(f"{path.name}{ASIDE}*") if not file.name.endswith(BESIDE))


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _with_beside(path: Path) -> list[Path]:
    return [path, *(path.with_name(path.name + ending) for ending in BESIDE)]


def _remove(path: Path) -> None:
    for each in _with_beside(path):
        each.unlink(missing_ok=True)


def _swap(path: Path, part: Path, aside: Path) -> None:
    """Move the damaged file away and the new one into its place, the log first: SQLite would play an old log into a new file."""
    for old, new in zip(reversed(_with_beside(path)), reversed(_with_beside(aside)), strict=True):
        if old.exists():
            old.rename(new)
    part.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _copy_all(path: Path, fresh: Database, rescue: Rescue) -> None:
    tables = [name for (name,) in fresh.rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
    for address in _ways_in(path, fresh):
        with closing(sqlite3.connect(address, uri=True, isolation_level=None)) as source:
            there = _tables(source)
            if not there.issuperset(NEEDED):
                continue
            with fresh.transaction() as target:
                target.execute("PRAGMA defer_foreign_keys = ON")
                for table in sorted(there.intersection(tables), key=lambda name: (name != "sensors", name)):  # the others refer to it
                    rescue.saved[table] = _copy(source, target, table, rescue)
                _drop_orphans(target)
            return
    rescue.damaged.update(tables)


def _ways_in(path: Path, fresh: Database) -> Iterator[str]:
    """Addresses under which SQLite may be able to read the file: as it is, without its log, and with another first page."""
    whole = path.absolute().as_uri()
    yield f"{whole}?mode=ro"
    yield f"{whole}?mode=ro&immutable=1"
    grafted = path.with_name(f"{path.name}.grafted")
    try:
        _graft(path, grafted, fresh)
        yield f"{grafted.absolute().as_uri()}?mode=rw"
    finally:
        _remove(grafted)


def _graft(path: Path, grafted: Path, fresh: Database) -> None:
    """Copy a damaged file, but for its first page, which says where every table begins and holds no row: that is taken from a new file.

    Tables begin in the same places in every file, because SQLite keeps the beginnings together at the front of a file with incremental vacuum, in the
    order in which the tables were made.
    """
    _remove(grafted)
    new = Database(grafted, application_id=fresh.application_id, schemas=fresh.schemas)
    new.open()
    new.close()  # SQLite's log goes into the file
    page = bytearray(grafted.read_bytes()[:PAGE])
    page[28:32] = (path.stat().st_size // PAGE).to_bytes(4, "big")  # pages in the file
    page[32:40] = bytes(8)  # no free ones, as far as reading goes
    for old, copy in zip(_with_beside(path)[:2], _with_beside(grafted)[:2], strict=True):
        if old.exists():
            shutil.copyfile(old, copy)
    with grafted.open("r+b") as file:
        file.write(page)


def _tables(source: sqlite3.Connection) -> set[str]:
    """Names of the tables that SQLite finds; none where it cannot read the file."""
    try:
        return {name for (name,) in source.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error as err:
        log.debug("nothing to read: %s", err)
        return set()


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, table: str, rescue: Rescue) -> int:
    """Copy the rows of `table` that can be read and make sense; returns how many."""
    columns = [row[1] for row in target.execute(f"PRAGMA table_info({table})")]
    sensors = [number for (number,) in target.execute("SELECT id FROM sensors")]
    (sql,) = target.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    key = "time" if "WITHOUT ROWID" in sql else "rowid"
    pieces = _Pieces(source, table, columns, key=key, sensors=sensors, damaged=lambda: rescue.damaged.add(table))
    insert = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608  own names
    before = target.total_changes
    for rows in pieces.all():
        sound = [row for row in rows if _is_sound(table, row)]
        if len(sound) < len(rows):
            rescue.damaged.add(table)
        target.executemany(insert, sound)
    return target.total_changes - before


def _is_sound(table: str, row: Row) -> bool:
    """Whether a row holds what its table is for: a damaged page may give text for a number."""
    if table in ("steps", "readings"):
        return all(isinstance(value, (int, float)) and isfinite(value) for value in row)
    if table == "state":
        return isinstance(row[0], str) and _is_json(row[1])
    return table != "sensors" or (isinstance(row[0], int) and isinstance(row[1], str))


def _is_json(text: Any) -> bool:
    try:
        json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _drop_orphans(target: sqlite3.Connection) -> None:
    """Rows of sensors whose name is lost belong to nobody."""
    for table in ("steps", "readings", "repairs", "revisions"):
        target.execute(f"DELETE FROM {table} WHERE sensor NOT IN (SELECT id FROM sensors)")  # noqa: S608  own names


class _Pieces:
    """The rows of one table in pieces that can be read, past those that cannot."""

    def __init__(
        self, source: sqlite3.Connection, table: str, columns: Iterable[str], *, key: str, sensors: Iterable[int], damaged: Callable[[], Any]
    ) -> None:
        self.source, self.table, self.key, self.sensors, self.damaged = source, table, key, sensors, damaged
        self.columns = ", ".join(columns)

    def all(self) -> Iterator[list[Row]]:
        if self.table == "sensors":
            yield from self._one_by_one("ORDER BY id")
            # the index of the names holds them a second time
            self.columns = "id, name, NULL, NULL"
            yield from self._one_by_one("INDEXED BY sqlite_autoindex_sensors_1 WHERE name > '' ORDER BY name")
        elif self.table == "state":
            yield from self._one_by_one("ORDER BY key")
            yield from self._one_by_one("ORDER BY key DESC")
        elif self.table == "steps":
            for sensor in self.sensors:
                yield from self._along("time", f"sensor = {sensor} AND ")
            # A damaged number of a sensor or a time ends a search for it, but not a walk through all rows, from either end; nor does a row whose end
            # is damaged, where SQLite need not read that far: such a one is taken for imported, so that nothing takes it back.
            self.columns = "sensor, time, value, 1"
            for order in ("", " DESC"):
                yield from self._one_by_one(f"ORDER BY sensor{order}, time{order}")
        else:
            yield from self._along(self.key, "")

    def _one_by_one(self, order: str) -> Iterator[list[Row]]:
        """Until the first row that cannot be read."""
        query, n = f"SELECT {self.columns} FROM {self.table} {order}", 0  # noqa: S608  own names
        try:
            for row in self.source.execute(query):
                n += 1
                yield [row]
        except sqlite3.Error:
            self.damaged()
            # Python hands a row over only when it has the next: the last one before the damage comes alone
            yield self._try(f"{query} LIMIT 1 OFFSET {n}") or []

    def _try(self, query: str, *values: float) -> list[Row] | None:
        """Rows; None, and noted, when they cannot be read."""
        try:
            return self.source.execute(query, values).fetchall()
        except sqlite3.Error:
            self.damaged()
            return None

    def _along(self, key: str, where: str) -> Iterator[list[Row]]:
        """In the order of a number; at a damaged place, on from the next number at which something can be read."""
        after: float = -(2**62)
        while True:
            rows = self._next(key, where, after, BATCH)
            if rows is None:
                rows = self._next(key, where, after, 1)
            if rows is None:
                beyond = self._beyond(key, where, after)
                if beyond is None:
                    return
                after = beyond
            elif not rows:
                return
            else:
                yield [row[1:] for row in rows]
                if rows[-1][0] <= after:  # an order that is no order: damaged
                    return
                after = rows[-1][0]

    def _next(self, key: str, where: str, after: float, limit: int) -> list[Row] | None:
        query = f"SELECT {key}, {self.columns} FROM {self.table} WHERE {where}{key} > ? ORDER BY {key} LIMIT {limit}"  # noqa: S608  own names
        rows = self._try(query, after)
        if rows is not None and not all(isinstance(row[0], (int, float)) for row in rows):
            self.damaged()
            return None
        if not rows or len(rows) < limit:
            return rows
        last = rows[-1][0]  # more rows may share it
        whole = [row for row in rows if row[0] < last]
        return whole or self._try(f"SELECT {key}, {self.columns} FROM {self.table} WHERE {where}{key} = ?", last)  # noqa: S608  own names

    def _beyond(self, key: str, where: str, after: float) -> float | None:
        """The least number behind which rows can be read again, by doubling the leap and then halving it; None when there is none."""
        last = self._try(f"SELECT max({key}) FROM {self.table} WHERE {where}{key} > ?", after)  # noqa: S608  own names
        end = 4_102_444_800.0 if not last or not isinstance(last[0][0], (int, float)) else float(last[0][0])
        bad, leap = max(after, 0.0), 1.0
        while self._next(key, where, good := min(bad + leap, end - 1), 1) is None:
            if good >= end - 1:
                return None
            leap *= 2
        if good <= after:
            return None
        bad += leap / 2
        while good - bad > 1:
            middle = (good + bad) // 2
            bad, good = (middle, good) if self._next(key, where, middle, 1) is None else (bad, middle)
        return good
