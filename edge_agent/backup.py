"""A whole copy of the history, made while the agent goes on, and put back while it does not."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from edge_agent.contract.bundle import sync_folder
from edge_agent.contract.errors import ServiceError
from edge_agent.contract.schema import HouseSpec
from edge_agent.database import BUSY_S, give_to_owner
from edge_agent.history import History


def back_up(source: Path, target: Path, *, now: float) -> Path:
    """Copy the history at `source` to `target`, whole or not at all; returns the file's path.

    Args:
        source: the history; another program may be writing it.
        target: a file, replaced only by a copy that was checked; or a folder, which gets a file named by the time.
        now: unix s.

    Raises:
        ServiceError: it cannot be read whole, or the copy cannot be written.
    """
    if not target.parent.is_dir():
        raise ServiceError(f"{target}: there is no folder {target.parent}: make it first, or name another place")
    if target.is_dir():
        target /= f"{source.stem}-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}{source.suffix}"
    part = target.with_name(f"{target.name}.part")
    try:
        part.unlink(missing_ok=True)
        _copy(source, part)
        part.replace(target)
    except (sqlite3.Error, OSError) as err:
        part.unlink(missing_ok=True)
        raise ServiceError(f"{source}: cannot be copied to {target} ({err}): check both disks; what was there before is untouched") from err
    return target


def _copy(source: Path, part: Path) -> None:
    with closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)) as connection:
        connection.execute("VACUUM INTO ?", (str(part),))
    with closing(sqlite3.connect(f"{part.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        _check(connection)
    with part.open("rb") as file:
        os.fsync(file.fileno())


def _check(connection: sqlite3.Connection) -> None:
    (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(f"the copy is damaged: {' '.join(found.split())}")


def put_back(copy: Path, target: Path, *, house: HouseSpec, now: float) -> Path | None:
    """Put a copy of the history in the place of `target`, whole or not at all; returns where the one before is kept, None when there was none.

    Raises:
        ServiceError: an agent is using `target`, the copy is damaged, no history of this house, or cannot be put there.
    """
    part = target.with_name(f"{target.name}.part")
    if is_in_use(target):
        raise ServiceError(f"{target}: an agent is using it: stop it first (systemctl stop hearthcast-agent)")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        shutil.copyfile(copy, part)
        with History(part) as history:
            history.bind(house)
        with closing(sqlite3.connect(part)) as connection:
            _check(connection)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        give_to_owner(part)
        aside = _set_aside(target, now=now)
        part.replace(target)
        sync_folder(target.parent)
    except (sqlite3.Error, OSError, ServiceError) as err:
        raise ServiceError(f"{copy}: cannot be put in the place of {target} ({err}): what was there before is untouched") from err
    finally:
        for suffix in ("", "-wal", "-shm"):
            part.with_name(part.name + suffix).unlink(missing_ok=True)
    return aside


def is_in_use(path: Path) -> bool:
    """Whether another program has the history open: SQLite holds a lock on its log's index meanwhile, whatever state the file is in."""
    try:
        with path.with_name(f"{path.name}-shm").open("r+b") as index:
            fcntl.lockf(index, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # there is none
    return False


def _set_aside(target: Path, *, now: float) -> Path | None:
    """Keep the file under another name too; the log that a killed agent has left goes with it, because it is no log of the copy."""
    if not target.exists():
        return None
    aside = target.with_name(f"{target.stem}-before-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}{target.suffix}")
    os.link(target, aside)
    for suffix in ("-wal", "-shm"):
        left = target.with_name(target.name + suffix)
        if left.exists():
            left.rename(aside.with_name(aside.name + suffix))
    return aside
