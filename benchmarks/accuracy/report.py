"""ACCURACY.md, its picture and its JSON, from the rows that are there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.accuracy.cases import PERFECT_WEATHER
from benchmarks.accuracy.houses import CLIMATE, ENERGY, HOMES, ROOMS
from benchmarks.accuracy.material import Prepared
from benchmarks.accuracy.picture import skills
from benchmarks.accuracy.published import BEFORE_D, SUFFIX
from benchmarks.accuracy.rows import FINE_TUNED, ZERO_SHOT
from benchmarks.accuracy.scoring import Row, Spread
from benchmarks.accuracy.sections import (
    data_section,
    few_section,
    home_section,
    less_section,
    percent,
    room_methods,
    room_section,
    room_skill,
    run_section,
)
from benchmarks.accuracy.tables import Tables
from benchmarks.section import Claim, Section, claims_markdown
from benchmarks.timing import machine_text
from edge_agent.contract.localtime import iso_utc

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
WANTED_ROOMS: Final = {"full": 0.06, PERFECT_WEATHER: 0.15}
SILENT: Final = {"missing_10": 0.1, "missing_30": 0.3}
HEAD: Final = """# Accuracy

How good the forecasts of the next 24 hours are, beside the yardsticks and beside what else a home could use, on the same origins of the same homes.
Written by `make accuracy` on {date}. Machine: {machine}.

**Protocol.** The first 80 % of each home's time may be learnt from, the last 20 % is scored: forecasts from every full hour whose 24 hours lie
inside it, nothing at or after the origin looked at. MAE is the median's, RMSE the mean's; CRPS is twice the mean pinball loss over the nine deciles;
*day* is the mean absolute error of the sum over the 24 hours. Skill = 1 - error / error of the
[rolling climatology](../edge_agent/contract/baseline.py), the day's also over yesterday's total. *p10-p90* should hold 0.80. Rows with ± show
the mean over {seeds} and half their range. *As published*: with the band as an agent publishes it, corrected every day by how often it held, from
{before} days before the test span on (the model is untouched by that). Point forecasts have the quantiles of their own past errors at each lead time.

**How untouched the test spans are.** Nothing is fitted, stopped, calibrated or gated on them. But while the recipe of the base model was worked out,
their scores were printed beside those of the homes kept aside and were looked at ([the log](../trainer/LOG.md) says where). A home of one's own is
the better check: `hearthcast-train backtest`.

![CRPS skill over the rolling climatology, by home and method](accuracy.png)

"""


def write(out: Path, prepared: dict[str, Prepared], rows: Sequence[Row], *, absent: Sequence[str] = ()) -> None:
    """Write `out`, `accuracy.png` and `accuracy.json` beside it; `absent` names the rows that were not computed."""
    tables = Tables(rows)
    sections = [*(home_section(home.name, tables) for home in ENERGY), few_section(tables), *(room_section(home.name, tables) for home in CLIMATE)]
    sections += [less_section(tables), run_section(tables), data_section(prepared)]
    claims = [*energy_claims(tables), *room_claims(tables), *silence_claims(tables)]
    n_seeds = max((row.method.seed or 0 for row in rows), default=0) + 1
    text = HEAD.format(
        date=datetime.now(UTC).date(), machine=machine_text(), before=BEFORE_D, seeds=f"{n_seeds} seeds" if n_seeds > 1 else "the seeds"
    )
    if absent:
        text += f"**Not run yet**, so not in the tables: {'; '.join(absent)}.\n\n"
    if claims:
        text += "## Wanted\n\n" + claims_markdown([Section("", "", [], [], claims)]) + "\n"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text + "\n".join(section.markdown() for section in sections if section), encoding="utf-8")
    out.with_name("accuracy.json").write_text(json.dumps(to_json(tables, prepared), separators=(",", ":")) + "\n", encoding="utf-8")
    if tables.homes:
        skills({HOMES[name].title: tables.full(name) for name in tables.homes}).savefig(out.with_name("accuracy.png"))


def energy_claims(tables: Tables) -> list[Claim]:
    """What is wanted of energy, and whether it holds."""
    out = []
    for (home, label), (crps, total) in WANTED.items():
        row = tables.row(home, label)
        if row is not None:
            name = f"{HOMES[home].title}, {label.removeprefix('Hearthcast, ')}"
            out += [_at_least(f"{name}: CRPS skill", row["crps_skill"], crps), _at_least(f"{name}: day skill", row["total_skill"], total)]
            out.append(_coverage(name, row["coverage"]))
        published = tables.row(home, label + SUFFIX)
        if published is not None:
            out.append(_coverage(f"{name}{SUFFIX}", published["coverage"]))
    return out


def _at_least(what: str, spread: Spread, wanted: float) -> Claim:
    return Claim(what, f">= {100 * wanted:+.0f} %", percent(spread), spread.mean >= wanted)


def _coverage(name: str, coverage: Spread) -> Claim:
    low, high = WANTED_COVERAGE
    found = f"{coverage.mean:.3f}" + (f" ({coverage.low:.3f} to {coverage.high:.3f})" if coverage.n > 1 else "")
    return Claim(f"{name}: p10-p90 holds", f"{low} to {high}", found, low <= coverage.low and coverage.high <= high)


def room_claims(tables: Tables) -> list[Claim]:
    """What is wanted of the reference house's rooms."""
    out = []
    for label, variant in room_methods(ROOMS.name, tables):
        skill, wanted = room_skill(ROOMS.name, label, variant, tables), WANTED_ROOMS[variant]
        weather = "perfect weather forecast" if variant == PERFECT_WEATHER else "no weather forecast"
        if skill is not None:
            what = f"rooms of the reference house, {label}, {weather}: mean MAE skill over each room's best naive"
            out.append(Claim(what, f">= {100 * wanted:+.0f} %", f"{100 * skill:+.1f} %", skill >= wanted))
    return out


def silence_claims(tables: Tables) -> list[Claim]:
    """A silent sensor costs no more of what the sensors bring than the share of time that it is silent for."""
    out = []
    for home in tables.homes:
        for label in (row.label for row in tables.full(home, variant="missing_100")):
            whole, none = tables.like(home, "missing_100")[label]["crps_skill"].mean, _skill(tables, home, label, "missing_100")
            for variant, share in SILENT.items():
                cost, brings = whole - _skill(tables, home, label, variant), whole - none
                what = f"{HOMES[home].title}, {label}: CRPS skill lost with sensors silent for {share:.0%} of the time"
                out.append(
                    Claim(what, f"<= {share:.0%} of the {100 * brings:.2f} points they bring", f"{100 * cost:.2f} points", cost <= share * brings)
                )
    return out


def _skill(tables: Tables, home: str, label: str, variant: str) -> float:
    row = tables.row(home, label, variant=variant)
    return row["crps_skill"].mean if row else float("nan")


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
