"""Run the proofs and write SOAK.md: python -m benchmarks.soak [--only NAME …] [--quick]."""

from __future__ import annotations

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.soak.row import ANSWER, Outcome, Row, read, write
from trainer.machine import git_commit

PROOFS = (
    "kills",
    "brokers",
    "disks",
    "flips",
    "nights",
    "clocks",
    "hostile",
    "sixty_days",
    "load",
    "idle",
)
"""Modules of this package, in the order in which they run. Each has a `TITLE` and
`prove(*, quick: bool, progress: rich.progress.Progress) -> list[Row]`, which shows how far it is with `progress.track(…)`; --quick: some seconds."""
OUT = Path(__file__).parents[1] / "SOAK.md"


def main() -> int:
    """Run all proofs, or those named; 1 when a row fails. Each proof's outcome is written when it is done, so that an end by Ctrl-C costs one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description="Prove that the agent stands it, and write benchmarks/SOAK.md.")
    parser.add_argument("--only", nargs="+", choices=PROOFS, metavar="NAME", help=f"some of {', '.join(PROOFS)} (default: all); the other rows stay")
    parser.add_argument("--quick", action="store_true", help="few repetitions, some seconds a proof: shows that it works, and writes nothing")
    parser.add_argument("--out", type=Path, default=OUT, help="where to write; the rows lie beside it as JSON (default: %(default)s)")
    options = parser.parse_args()
    console, commit, ran = Console(), git_commit(), {}  # what is written below makes the checkout dirty
    for name in options.only or PROOFS:
        rows, minutes = _run(name, console, quick=options.quick)
        ran[name] = Outcome.of(import_module(f"benchmarks.soak.{name}").TITLE, rows, minutes=minutes, commit=commit)
        if not options.quick:
            known = read(options.out) | ran
            write({each: known[each] for each in PROOFS if each in known}, options.out)
    console.print(_table(ran))
    return 0 if all(row.passed is not False for outcome in ran.values() for row in outcome.rows) else 1


def _run(name: str, console: Console, *, quick: bool) -> tuple[list[Row], float]:
    """A proof's rows, and the minutes that it took."""
    proof, start = import_module(f"benchmarks.soak.{name}"), time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        rows = proof.prove(quick=quick, progress=progress)
    return rows, (time.monotonic() - start) / 60


def _table(ran: dict[str, Outcome]) -> Table:
    table = Table("proof", "what", "wanted", "measured", "passed")
    for name, outcome in ran.items():
        for row in outcome.rows:
            table.add_row(name, row.what, row.wanted, row.measured, ANSWER[row.passed].strip("*"), style="red" if row.passed is False else "")
        table.add_section()
    return table


if __name__ == "__main__":
    sys.exit(main())
