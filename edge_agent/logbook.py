"""The agent's log: lines for people or JSON for programs, and what repeats is counted instead of written again."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TextIO

FREE: Final = 3
"""Lines alike that are written before counting begins."""
WINDOW_S: Final = 3600.0
LONGEST_WINDOW_S: Final = 86_400.0
MOST_KEPT: Final = 200
"""Kinds of line that are remembered."""
PRIORITIES: Final = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}
"""What sd-daemon(3) calls them."""
_NUMBERS: Final = re.compile(r"\d+")


@dataclass
class _Seen:
    """One kind of line."""

    last: logging.LogRecord
    since: float
    window_s: float = WINDOW_S
    written: int = 1
    kept_back: int = 0


class Logbook(logging.StreamHandler[TextIO]):
    """Writes records to a stream.

    Of records that differ in nothing but numbers, three an hour are written. The rest are counted, and the next one that is written says how many
    there were; while they go on, that is after one, two, four hours and so on, and at last once a day. What is told of nobody else is told with the
    next line of any kind, and at the end. Records below INFO are all written.
    """

    def __init__(self, stream: TextIO, *, form: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Write to `stream` in `form` (`text` or `json`); `clock` counts seconds."""
        super().__init__(stream)
        self.setFormatter(JsonForm() if form == "json" else TextForm(is_journal=_is_journal(stream)))
        self._clock = clock
        self._seen: dict[tuple[str, int, str], _Seen] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write `record`, or count it."""
        if record.levelno < logging.INFO:
            super().emit(record)
            return
        key = record.name, record.levelno, _NUMBERS.sub("#", record.getMessage())
        admitted = self._admitted(key, record)
        for summary in self._summaries(lambda seen: self._clock() - seen.since >= seen.window_s):
            super().emit(summary)
        if admitted:
            super().emit(record)

    def close(self) -> None:
        """Tell what was kept back."""
        for summary in self._summaries(lambda _: True):
            super().emit(summary)
        super().close()

    def _admitted(self, key: tuple[str, int, str], record: logging.LogRecord) -> bool:
        now, seen = self._clock(), self._seen.get(key)
        if seen is None:
            if len(self._seen) >= MOST_KEPT:
                self._forget_oldest()
            self._seen[key] = _Seen(_bare(record), now)
            return True
        seen.last = _bare(record)
        if now - seen.since >= seen.window_s:
            if seen.kept_back:
                record.repeated = seen.kept_back
            window_s = min(2 * seen.window_s, LONGEST_WINDOW_S) if seen.kept_back else WINDOW_S
            self._seen[key] = _Seen(seen.last, now, window_s, FREE if seen.kept_back else 1)
            return True
        if seen.written < FREE:
            seen.written += 1
            return True
        seen.kept_back += 1
        return False

    def _forget_oldest(self) -> None:
        key = min(self._seen, key=lambda key: (self._seen[key].kept_back > 0, self._seen[key].since))
        del self._seen[key]

    def _summaries(self, is_due: Callable[[_Seen], bool]) -> Iterator[logging.LogRecord]:
        """The last of each kind that was kept back, with how many there were."""
        for key, seen in list(self._seen.items()):
            if seen.kept_back and is_due(seen):
                seen.last.repeated = seen.kept_back
                self._seen[key] = _Seen(seen.last, self._clock(), min(2 * seen.window_s, LONGEST_WINDOW_S), FREE)
                yield seen.last


def _bare(record: logging.LogRecord) -> logging.LogRecord:
    """`record` without the traceback, which would keep alive whatever its frames hold."""
    return logging.makeLogRecord({**record.__dict__, "msg": record.getMessage(), "args": (), "exc_info": None, "exc_text": None})


class TextForm(logging.Formatter):
    """`LEVEL logger: message key=value …`, behind a priority where the journal reads it."""

    def __init__(self, *, is_journal: bool) -> None:
        super().__init__()
        self.is_journal = is_journal

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback's below it."""
        fields = "".join(f" {key}={value if isinstance(value, int | float) else json.dumps(value)}" for key, value in _fields(record).items())
        text = f"{record.levelname} {record.name}: {record.getMessage()}{fields}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        prefix = f"<{PRIORITIES.get(record.levelname, 6)}>" if self.is_journal else ""
        return "\n".join(prefix + line for line in text.split("\n"))


class JsonForm(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """`time` (UTC), `level`, `logger`, `message`, the record's fields, and `traceback` where there is one."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """What `log.info(…, extra={"fields": {…}})` gave, and how often the line was kept back."""
    fields: dict[str, object] = dict(getattr(record, "fields", {}))
    if hasattr(record, "repeated"):
        fields["repeated"] = record.repeated
    return fields


def _is_journal(stream: TextIO) -> bool:
    """Whether systemd's journal reads `stream`; see systemd.exec(5), JOURNAL_STREAM."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def keep_log(stream: TextIO, *, level: str, form: str) -> None:
    """Let every logger of this process write to `stream`."""
    logging.basicConfig(level=level.upper(), handlers=[Logbook(stream, form=form)])
