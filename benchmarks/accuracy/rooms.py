"""Write ROOMS.md and its JSON: python -m benchmarks.accuracy.rooms --data FOLDER … [--train]."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console

from benchmarks.accuracy.cases import PERFECT_WEATHER, Case, with_perfect_weather
from benchmarks.accuracy.houses import CLIMATE, HOMES, ROOT
from benchmarks.accuracy.material import Prepared, prepare
from benchmarks.accuracy.published import SUFFIX, Published
from benchmarks.accuracy.ridge import Ridge
from benchmarks.accuracy.rows import methods_of, read_rows
from benchmarks.accuracy.sections import span_text
from benchmarks.accuracy.store import Method, Store
from benchmarks.accuracy.yardsticks import ROOM_NAIVE, Yardstick
from benchmarks.section import ONE_THREAD, QUIET, Claim, Section, claims_markdown
from benchmarks.timing import machine_text
from edge_agent.contract.errors import HearthcastError
from trainer.baselines import CLIMATOLOGY, MIXTURE
from trainer.scores import score

OURS: Final = "Hearthcast, rooms"
OUT: Final = ROOT / "benchmarks" / "ROOMS.md"
ROWS: Final = Path(__file__).parent / "rows.toml"
VARIANTS: Final = ("full", PERFECT_WEATHER)
WANTED: Final = {"full": 0.06, PERFECT_WEATHER: 0.15}
WANTED_COVERAGE: Final = (0.77, 0.83)
SAID: Final = {"full": "no weather forecast", PERFECT_WEATHER: "perfect weather forecast"}
HEAD: Final = """# Rooms

How good the forecasts of a room's temperature and humidity are, the 24 hourly means after every full hour of the last 20 % of the table. Written by
`python -m benchmarks.accuracy.rooms` on {date}. Machine: {machine}.

**Protocol.** The first 80 % may be learnt from; all that was chosen was chosen on forward-chaining folds inside it, and the last 20 % was looked at
for this page alone. *Skill* is 1 - MAE / MAE of the room's best naive forecast (bold), which nobody knows beforehand. The *mixture* is what the
gateway forecasts by without a model. *Perfect weather forecast*: the method is told what was measured outdoors later, a bound on what a forecast can
bring; the models were trained on forecasts that err. Ours: mean over {seeds} seeds, with half their range (±). *p10-p90*: how often the model's
own band holds, and the band as an agent publishes it, which knows nothing on the first day scored and learns each day from how often it held.

"""


@dataclass(frozen=True)
class Figure:
    """A method on one room, over its seeds."""

    mae: tuple[float, ...]
    coverage: float

    @property
    def mean(self) -> float:
        """Mean absolute error of the median."""
        return float(np.mean(self.mae))

    @property
    def text(self) -> str:
        """For the table."""
        half = (max(self.mae) - min(self.mae)) / 2
        return f"{self.mean:.3f}" + (f" ±{half:.3f}" if len(self.mae) > 1 else "")


Figures = dict[tuple[str, str, str], Figure]
"""By target, label and variant."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    options, console = _arguments().parse_args(argv), Console(highlight=False, soft_wrap=True)
    wanted = QUIET | ONE_THREAD
    if argv is None and any(os.environ.get(name) != value for name, value in wanted.items()):
        # libraries read these when they are imported, so the program starts over with them set
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | wanted)
    try:
        prepared = {n: p for n, p in prepare(tuple(options.data), options.build, download=False, console=console).items() if HOMES[n] in CLIMATE}
        methods = _methods(options, console)
        store = Store(options.build / "forecasts")
        sections = [_section(home, methods, store, console) for home in prepared.values()]
    except HearthcastError as err:
        console.print(f"error: {err}", style="red")
        return err.exit_code
    _write(options.out, sections, seeds=len({m.seed for m in methods if m.seed is not None}))
    console.print(str(options.out))
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.rooms", description="Score the rooms, and write benchmarks/ROOMS.md.")
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="FOLDER", help="where the tables are")
    parser.add_argument("--train", action="store_true", help="train the models that are not there yet: some minutes")
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "accuracy", metavar="FOLDER", help="runs and forecasts (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE.md", help="the page; its JSON lies beside it (default: %(default)s)")
    return parser


def _methods(options: argparse.Namespace, console: Console) -> list[Method]:
    """Yardsticks, ridge and our own models; those are asked about rooms that they have never seen, too."""
    rows = read_rows(ROWS)
    rows = type(rows)((), tuple(recipe for recipe in rows.recipes if recipe.label == OURS))
    own = methods_of(rows, houses=options.build / "houses", build=options.build, train=options.train, console=console)
    everywhere = [type(method)(method.label, method.bundle, (), method.seed, method.kind) for method in own]
    published = [Published(method, before_d=0) for method in everywhere]
    return [*(Yardstick(label) for label in (*ROOM_NAIVE, CLIMATOLOGY, MIXTURE)), Ridge(), *everywhere, *published]


def figures_of(cases: Sequence[Case], methods: Sequence[Method], store: Store, console: Console) -> Figures:
    """Every method on every case, with and without the weather ahead."""
    out: Figures = {}
    for case in cases:
        for variant in VARIANTS:
            asked = case if variant == "full" else with_perfect_weather(case)
            for label in dict.fromkeys(method.label for method in methods):
                chosen = [m for m in methods if m.label == label and m.takes(asked) and (variant == "full" or m.kind != "yardstick")]
                scores = [score(store.make(method, asked).predictions) for method in chosen]
                if scores:
                    out[case.target, label, variant] = Figure(tuple(s.mae for s in scores), float(np.mean([s.coverage for s in scores])))
        console.print(f"{case.home} {case.target}: scored")
    return out


def _section(home: Prepared, methods: Sequence[Method], store: Store, console: Console) -> Section:
    cases = home.cases()
    figures = figures_of(cases, methods, store, console)
    return section(home.home.title, span_text(cases[0]), [case.target for case in cases], figures, is_trained_on=home.home.name == "rooms")


def section(title: str, span: str, targets: Sequence[str], figures: Figures, *, is_trained_on: bool) -> Section:
    """One home's table, and where models were trained on it what is wanted of them."""
    columns = ["", *ROOM_NAIVE, "climatology", "mixture", "ridge", "ridge, perfect weather"]
    columns += [f"{SAID[variant]}: {what}" for variant in VARIANTS for what in ("ours", "skill", "p10-p90", "as published")]
    rows = [_row(target, figures) for target in targets]
    unseen = "" if is_trained_on else " The models are the reference house's, which have never seen these rooms."
    text = f"{span} MAE in degC and %.{unseen}"
    claims = [*_claims(title, targets, figures)] if is_trained_on and any(label == OURS for _, label, _ in figures) else []
    return Section(title, f"{text} Mean skill over the rooms: {_summary(targets, figures)}.", columns, rows, claims)


def best_naive(target: str, figures: Figures) -> float:
    """MAE of the room's best naive forecast."""
    return min(figures[target, label, "full"].mean for label in ROOM_NAIVE)


def skill(targets: Sequence[str], label: str, variant: str, figures: Figures) -> float:
    """Mean over the rooms of 1 - MAE / MAE of the room's best naive forecast; NaN where the method is not there."""
    found = [1 - figures[t, label, variant].mean / best_naive(t, figures) for t in targets if (t, label, variant) in figures]
    return float(np.mean(found)) if found else float("nan")


def _row(target: str, figures: Figures) -> list[str]:
    least = best_naive(target, figures)
    naive = [figures[target, label, "full"].mean for label in ROOM_NAIVE]
    cells = [f"**{value:.3f}**" if value == least else f"{value:.3f}" for value in naive]
    others = [(CLIMATOLOGY, "full"), (MIXTURE, "full"), ("ridge", "full"), ("ridge", PERFECT_WEATHER)]
    cells += [figures[target, *key].text if (target, *key) in figures else "-" for key in others]
    for variant in VARIANTS:
        own = figures.get((target, OURS, variant))
        covers = [figures[key].coverage for label in (OURS, OURS + SUFFIX) if (key := (target, label, variant)) in figures]
        cells += ["-"] * 4 if own is None else [own.text, f"{100 * (1 - own.mean / least):+.1f} %", *(f"{cover:.2f}" for cover in covers)]
    return [target, *cells]


def _summary(targets: Sequence[str], figures: Figures) -> str:
    """Each method's mean skill, temperatures / humidities."""
    groups = [[t for t in targets if t.lower().startswith(kind)] for kind in ("t", "rh")]
    parts = []
    for label, variant in ((MIXTURE, "full"), ("ridge", "full"), ("ridge", PERFECT_WEATHER), (OURS, "full"), (OURS, PERFECT_WEATHER)):
        said = " / ".join(f"{100 * skill(group, label, variant, figures):+.1f} %" for group in groups if group)
        parts.append(f"{label}{'' if variant == 'full' else f', {SAID[variant]}'} {said}")
    return "; ".join(parts)


def _claims(title: str, targets: Sequence[str], figures: Figures) -> list[Claim]:
    claims = []
    for variant in VARIANTS:
        gain, wanted = skill(targets, OURS, variant, figures), WANTED[variant]
        claims.append(Claim(f"{title}, {SAID[variant]}: skill", f">= {100 * wanted:+.0f} %", f"{100 * gain:+.1f} %", gain >= wanted))
        low, high = WANTED_COVERAGE
        for suffix in ("", SUFFIX):
            cover = float(np.mean([figures[t, OURS + suffix, variant].coverage for t in targets]))
            claims.append(Claim(f"{title}, {SAID[variant]}: p10-p90 holds{suffix}", f"{low} to {high}", f"{cover:.3f}", low <= cover <= high))
    return claims


def _write(out: Path, sections: list[Section], *, seeds: int) -> None:
    text = HEAD.format(date=datetime.now(UTC).date(), machine=machine_text(), seeds=seeds)
    if any(section.claims for section in sections):
        text += "## Wanted\n\n" + claims_markdown(sections) + "\n"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text + "\n".join(section.markdown() for section in sections), encoding="utf-8")
    tables = [{"title": s.title, "columns": s.columns, "rows": s.rows} for s in sections]
    out.with_suffix(".json").write_text(json.dumps(tables, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
