"""ACCURACY.md, its picture and its JSON, from the rows that are there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.accuracy.cases import TITLES, Case
from benchmarks.accuracy.houses import CLIMATE, ENERGY, HOMES
from benchmarks.accuracy.material import Prepared
from benchmarks.accuracy.picture import skills
from benchmarks.accuracy.rows import FINE_TUNED, ZERO_SHOT
from benchmarks.accuracy.scoring import Row, Scored, Spread, key_of, scored
from benchmarks.accuracy.yardsticks import CHANGE, CLIMATOLOGY, YESTERDAY
from benchmarks.section import Claim, Section, claims_markdown
from benchmarks.timing import machine_text
from edge_agent.contract.localtime import iso_utc
from trainer.baselines import LABELS
from trainer.scores import Predictions

WANTED: Final = {
    ("reference", ZERO_SHOT): (0.02, 0.10),
    ("reference", FINE_TUNED): (0.04, 0.13),
    ("houston", ZERO_SHOT): (0.14, 0.36),
    ("houston", FINE_TUNED): (0.18, 0.40),
    ("vancouver", ZERO_SHOT): (0.05, 0.08),
    ("vancouver", FINE_TUNED): (0.07, 0.12),
    ("california", ZERO_SHOT): (0.04, 0.15),
    ("california", FINE_TUNED): (0.06, 0.18),
}
"""CRPS skill and day-total skill over the rolling climatology."""
WANTED_COVERAGE: Final = (0.77, 0.83)
ROOM_NAIVE: Final = (LABELS["persistence"], YESTERDAY, CHANGE)
HEAD: Final = """# Accuracy

How good the forecasts of the next 24 hours are, beside the yardsticks and beside what else a home could use, on the same origins of the same homes.
Written by `make accuracy` on {date}. Machine: {machine}.

**Protocol.** The first 80 % of each home's time may be learnt from, the last 20 % is scored: forecasts from every full hour whose 24 hours lie
inside it, nothing at or after the origin looked at. MAE is the median's, RMSE the mean's; CRPS is twice the mean pinball loss over the nine deciles;
*day* is the mean absolute error of the sum over the 24 hours. Skill = 1 - error / error of the
[rolling climatology](../edge_agent/contract/baseline.py), the day's also over yesterday's total. *p10-p90* should hold 0.80. Rows with seeds show
the mean over {seeds} and half their range (±). Point forecasts have the quantiles of their own past errors at each lead time. No test span has
decided anything about Hearthcast.

![CRPS skill over the rolling climatology, by home and method](accuracy.png)

"""


def write(out: Path, prepared: dict[str, Prepared], rows: Sequence[Row]) -> None:
    """Write `out`, `accuracy.png` and `accuracy.json` beside it."""
    tables = Tables(rows)
    sections = [*(s for home in ENERGY if (s := home_section(home.name, tables))), *(s for home in CLIMATE if (s := room_section(home.name, tables)))]
    sections += [s for s in (few_section(tables), degraded_section(tables)) if s]
    sections += [run_section(tables), data_section(prepared)]
    claims = [*figure_claims(tables), *(claim for section in sections for claim in section.claims)]
    most = max((row.method.seed or 0 for row in rows), default=0) + 1
    text = HEAD.format(date=datetime.now(UTC).date(), machine=machine_text(), seeds=f"{most} seeds" if most > 1 else "the seeds")
    if claims:
        text += "## Wanted\n\n" + claims_markdown([Section("", "", [], [], claims)]) + "\n"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text + "\n".join(section.markdown() for section in sections), encoding="utf-8")
    out.with_name("accuracy.json").write_text(json.dumps(to_json(tables, prepared), separators=(",", ":")) + "\n", encoding="utf-8")
    picture = skills({HOMES[name].title: tables.full(name) for name in tables.homes})
    picture.savefig(out.with_name("accuracy.png"))


class Tables:
    """All rows by case, scored once."""

    def __init__(self, rows: Sequence[Row]) -> None:
        """Group by case and origins; the cases with the most origins hold the yardsticks of all others."""
        groups: dict[tuple[str, str, str], dict[int, list[Row]]] = {}
        for row in rows:
            groups.setdefault(key_of(row.case), {}).setdefault(len(row.case.origins), []).append(row)
        self.groups = groups
        self.scored: dict[tuple[str, str, str, int], list[Scored]] = {}
        for (home, target, variant), by_size in groups.items():
            yardsticks = self.yardsticks(home, target)
            if CLIMATOLOGY in yardsticks:
                for size, members in by_size.items():
                    self.scored[home, target, variant, size] = scored(members, yardsticks)

    def yardsticks(self, home: str, target: str) -> dict[str, Predictions]:
        """The yardsticks with nothing taken away, at every origin."""
        by_size = self.groups.get((home, target, "full"), {})
        rows = by_size[max(by_size)] if by_size else []
        return {row.method.label: row.result.predictions for row in rows if row.method.label in (CLIMATOLOGY, YESTERDAY)}

    def case(self, home: str, target: str, variant: str = "full") -> Case:
        """The case with the most origins."""
        by_size = self.groups[home, target, variant]
        return by_size[max(by_size)][0].case

    @property
    def homes(self) -> list[str]:
        """Homes whose energy was scored, in order."""
        return [home.name for home in ENERGY if self.full(home.name)]

    def full(self, home: str, target: str = "energy") -> list[Scored]:
        """Rows at every origin with nothing taken away."""
        sizes = [size for (h, t, variant, size) in self.scored if (h, t, variant) == (home, target, "full")]
        return self.scored[home, target, "full", max(sizes)] if sizes else []

    def row(self, home: str, label: str, target: str = "energy") -> Scored | None:
        """One of them."""
        return next((row for row in self.full(home, target) if row.label == label), None)

    def targets(self, home: str) -> list[str]:
        """Targets scored in a home."""
        return list(dict.fromkeys(target for (h, target, variant) in self.groups if h == home and variant == "full"))


def home_section(home: str, tables: Tables) -> Section | None:
    """Every method on every origin of one home."""
    rows = tables.full(home)
    if not rows:
        return None
    case = tables.case(home, "energy")
    text = (
        f"{span_text(case)} Errors in Wh a step of {case.spec.step_s // 60} min. *Behind* says whether a row's CRPS is worse than that of Hearthcast "
        "zero-shot and fine-tuned."
    )
    ours = [row for label in (ZERO_SHOT, FINE_TUNED) if (row := tables.row(home, label))]
    best = max(row["crps_skill"].mean for row in rows)
    best_total = max(row["total_skill"].mean for row in rows)
    lines = [[*_cells(row, best=best, best_total=best_total), _behind(row, ours)] for row in rows]
    return Section(HOMES[home].title, text, [*COLUMNS, "behind"], lines)


COLUMNS: Final = ["", "MAE", "RMSE", "CRPS", "p10-p90", "day Wh", "CRPS skill", "day skill", "day over yesterday's"]


def span_text(case: Case) -> str:
    """Scored span and origins."""
    end = int(case.origins[-1]) + case.horizon * case.spec.step_s
    return f"{len(case.origins):,} origins, {iso_utc(int(case.origins[0]))[:16]} to {iso_utc(end)[:16]} UTC."


def _cells(row: Scored, *, best: float, best_total: float) -> list[str]:
    values = [
        f"{row['mae'].mean:.4g}",
        f"{row['rmse'].mean:.4g}",
        f"{row['crps'].mean:.4g}",
        f"{row['coverage'].mean:.2f}",
        f"{row['total_mae'].mean:.4g}",
    ]
    crps, total = percent(row["crps_skill"]), percent(row["total_skill"])
    return [
        f"**{row.label}**" if row.kind == "hearthcast" else row.label,
        *values,
        f"**{crps}**" if row["crps_skill"].mean == best else crps,
        f"**{total}**" if row["total_skill"].mean == best_total else total,
        percent(row["total_skill_yesterday"]),
    ]


def percent(spread: Spread) -> str:
    """A skill in percent, with half the seeds' range."""
    if spread.mean != spread.mean:
        return "-"
    return f"{100 * round(spread.mean, 3) + 0:+.1f} %" + (f" ±{100 * spread.half:.1f}" if spread.n > 1 else "")


def _behind(row: Scored, ours: Sequence[Scored]) -> str:
    if row.kind == "hearthcast" or not ours:
        return "-"
    return " / ".join("yes" if row["crps"].mean > own["crps"].mean else "**no**" for own in ours)


def few_section(tables: Tables) -> Section | None:
    """Methods that are asked at few origins, with the others at the same."""
    lines, counts = [], []
    for home in tables.homes:
        by_size = tables.groups[home, "energy", "full"]
        few = min(by_size)
        if few == max(by_size):
            continue
        counts.append(f"{few} ({home})")
        origins = by_size[few][0].case.origins
        cut = [Row(by_size[few][0].case, r.method, _cut(r, origins)) for r in by_size[max(by_size)]]
        rows = scored([*cut, *by_size[few]], tables.yardsticks(home, "energy"))
        shown = [r for r in rows if r.kind == "hearthcast" or r.label in {x.method.label for x in by_size[few]}]
        ours = [r for label in (ZERO_SHOT, FINE_TUNED) for r in rows if r.label == label]
        best, best_total = (max(r[figure].mean for r in rows) for figure in ("crps_skill", "total_skill"))
        lines += [[f"{home}: {(c := _cells(r, best=best, best_total=best_total))[0]}", *c[1:], _behind(r, ours)] for r in shown]
    if not lines:
        return None
    text = "Methods that are fitted anew for every forecast are asked at fewer origins, spread evenly over the span and the hours of the week"
    text = f"{text}: {', '.join(counts)}."
    return Section("On fewer origins", text, [*COLUMNS, "behind"], lines)


def _cut(row: Row, origins: Any) -> Any:
    from benchmarks.accuracy.cases import at_origins
    from benchmarks.accuracy.store import Result

    return Result(at_origins(row.result.predictions, origins), row.result.wall_s)


def room_section(home: str, tables: Tables) -> Section | None:
    """MAE of each room beside its three naive forecasts."""
    targets = [t for t in tables.targets(home) if tables.full(home, t)]
    if not targets:
        return None
    labels = list(dict.fromkeys(row.label for t in targets for row in tables.full(home, t) if row.kind == "hearthcast"))
    columns = ["", *ROOM_NAIVE, "climatology", *(f"{label}: {what}" for label in labels for what in ("MAE", "skill", "p10-p90"))]
    lines, gains = [], {label: [] for label in labels}
    for target in targets:
        rows = {row.label: row for row in tables.full(home, target)}
        naive = [rows[label]["mae"].mean for label in ROOM_NAIVE]
        cells = [*(f"**{v:.3f}**" if v == min(naive) else f"{v:.3f}" for v in naive), f"{rows[CLIMATOLOGY]['mae'].mean:.3f}"]
        for label in labels:
            if label not in rows:
                cells += ["-", "-", "-"]
                continue
            mae = rows[label]["mae"]
            gains[label].append(1 - mae.mean / min(naive))
            cells += [
                f"{mae.mean:.3f}" + (f" ±{mae.half:.3f}" if mae.n > 1 else ""),
                f"{100 * gains[label][-1]:+.1f} %",
                f"{rows[label]['coverage'].mean:.2f}",
            ]
        lines.append([target, *cells])
    case = tables.case(home, targets[0])
    text = f"{span_text(case)} MAE in degC and % of the 24 hourly means; skill is against the best of the three naive forecasts of each room (bold)."
    if gains and any(gains.values()):
        text += " Mean skill over the rooms: " + ", ".join(f"{label} {100 * sum(g) / len(g):+.1f} %" for label, g in gains.items() if g) + "."
    return Section(HOMES[home].title, text, columns, lines)


def degraded_section(tables: Tables) -> Section | None:
    """What less to see costs."""
    lines = []
    for home, target, variant in tables.groups:
        if variant == "full" or (home, target) not in {(h, "energy") for h in tables.homes}:
            continue
        (size,) = tables.groups[home, target, variant]
        rows = tables.scored[home, target, variant, size]
        reference = {row.label: row for row in scored(_cut_rows(tables, home, size, variant), tables.yardsticks(home, target))}
        for row in rows:
            whole = reference[row.label]["crps_skill"].mean if row.label in reference else float("nan")
            cost = f"{100 * (row['crps_skill'].mean - whole):+.1f}"
            lines.append(
                [
                    f"{home}: {TITLES[variant]}",
                    row.label,
                    percent(row["crps_skill"]),
                    cost,
                    percent(row["total_skill"]),
                    f"{row['coverage'].mean:.2f}",
                ]
            )
    if not lines:
        return None
    text = (
        "Skill over the climatology that sees everything, at about 700 origins of each home; *cost*: points of CRPS skill lost beside the same row "
        "with nothing taken away. Sensors fall silent at random for half a day on average; the counter shows 0.01 kWh, what happened stays exact. "
        "A model that reads no other sensor has no row for missing ones."
    )
    return Section("With less to see", text, ["", "forecast", "CRPS skill", "cost", "day skill", "p10-p90"], lines, n_text=2)


def _cut_rows(tables: Tables, home: str, size: int, variant: str) -> list[Row]:
    by_size = tables.groups[home, "energy", "full"]
    case = tables.groups[home, "energy", variant][size][0].case
    return [Row(case, r.method, _cut(r, case.origins)) for r in by_size[max(by_size)]]


def run_section(tables: Tables) -> Section:
    """How each peer was run, and what it cost."""
    notes, seconds = {}, {}
    for (home, _, variant, _), rows in tables.scored.items():
        for row in rows:
            if variant == "full" and row.kind == "peer":
                notes[row.label] = row.note or "trained and served as Hearthcast's own models are"
                seconds.setdefault(row.label, []).append(f"{home} {row.seconds:.0f}")
    text = "Training and forecasting all origins of a home, in s on one core, each with the library versions of [peers.txt](accuracy/peers.txt)."
    return Section(
        "How the others were run", text, ["", "how", "s"], [[label, note, ", ".join(seconds[label])] for label, note in notes.items()], n_text=3
    )


def data_section(prepared: dict[str, Prepared]) -> Section:
    """Which tables were read."""
    rows = [[p.home.title, p.home.source, f"{p.spec.time_zone}, {p.spec.table_clock}", f"{p.sha256[:12]}…"] for p in prepared.values()]
    text = "Tables are not part of the project. Clock is the zone and how the table's times are meant; the sum is sha256 of file name and content."
    return Section("Data", text, ["", "source", "clock", "sum"], rows, n_text=4)


def figure_claims(tables: Tables) -> list[Claim]:
    """What is wanted of Hearthcast's rows, and whether it holds."""
    out = []
    for (home, label), (crps, total) in WANTED.items():
        row = tables.row(home, label)
        if row is None:
            continue
        name = f"{HOMES[home].title}, {label.removeprefix('Hearthcast, ')}"
        out += [_claim(f"{name}: CRPS skill", row["crps_skill"], crps), _claim(f"{name}: day skill", row["total_skill"], total)]
        low, high = WANTED_COVERAGE
        coverage = row["coverage"]
        out.append(Claim(f"{name}: p10-p90 holds", f"{low} to {high}", f"{coverage.mean:.3f}", low <= coverage.low and coverage.high <= high))
    return out


def _claim(what: str, spread: Spread, wanted: float) -> Claim:
    return Claim(what, f">= {100 * wanted:+.0f} %", percent(spread), spread.mean >= wanted)


def to_json(tables: Tables, prepared: dict[str, Prepared]) -> dict[str, Any]:
    """Everything in the tables, machine-readable."""
    cases = []
    for (home, target, variant, size), rows in tables.scored.items():
        case = tables.groups[home, target, variant][size][0].case
        cases.append(
            {
                "home": home,
                "target": target,
                "variant": variant,
                "step_s": case.spec.step_s,
                "origins": {"n": size, "first": iso_utc(int(case.origins[0])), "last": iso_utc(int(case.origins[-1]))},
                "train_end": iso_utc(case.train_end),
                "rows": [row.to_json() for row in rows],
            }
        )
    data = {name: {"source": p.home.source, "sha256": p.sha256, "repairs": list(p.repairs)} for name, p in prepared.items()}
    return {"written": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine_text(), "data": data, "cases": cases}
