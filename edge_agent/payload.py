"""Numbers and times as they stand in JSON payloads; None for what is neither. Never an exception, whatever stands there."""

from __future__ import annotations

from datetime import UTC, datetime
from math import isfinite
from typing import Any, Final

MILLISECONDS_FROM: Final = 1e11
"""As seconds this is the year 5138, as milliseconds 1973: larger numbers are milliseconds."""
LATEST: Final = 4_102_444_800
"""2100-01-01: no time in a message lies beyond."""


def number_in(raw: Any) -> float | None:
    """`raw` as a float when it is a number or a text that is one; a boolean is none."""
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
        return None
    if isinstance(raw, str):
        raw = raw.strip().strip('"')
        if "_" in raw:  # Python would read 1_000 as a thousand
            return None
    try:
        return float(raw)
    except (ValueError, OverflowError):
        return None


def unix_s_in(raw: Any, *, naive_offset_s: float | None = None) -> float | None:
    """`raw` as unix s: an epoch in s or ms, or ISO 8601; without an offset only where `naive_offset_s` says how far its clock is ahead of UTC."""
    number = number_in(raw)
    if number is not None:
        return (number / 1000 if number >= MILLISECONDS_FROM else number) if isfinite(number) else None
    if not isinstance(raw, str):
        return None
    try:
        time = datetime.fromisoformat(raw.strip())
    except ValueError:
        return None
    if time.tzinfo is not None:
        return time.timestamp()
    return None if naive_offset_s is None else time.replace(tzinfo=UTC).timestamp() - naive_offset_s
