"""The table as a picture: CRPS skill of every method, one panel a home."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from benchmarks.accuracy.scoring import Scored
from trainer.pictures import MODEL, OTHERS, STYLE

LOWEST: Final = -0.4
"""Skills below are cut off, their value written at the edge."""
COLOURS: Final = {"hearthcast": MODEL, "peer": OTHERS[0], "yardstick": OTHERS[1]}


def skills(homes: Mapping[str, Sequence[Scored]]) -> Figure:
    """Bars of CRPS skill over the rolling climatology, methods from top to bottom, homes from left to right."""
    labels = list(dict.fromkeys(row.label for rows in homes.values() for row in rows))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.2 + 2.4 * max(len(homes), 1), 1.2 + 0.3 * max(len(labels), 1)), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, max(len(homes), 1), sharey=True, squeeze=False)[0]
        for axes, (title, rows) in zip(panels, homes.items(), strict=False):
            for row in rows:
                _bar(axes, labels.index(row.label), row)
            axes.axvline(0, color="#444444", linewidth=0.8)
            axes.set_title(title)
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axes.set_xlim(LOWEST * 1.05, 0.3)
            axes.grid(axis="y", visible=False)
        panels[0].set_yticks(range(len(labels)), labels)
        panels[0].invert_yaxis()
        figure.supxlabel("CRPS skill over the rolling climatology (further right is better)", fontsize=9.5)
    return figure


def _bar(axes: mpl.axes.Axes, position: int, row: Scored) -> None:
    skill = row["crps_skill"]
    shown = max(skill.mean, LOWEST)
    reach = [[max(skill.mean - skill.low, 0)], [max(skill.high - skill.mean, 0)]] if skill.n > 1 and shown == skill.mean else None
    axes.barh(position, shown, color=COLOURS[row.kind], height=0.65, xerr=reach, error_kw={"elinewidth": 1.2, "ecolor": "#222222"})
    text, aside = f"{100 * round(skill.mean, 3) + 0:+.1f} %", {"va": "center", "fontsize": 7.5}
    if shown < LOWEST / 2:
        axes.text((max(shown, skill.high) if reach else shown) + 0.01, position, text, ha="left", color="#ffffff", **aside)
    else:
        beyond = max(skill.high, shown) + 0.008 if shown >= 0 else min(skill.low, shown) - 0.008
        axes.text(beyond, position, text, ha="left" if shown >= 0 else "right", color="#333333", **aside)
