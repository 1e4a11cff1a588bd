"""What is wrong with a house's history, and what was done about it.

Faults of a table raise at once or, under repair, are mended and noted. What a meter itself got wrong (dead weeks, copied days) is masked and noted
in any case: `trainer/quality.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from edge_agent.contract.errors import DataError
from edge_agent.contract.localtime import iso_utc

Ints = npt.NDArray[np.int64]
Done = Literal["repaired", "masked", "refused", "noted"]

ROWS_SHOWN: Final = 5
DOUBTFUL: Final = ("dead", "lump", "copy", "empty", "unit", "clock", "coarse")
"""Kinds that are told from how homes usually behave: a person may know better, and accept what is found as true of this house."""

ACCEPT_HELP: Final = "kinds of findings that are true of this house, to be left as they are: dead, lump, copy, empty, unit, clock, coarse"


@dataclass(frozen=True)
class Finding:
    """One thing found in a house's history."""

    source: str
    """The file, files or house it was found in."""
    kind: str
    """In a word, one of KINDS of `quality_report.py`."""
    what: str
    """What was found, with counts and places."""
    done: Done
    """`repaired` values were changed, `masked` steps are unknown from now on, a `refused` sensor is unknown throughout, the rest is as it was."""
    how: str
    """What was done, or, where nothing was, what to do."""
    sensor: str = ""
    """Empty when the whole table is meant."""
    steps: int = 0
    """How many rows or steps it concerns."""
    start: int | None = None
    """Unix s of the first of them, where that is known."""
    end: int | None = None
    """Unix s after the last."""

    def __str__(self) -> str:
        who = f"{self.sensor}: " if self.sensor and self.sensor not in self.what else ""
        return f"{self.source}: {who}{self.what}: {self.how}"

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def in_rows(rows: Ints) -> str:
    """`row 7`, or `rows 7, 9, 12, 15, 18, …`: as an editor counts them, the header being row 1."""
    shown = ", ".join(str(row) for row in rows[:ROWS_SHOWN])
    return f"row{'s' if len(rows) > 1 else ''} {shown}{', …' if len(rows) > ROWS_SHOWN else ''}"


def at_times(times: Ints) -> str:
    """`at 2026-01-01T00:00:00Z`, or the first few of `times` (unix s)."""
    return f"at {', '.join(map(iso_utc, times[:ROWS_SHOWN].tolist()))}{', …' if len(times) > ROWS_SHOWN else ''}"


class Findings:
    """Settles what is wrong in one file."""

    def __init__(
        self, source: str, *, repair: bool, accept: Collection[str] = (), leave_out: bool = False, place: Callable[[Ints], str] = in_rows
    ) -> None:
        """Begin with nothing found.

        Args:
            source: names the file in every message.
            repair: whether faults are to be repaired.
            accept: those of DOUBTFUL that are true of this house.
            leave_out: whether columns at fault are left out instead of raising.
            place: says where the rows at fault are, by their numbers.
        """
        self.place = place
        self.source, self.repair, self.accept, self.leave_out = source, repair, frozenset(accept), leave_out
        self.found: list[Finding] = []
        self.left_out: dict[str, str] = {}
        """Why, by column."""
        self.notes: list[str] = []
        """What is worth knowing and not wrong."""

    @property
    def repairs(self) -> list[str]:
        """What was repaired or masked, with counts and first rows."""
        return [str(finding) for finding in self.found]

    def error(self, problem: str, expected: str) -> DataError:
        """The error to raise about what no repair can mend."""
        return DataError(f"{self.source}: {problem}: {expected}")

    def settle(
        self,
        problem: str,
        rows: Ints,
        *,
        expected: str,
        repair: str,
        kind: str,
        done: Done = "masked",
        sensor: str = "",
        steps: int | None = None,
        span: tuple[int, int] | tuple[None, None] = (None, None),
    ) -> None:
        """Note that `rows` have a problem and that the caller repairs it; nothing happens when there are none.

        Args:
            problem: what is wrong, with its count.
            rows: row numbers.
            expected: what was expected, and what to do.
            repair: what the repair does.
            kind: of the finding.
            done: what the repair amounts to.
            sensor: whose values they are; empty: of all.
            steps: how many steps it concerns, when that is not one a row.
            span: unix s of the first of them and after the last, where known.

        Raises:
            DataError: no repair is wanted.
        """
        if len(rows):
            steps = len(rows) if steps is None else steps
            self.decide(Finding(self.source, kind, f"{problem} ({self.place(rows)})", done, repair, sensor, steps, *span), expected=expected)

    def decide(self, finding: Finding, *, expected: str) -> bool:
        """Note a fault, with what its repair does; True when the caller is to repair it, False when it is accepted as it is.

        Raises:
            DataError: no repair is wanted. It tells what was `expected`.
        """
        if finding.kind in self.accept:
            self.found.append(replace(finding, done="noted", how="left as it is, as asked by --accept"))
            return False
        if not self.repair:
            way_out = f", or --accept {finding.kind} if the home really is so" if finding.kind in DOUBTFUL else ""
            raise self.error(finding.what, f"{expected}, or use --repair ({finding.how}){way_out}")
        self.found.append(finding)
        return True

    @contextmanager
    def column(self, name: str) -> Iterator[None]:
        """What is wrong with this column does not end the reading of the others, where columns are left out."""
        try:
            yield
        except DataError as err:
            if not self.leave_out:
                raise
            self.left_out[name] = str(err).removeprefix(f"{self.source}: ")

    def note(self, text: str) -> None:
        """Remember something that is not wrong."""
        self.notes.append(f"{self.source}: {text}")


def count(number: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
