"""What was found in one house's history, or in hundreds, as a person reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trainer.findings import Finding, count

STYLES: Final = {"refused": "red", "masked": "yellow", "repaired": "cyan", "noted": "dim"}
"""By what was done, the worst first."""
NAMED: Final = 12
"""Refused homes that are named on the terminal, and homes of a kind."""
HOMES_OF_A_KIND: Final = 3


def print_findings(console: Console, findings: Sequence[Finding], notes: Sequence[str] = ()) -> None:
    """Everything found in one house's history, a row each."""
    if findings:
        console.print(findings_table(findings))
    else:
        console.print("history checked: no fault found", soft_wrap=True)
    for line in notes:
        console.print(f"note: {escape(line)}", soft_wrap=True)


def findings_table(findings: Sequence[Finding]) -> Table:
    """One row a finding."""
    sources = {finding.source for finding in findings}
    table = _table(f"history checked: {count(len(findings), 'finding')}")
    for finding in _worst_first(findings):
        source = f"{finding.source}: " if len(sources) > 1 else ""
        text = escape(f"{source}{_what_and_how(finding)}")
        table.add_row(finding.done, finding.sensor or "all", f"{finding.steps:,}", text, style=STYLES[finding.done])
    return table


def print_summary(console: Console, findings: Sequence[Finding], n_homes: int) -> None:
    """What was found in many homes: a row for each kind, then each refused home with its reason. `source` is the house."""
    if not findings:
        console.print(f"histories of {count(n_homes, 'home')} checked: no fault found", soft_wrap=True)
        return
    console.print(summary_table(findings, n_homes))
    refused = [finding for finding in findings if finding.done == "refused"]
    for finding in refused[:NAMED]:
        console.print(f"[red]left out:[/] {escape(f'{home_of(finding)}: {_what_and_how(finding)}')}", soft_wrap=True)
    if len(refused) > NAMED:
        console.print(f"[red]left out:[/] {len(refused) - NAMED} more, named in run.json", soft_wrap=True)


def summary_table(findings: Sequence[Finding], n_homes: int, *, where: str = "in run.json") -> Table:
    """One row for each kind of finding and what was done about it; every single one stands `where`."""
    table = _table(f"histories of {count(n_homes, 'home')} checked; every finding stands {where}", "homes")
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in _worst_first(findings):
        groups.setdefault((finding.done, finding.kind), []).append(finding)
    for (done, kind), group in groups.items():
        homes = list(dict.fromkeys(home_of(finding) for finding in sorted(group, key=lambda finding: -finding.steps)))
        shown = ", ".join(homes[:HOMES_OF_A_KIND]) + (", …" if len(homes) > HOMES_OF_A_KIND else "")
        steps = sum(finding.steps for finding in group)
        table.add_row(done, f"{len(homes):,}", f"{steps:,}", escape(f"{KINDS.get(kind, kind)}: {shown}"), style=STYLES[done])
    return table


KINDS: Final = {
    "time": "times that cannot be",
    "order": "rows out of order",
    "duplicate": "rows with the time of another",
    "grid": "times off the grid",
    "gap": "gaps",
    "text": "text where numbers belong",
    "range": "values that cannot be",
    "negative": "negative values, as of solar export",
    "reset": "counters begun anew",
    "replay": "old counter readings sent again",
    "contradiction": "files that contradict each other",
    "column": "columns that cannot be used",
    "table": "tables that cannot be used",
    "short": "too little history",
    "dead": "dead stretches: constant, or filled in",
    "lump": "energy of a longer time in one step",
    "copy": "stretches copied from an earlier time",
    "level": "use that homes hardly have",
    "empty": "homes that use nothing most of the time",
    "unit": "changes of unit",
    "clock": "hours shifted in summer",
    "coarse": "energy of many hours in each row",
}
"""Every kind of finding, in words."""


def home_of(finding: Finding) -> str:
    """House and sensor, or the house alone where all of it is meant."""
    return f"{finding.source}:{finding.sensor}" if finding.sensor else finding.source


def _what_and_how(finding: Finding) -> str:
    """The table has a column for `masked` and `left out` already."""
    return finding.what if finding.how in ("masked", "left out") else f"{finding.what}: {finding.how}"


def record_of(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """What run.json says."""
    return [finding.to_dict() for finding in findings]


def _worst_first(findings: Sequence[Finding]) -> list[Finding]:
    order = list(STYLES)
    return sorted(findings, key=lambda finding: order.index(finding.done))


def _table(title: str, second: str = "sensor") -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column(second, justify="right" if second == "homes" else "left", overflow="fold")
    table.add_column("steps", justify="right", no_wrap=True)
    table.add_column("what was found, and what was done" if second == "sensor" else "what was found, the most steps first", overflow="fold")
    return table
