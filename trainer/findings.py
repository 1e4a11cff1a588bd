"""What is wrong with a table: the first thing found raises, or, under repair, everything is noted with what was done about it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_agent.contract.errors import DataError

Ints = npt.NDArray[np.int64]

ROWS_SHOWN = 5


def in_rows(rows: Ints) -> str:
    """`row 7`, or `rows 7, 9, 12, 15, 18, …`: as an editor counts them, the header being row 1."""
    shown = ", ".join(str(row) for row in rows[:ROWS_SHOWN])
    return f"row{'s' if len(rows) > 1 else ''} {shown}{', …' if len(rows) > ROWS_SHOWN else ''}"


class Findings:
    """Settles what is wrong in one file."""

    def __init__(self, source: str, *, repair: bool) -> None:
        """`source` names the file in every message."""
        self.source, self.repair = source, repair
        self.repairs: list[str] = []
        """What was repaired, with counts and first rows."""
        self.notes: list[str] = []
        """What is worth knowing and not wrong."""

    def error(self, problem: str, expected: str) -> DataError:
        """The error to raise about what no repair can mend."""
        return DataError(f"{self.source}: {problem}: {expected}")

    def settle(self, problem: str, rows: Ints, *, expected: str, repair: str) -> None:
        """Note that `rows` have a problem and that the caller repairs it; nothing happens when there are none.

        Args:
            problem: what is wrong, with its count.
            rows: row numbers.
            expected: what was expected, and what to do.
            repair: what the repair does.

        Raises:
            DataError: no repair is wanted.
        """
        if not len(rows):
            return
        if not self.repair:
            raise self.error(f"{problem} ({in_rows(rows)})", f"{expected}, or use --repair ({repair})")
        self.repairs.append(f"{self.source}: {problem} ({in_rows(rows)}): {repair}")

    def note(self, text: str) -> None:
        """Remember something that is not wrong."""
        self.notes.append(f"{self.source}: {text}")


def count(number: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
