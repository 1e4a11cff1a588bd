"""What the history forgets: by age, and by size when it grows beyond its limit. In small pieces, so that no message waits for it."""

from __future__ import annotations

from typing import Final

from edge_agent.config import LEAST_STEPS_DAYS, HistoryLimits
from edge_agent.contract.localtime import DAY_S
from edge_agent.history import History

ROWS: Final = 2_000
"""Rows forgotten at once: some milliseconds."""
PAGES: Final = 64
"""Pages given back to the disk at once."""
SPARE_PAGES: Final = 1_024
"""Free pages that stay in the file (4 MB): it is filled again."""


_BY_WORTH: Final = (
    ("readings", "time", 7200.0),  # a start reads those of the open step
    ("issued", "origin", 3.0 * DAY_S),
    ("forecasts", "origin", 7.0 * DAY_S),
    ("weather", "issued_at", 1.0 * DAY_S),
    ("steps", "time", 1.0 * LEAST_STEPS_DAYS * DAY_S),
)
"""What goes first where the file is too large: tables, the columns that tell their rows' age, and the seconds that stay in any case."""


class Retention:
    """Does the forgetting, a piece at a time."""

    def __init__(self, history: History, limits: HistoryLimits) -> None:
        """Watch over `history`, which is open when `tidy` is called."""
        self.history, self.limits = history, limits

    def tidy(self) -> bool:
        """Do one piece of work; False when nothing is left to do.

        Raises:
            ServiceError: the file cannot be written.
        """
        last = self.history.last_closed()
        if last is None:
            return False
        self._limit_file()
        return self._forget_old(last) or self._forget_most(last) or self._give_back()

    def _limit_file(self) -> None:
        """Let SQLite itself refuse to grow beyond the limit."""
        self.history.rows(f"PRAGMA max_page_count = {max(self.limits.max_bytes // self._page_bytes(), 1)}")

    def _forget_old(self, last: int) -> bool:
        limits = self.limits
        ages = (
            ("readings", "time", limits.readings_s),
            ("steps", "time", limits.steps_s),
            ("repairs", "time", limits.steps_s),
            ("revisions", "time", limits.issued_s),
            ("forecasts", "origin", limits.forecasts_s),
            ("issued", "origin", limits.issued_s),
            ("weather", "issued_at", limits.weather_s),
        )
        return any(self._forget(table, time, last - age_s) for table, time, age_s in ages)

    def _forget_most(self, last: int) -> bool:
        """A piece of what is worth least, when the file is nearly full."""
        used = self._count("page_count") - self._count("freelist_count")
        if used * self._page_bytes() <= 0.95 * self.limits.max_bytes:
            return False
        return any(self._forget(table, time, last - least_s) for table, time, least_s in _BY_WORTH)

    def _forget(self, table: str, time: str, before: float) -> bool:
        """Forget the oldest rows of `table` from before unix s `before`, `ROWS` at most; whether there were any."""
        if table == "steps":
            return any(self._delete("steps", "sensor = ? AND time", before, sensor) for (sensor,) in self.history.rows("SELECT id FROM sensors"))
        if table in ("readings", "repairs", "revisions"):
            return self._delete(table, time, before)
        # no index by time, but rows were written in its order
        oldest = f"SELECT rowid FROM (SELECT rowid, {time} FROM {table} ORDER BY rowid LIMIT {ROWS // 10}) WHERE {time} < ?"  # noqa: S608
        with self.history.transaction("NORMAL") as db:
            return db.execute(f"DELETE FROM {table} WHERE rowid IN ({oldest})", (before,)).rowcount > 0  # noqa: S608  own names

    def _delete(self, table: str, where: str, before: float, *values: float) -> bool:
        """Delete what an index finds first."""
        first = f"SELECT time FROM {table} WHERE {where} < ? ORDER BY time LIMIT 1 OFFSET {ROWS}"  # noqa: S608  own names
        with self.history.transaction("NORMAL") as db:
            (stop,) = db.execute(first, (*values, before)).fetchone() or (before,)
            return db.execute(f"DELETE FROM {table} WHERE {where} < ?", (*values, stop)).rowcount > 0  # noqa: S608  own names

    def _give_back(self) -> bool:
        """Give free pages back to the disk when they are many."""
        if self._count("freelist_count") <= max(SPARE_PAGES, self._count("page_count") // 8):
            return False
        before = self._count("page_count")
        self.history.rows(f"PRAGMA incremental_vacuum({PAGES})")
        return self._count("page_count") < before

    def _page_bytes(self) -> int:
        return self._count("page_size")

    def _count(self, pragma: str) -> int:
        return int(self.history.database.one(f"PRAGMA {pragma}"))
