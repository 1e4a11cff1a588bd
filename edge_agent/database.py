"""One SQLite file that survives kill -9: opened, brought to the newest schema, read, written in transactions, and examined."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal

from edge_agent.contract.errors import CorruptError, FullError, ServiceError, StorageError

BUSY_S: Final = 2.0
"""How long to wait for another program that has locked the file: well under the watchdog's interval."""
CORRUPT: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
NEW_FILE: Final = "PRAGMA auto_vacuum = INCREMENTAL; "
"""Before the first table: so that space can be given back bit by bit, never by writing the whole file anew."""


_OUT_OF_ORDER: Final = """
SELECT 1 FROM (SELECT sensor, time, lag(sensor) OVER w AS sensor_before, lag(time) OVER w AS time_before
               FROM steps WINDOW w AS (ORDER BY sensor, time))
WHERE sensor < sensor_before OR (sensor = sensor_before AND time <= time_before) LIMIT 1
"""
"""Finds a damaged key, which SQLite 3.40 does not look for in a table of this kind, and which hides the rows behind it."""


class Database:
    """A file and the connection to it. One thread only.

    Every method raises StorageError, naming the file and SQLite's reason, when the file cannot be read or written (FullError: there is no room), and
    CorruptError when what it holds is no longer whole.
    """

    def __init__(self, path: Path, *, application_id: int, schemas: Sequence[str]) -> None:
        """Know the file at `path`; `open` opens it.

        Args:
            path: the file.
            application_id: tells another program's database from an own one.
            schemas: the first makes an empty file; each further one brings a file to the next version.
        """
        self.path, self.application_id, self.schemas = path, application_id, schemas
        self._connection: sqlite3.Connection | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, be it for reading only."""
        return self._connection is not None

    def open(self) -> None:
        """Open the file, or make it and the folder it lies in.

        Raises:
            ServiceError: it cannot be opened, belongs to another program, or was written by a newer agent.
        """
        self._make_folder()
        is_new = not self.path.exists()
        with self.errors("opened"):
            self._connect(str(self.path), writable=True)
            if is_new:
                give_to_owner(self.path)

    def _make_folder(self) -> None:
        """A folder that is somebody else's is a mistake to be told at once; a disk that takes nothing may be a matter of time."""
        folder = self.path.parent
        with self.errors("opened"):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                mine = os.access(folder, os.W_OK) or os.statvfs(folder).f_flag & os.ST_RDONLY
            except (PermissionError, FileExistsError, NotADirectoryError):
                mine = False
        if not mine:
            raise ServiceError(f"{self.path}: the history cannot be opened (no right to write in {folder}): give the agent a folder with --state-dir")

    def open_to_read(self) -> None:
        """Open what cannot be written: on a disk that is full or read-only, where SQLite cannot even make the files it keeps beside a database.

        What was not yet carried over from those files is not seen then.

        Raises:
            ServiceError: it cannot be read either.
        """
        with self.errors("opened"):
            address = f"{self.path.absolute().as_uri()}?mode=ro"
            try:
                self._connect(address, writable=False)
            except (sqlite3.OperationalError, StorageError):
                self._connect(f"{address}&immutable=1", writable=False)

    def _connect(self, address: str, *, writable: bool) -> None:
        self.close()
        self._connection = sqlite3.connect(address, isolation_level=None, timeout=BUSY_S, uri=not writable)
        try:
            self._check_version()
            self._prepare(writable=writable)
        except BaseException:
            self.close()
            raise

    def _prepare(self, *, writable: bool) -> None:
        self.connection.execute("PRAGMA cache_size = -512")  # kB; the window of recent steps is in memory already
        if not writable:
            return
        version = self.one("PRAGMA user_version")
        if version == 0:
            self.connection.executescript(NEW_FILE)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA journal_size_limit = 16777216")
        self.connection.execute("PRAGMA foreign_keys = ON")
        missing = "".join(self.schemas[version:])
        if missing:
            header = f"PRAGMA application_id = {self.application_id}; PRAGMA user_version = {len(self.schemas)};"
            self.connection.executescript(f"BEGIN; {missing} {header} COMMIT;")

    def _check_version(self) -> None:
        version, application = self.one("PRAGMA user_version"), self.one("PRAGMA application_id")
        if (version, application) != (len(self.schemas), self.application_id) and self._is_made_of(self.schemas):
            raise CorruptError(f"{self.path}: the header of the file is damaged; the agent sets it aside when it starts and keeps what can be read")
        if self.one("SELECT count(*) FROM sqlite_master") and application != self.application_id:
            raise ServiceError(f"{self.path}: this is another program's database: give the agent a file of its own")
        newest = len(self.schemas)
        if version > newest:
            raise ServiceError(f"{self.path}: history of schema {version}, this agent reads up to {newest}: upgrade the agent, or move the file away")

    def _is_made_of(self, schemas: Sequence[str]) -> bool:
        """Whether the file holds exactly the tables of `schemas`."""
        query = "SELECT name, sql FROM sqlite_master ORDER BY name"
        with closing(sqlite3.connect(":memory:")) as model:
            model.executescript("".join(schemas))
            return model.execute(query).fetchall() == self.rows(query)

    def close(self) -> None:
        """Close the file; what is not committed is lost."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def connection(self) -> sqlite3.Connection:
        """SQLite's connection.

        Raises:
            StorageError: the file is not open.
        """
        if self._connection is None:
            raise StorageError(f"{self.path}: the history is not open: call open() first")
        return self._connection

    def rows(self, query: str, *values: Any) -> list[Any]:
        """What `query` finds."""
        with self.errors("read"):
            return self.connection.execute(query, values).fetchall()

    def one(self, query: str, *values: Any) -> Any:
        """First column of the first row that `query` finds; None when there is none."""
        with self.errors("read"):
            row = self.connection.execute(query, values).fetchone()
        return None if row is None else row[0]

    @contextmanager
    def transaction(self, synchronous: Literal["FULL", "NORMAL"] = "FULL") -> Iterator[sqlite3.Connection]:
        """All of the block or nothing. FULL: on the disk afterwards; NORMAL: safe from the death of the program, not from a power cut."""
        with self.errors("written"):
            connection = self.connection
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def sync(self) -> None:
        """Bring to the disk what transactions with NORMAL have left in SQLite's log."""
        log = self.path.with_name(f"{self.path.name}-wal")
        with self.errors("written"), suppress(FileNotFoundError), log.open("rb") as file:
            os.fsync(file.fileno())

    @contextmanager
    def errors(self, done: str) -> Iterator[None]:
        """SQLite's errors in the block as ours; `done` is what could not be done to the file (`read`, `written`)."""
        try:
            yield
        except (sqlite3.Error, OSError) as err:
            raise _error(err, f"{self.path}: the history cannot be {done} ({err})") from err


def examine(path: Path) -> str | None:
    """What SQLite finds wrong with the file at `path`, with a connection of its own, so that another thread may look; None when all is well."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)) as connection:
            connection.execute("PRAGMA cache_size = -512")
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found == "ok" and connection.execute(_OUT_OF_ORDER).fetchone() is not None:
                found = "steps are out of order"
    except sqlite3.Error as err:
        return str(err) if isinstance(_error(err, ""), CorruptError) else None
    return None if found == "ok" else str(found)


def _error(err: Exception, what: str) -> ServiceError:
    """The error that says what to do."""
    code = getattr(err, "sqlite_errorcode", 0) & 0xFF  # the higher bits tell more exactly where
    if code in CORRUPT or "Could not decode to UTF-8" in str(err):
        return CorruptError(f"{what}: it is damaged; the agent sets it aside when it starts and keeps what can be read")
    if code == sqlite3.SQLITE_FULL:
        return FullError(f"{what}: make room on the disk, or lower max_mb under [history] in agent.toml")
    return StorageError(f"{what}: check the disk, its space and the file's owner")


def give_to_owner(path: Path) -> None:
    """Where root makes a file in the service's folder, it is the service's."""
    owner = path.parent.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.chown(path, owner.st_uid, owner.st_gid)
