"""The tables of ACCURACY.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from benchmarks.accuracy.cases import PERFECT_WEATHER, TITLES, Case
from benchmarks.accuracy.houses import HOMES
from benchmarks.accuracy.material import Prepared
from benchmarks.accuracy.rows import FINE_TUNED, ZERO_SHOT
from benchmarks.accuracy.scoring import Scored, Spread, is_sure
from benchmarks.accuracy.tables import Tables
from benchmarks.accuracy.yardsticks import CLIMATOLOGY, ROOM_NAIVE
from benchmarks.section import Section
from edge_agent.contract.localtime import iso_utc

COLUMNS: Final = ["", "MAE", "RMSE", "CRPS", "p10-p90", "day Wh", "CRPS skill", "day skill", "day over yesterday's", "behind"]
BEHIND: Final = "*Behind*: is the row's CRPS worse than that of Hearthcast zero-shot / fine-tuned? In brackets: by less than chance explains (95 %)."


def home_section(home: str, tables: Tables) -> Section | None:
    """Every method on every origin of one home."""
    rows = tables.full(home)
    if not rows:
        return None
    case = tables.case(home, "energy")
    text = f"{span_text(case)} Errors in Wh a step of {case.spec.step_s // 60} min. {BEHIND}"
    return Section(HOMES[home].title, text, COLUMNS, _lines(rows))


def few_section(tables: Tables) -> Section | None:
    """Methods that are asked at few origins, with the others at the same."""
    lines, counts = [], []
    for home in tables.homes:
        found = tables.few(home)
        if found is not None:
            size, rows = found
            counts.append(f"{size} in {HOMES[home].title}")
            lines += [[f"{home}: {first}", *rest] for first, *rest in _lines(rows)]
    text = "Methods that are fitted anew for every forecast are asked at fewer origins, spread over the span and the hours of the week"
    return Section("On fewer origins", f"{text}: {'; '.join(counts)}. {BEHIND}", COLUMNS, lines) if lines else None


def _lines(rows: Sequence[Scored]) -> list[list[str]]:
    ours = [row for label in (ZERO_SHOT, FINE_TUNED) for row in rows if row.label == label]
    best, best_total = (max(row[figure].mean for row in rows) for figure in ("crps_skill", "total_skill"))
    return [[*_cells(row, best=best, best_total=best_total), _behind(row, ours)] for row in rows]


def _cells(row: Scored, *, best: float, best_total: float) -> list[str]:
    crps, total = percent(row["crps_skill"]), percent(row["total_skill"])
    return [
        f"**{row.label}**" if row.kind == "hearthcast" else row.label,
        *(f"{row[name].mean:.4g}" for name in ("mae", "rmse", "crps")),
        f"{row['coverage'].mean:.2f}",
        f"{row['total_mae'].mean:,.0f}",
        f"**{crps}**" if row["crps_skill"].mean == best else crps,
        f"**{total}**" if row["total_skill"].mean == best_total else total,
        percent(row["total_skill_yesterday"]),
    ]


def _behind(row: Scored, ours: Sequence[Scored]) -> str:
    if row.kind == "hearthcast" or not ours:
        return "-"
    return " / ".join(_verdict(row, own) for own in ours)


def _verdict(row: Scored, own: Scored) -> str:
    word = "yes" if row["crps"].mean > own["crps"].mean else "**no**"
    return word if is_sure(row.losses, own.losses, row.origins) else f"({word})"


def span_text(case: Case) -> str:
    """Scored span and origins."""
    end = int(case.origins[-1]) + case.horizon * case.spec.step_s
    return f"{len(case.origins):,} origins, {iso_utc(int(case.origins[0]))[:16]} to {iso_utc(end)[:16]} UTC."


def percent(spread: Spread) -> str:
    """A skill in percent, with half the seeds' range."""
    if math.isnan(spread.mean):
        return "-"
    return f"{100 * round(spread.mean, 3) + 0:+.1f} %" + (f" ±{100 * spread.half:.1f}" if spread.n > 1 else "")


def room_section(home: str, tables: Tables) -> Section | None:
    """MAE of each room beside its three naive forecasts."""
    targets = tables.targets(home)
    if not targets:
        return None
    methods = room_methods(home, tables)
    columns = [
        "",
        *ROOM_NAIVE,
        "climatology",
        *(f"{_named(label, variant)}: {what}" for label, variant in methods for what in ("MAE", "skill", "p10-p90")),
    ]
    lines = []
    for target in targets:
        naive, least = naive_errors(home, target, tables)
        climatology = tables.row(home, CLIMATOLOGY, target)
        cells = [*(f"**{v:.3f}**" if v == least else f"{v:.3f}" for v in naive), f"{climatology['mae'].mean:.3f}" if climatology else "-"]
        lines.append([target, *cells, *(cell for label, variant in methods for cell in _room_cells(tables.row(home, label, target, variant), least))])
    how = "MAE in degC and % of the 24 hourly means; skill is against the best of a room's three naive forecasts (bold)."
    text = f"{span_text(tables.case(home, targets[0]))} {how}"
    means = [f"{_named(*method)} {100 * skill:+.1f} %" for method in methods if (skill := room_skill(home, *method, tables)) is not None]
    return Section(HOMES[home].title, f"{text} Mean skill over the rooms: {'; '.join(means)}." if means else text, columns, lines)


def room_methods(home: str, tables: Tables) -> list[tuple[str, str]]:
    """Labels and variants of Hearthcast's rows for the rooms of a home."""
    found = [
        (row.label, variant)
        for target in tables.targets(home)
        for variant in ("full", PERFECT_WEATHER)
        for row in tables.full(home, target, variant)
        if row.kind == "hearthcast"
    ]
    return list(dict.fromkeys(found))


def naive_errors(home: str, target: str, tables: Tables) -> tuple[list[float], float]:
    """MAE of a room's naive forecasts, and the least of them."""
    rows = [row for label in ROOM_NAIVE if (row := tables.row(home, label, target))]
    errors = [row["mae"].mean for row in rows]
    return errors, min(errors)


def room_skill(home: str, label: str, variant: str, tables: Tables) -> float | None:
    """Mean over the rooms of 1 - MAE / MAE of the room's best naive forecast; None where there is none."""
    found = [(row["mae"].mean, naive_errors(home, t, tables)[1]) for t in tables.targets(home) if (row := tables.row(home, label, t, variant))]
    return sum(1 - own / least for own, least in found) / len(found) if found else None


def _room_cells(row: Scored | None, least: float) -> list[str]:
    if row is None:
        return ["-", "-", "-"]
    mae = row["mae"]
    spread = f" ±{mae.half:.3f}" if mae.n > 1 else ""
    return [f"{mae.mean:.3f}{spread}", f"{100 * (1 - mae.mean / least):+.1f} %", f"{row['coverage'].mean:.2f}"]


def _named(label: str, variant: str) -> str:
    return label if variant == "full" else f"{label}, {TITLES[variant]}"


def less_section(tables: Tables) -> Section | None:
    """What less to see costs, and what a perfect weather forecast brings."""
    lines = []
    for home, target, variant in tables.groups:
        if variant == "full" or target != "energy" or home not in tables.homes:
            continue
        whole = tables.like(home, variant)
        for row in tables.full(home, target, variant):
            change = row["crps_skill"].mean - whole[row.label]["crps_skill"].mean if row.label in whole else math.nan
            figures = [percent(row["crps_skill"]), f"{100 * round(change, 3) + 0:+.1f}", percent(row["total_skill"]), f"{row['coverage'].mean:.2f}"]
            lines.append([f"{home}: {TITLES[variant]}", row.label, *figures])
    text = (
        "Skill over the climatology that sees everything, at up to some 700 origins of each home; *change*: points of CRPS skill beside the same row "
        "with nothing taken away. Sensors fall silent at random, for half a day on average; the counter shows 0.01 kWh, what happened stays exact. "
        "A model that reads no other sensor has no row for missing ones. A perfect weather forecast is what was measured "
        "later; in Houston, where only each day's lowest and highest temperature are known, a curve between them."
    )
    return Section("With less to see", text, ["", "forecast", "CRPS skill", "change", "day skill", "p10-p90"], lines, n_text=2) if lines else None


def run_section(tables: Tables) -> Section | None:
    """How each peer was run, and what it cost."""
    notes: dict[str, str] = {}
    seconds: dict[str, list[str]] = {}
    for (home, _, _, _), rows in tables.scored.items():
        for row in rows:
            if row.kind == "peer":
                notes[row.label] = row.note or "trained by `hearthcast-train`, run by the gateway's own forecaster"
                seconds.setdefault(row.label, []).append(f"{home} {row.seconds:.0f}")
    text = "Versions: [peers.txt](accuracy/peers.txt). Seconds of one core for all origins and for training, unless done for an earlier home."
    lines = [[label, note, ", ".join(seconds[label])] for label, note in notes.items()]
    return Section("How the others were run", text, ["", "how", "s"], lines, n_text=3) if lines else None


def data_section(prepared: dict[str, Prepared]) -> Section:
    """Which tables were read."""
    rows = [[p.home.title, p.home.source, f"{p.spec.time_zone}, {p.spec.table_clock}", f"{p.sha256[:12]}…"] for p in prepared.values()]
    text = "Tables are not part of the project. *Clock* is the zone and how the table's times are meant."
    return Section("Data", text, ["", "source", "clock", "sha256"], rows, n_text=4)
