"""What came of fine-tuning, for a person: what is kept, why, and by how much it is better than the base, the climatology and the naive forecasts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table

from trainer.decision import BASE, recipe_text
from trainer.fit import MODEL


def report(record: Mapping[str, Any]) -> list[RenderableType]:
    """Lines and a table."""
    tuning = record["training"]["fine_tuning"]
    lines: list[RenderableType] = [f"[bold]kept: {tuning['kept']}[/]{_how(tuning['choice'])}", tuning["reason"]]
    if "test" not in record["scores"]:
        return [*lines, "not scored: no day of the test span, the last fifth, is known"]
    return [*lines, _score_table(record), *_beside_base(record)]


def _how(choice: Mapping[str, Any]) -> str:
    if not choice:
        return ""
    weights = f"{recipe_text(choice)}, " if choice["share"] else ""
    return f" ({weights}levels calibrated on the {choice['levels']}, totals on the {choice['totals']})"


def _score_table(record: Mapping[str, Any]) -> Table:
    """One row for each method on the test span."""
    table = Table(title="test span, the last fifth, which decided nothing", box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0))
    for heading in ("forecast", "CRPS", "MAE", "day\ntotal", "p10-p90", "CRPS\nskill", "total\nskill"):
        table.add_column(heading, justify="left" if heading == "forecast" else "right", no_wrap=True)
    for name, row in record["scores"]["test"].items():
        label = "this model" if name == MODEL else f"the {BASE}" if name == BASE else name
        cover = f"{row['coverage']:.2f}" if row["crps"] != row["mae"] else "-"
        skill = (f"{row['skill'][which]:+.1%}" for which in ("crps", "total_mae"))
        cells = (f"{row['crps']:.4g}", f"{row['mae']:.4g}", f"{row['total_mae']:.4g}", cover)
        table.add_row(label, *cells, *skill, style="bold" if name == MODEL else None)
    return table


def _beside_base(record: Mapping[str, Any]) -> list[str]:
    """By how much the model and the base differ there; nothing where they are one."""
    if not record["training"]["fine_tuning"]["choice"]:
        return []
    crps, total = (record["beside_base"]["test"][name] for name in ("crps", "total"))
    said = f"CRPS {crps['gain']:+.1%} ± {crps['error']:.1%}, day total {total['gain']:+.1%} ± {total['error']:.1%}"
    return [f"beside the base on the {crps['days']} days of the test span: {said}"]
