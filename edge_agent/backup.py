"""A whole copy of the history, made while the agent goes on."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from edge_agent.contract.errors import ServiceError
from edge_agent.database import BUSY_S


def back_up(source: Path, target: Path, *, now: float) -> Path:
    """Copy the history at `source` to `target`, whole or not at all; returns the file's path.

    Args:
        source: the history; another program may be writing it.
        target: a file, replaced only by a copy that was checked; or a folder, which gets a file named by the time.
        now: unix s.

    Raises:
        ServiceError: it cannot be read whole, or the copy cannot be written.
    """
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
        (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(f"the copy is damaged: {found}")
    with part.open("rb") as file:
        os.fsync(file.fileno())
