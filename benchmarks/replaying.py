"""Recorded houses replayed through Mosquitto into an agent: its forecasts against the backtest's at the same origins."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from benchmarks import material
from benchmarks.reference_replay import compare
from benchmarks.section import Claim, Section, run_group
from demo.simulate import HOUSE_TOML, simulate_house, write_csv
from edge_agent.contract.bundle import shipped_bundle

WANTED = 1e-4
SEED, DAYS = 7, 70


def measure(quick: bool) -> list[Section]:
    """Replay a simulated house and the reference house, with exact and with rounded meters."""
    shipped = shipped_bundle()
    assert shipped is not None
    material.bundle("seed")
    with tempfile.TemporaryDirectory(prefix="hearthcast-replaying-") as work:
        name, table = _reference(Path(work))
        simulated = Path(work) / "simulated.csv"
        write_csv(simulate_house(SEED, DAYS), simulated)
        runs = [
            ("simulated house", "base-energy", shipped, HOUSE_TOML, simulated, None),
            ("simulated house", "base-energy", shipped, HOUSE_TOML, simulated, 2),
            (name, "base-energy", shipped, material.HOUSE, table, None),
            (name, "base-energy", shipped, material.HOUSE, table, 2),
            (name, "seed", material.bundle_folder("seed"), material.HOUSE, table, None),
        ]
        rows, worst = [], 0.0
        for house, model, bundle, house_toml, data, decimals in runs[: 2 if quick else None]:
            figures = compare(bundle, house_toml, data, counter_decimals=decimals, allow_unsigned=True)
            meters = "every digit" if decimals is None else f"{10.0**-decimals:g} kWh"
            counts = [str(figures["origins"]), f"{figures['messages']:,}", f"{figures['messages_per_s']:,.0f}"]
            rows.append([f"{house}, {model}", meters, *counts, f"{figures['largest']:.1e}", f"{figures['mean']:.1e}"])
            worst = max(worst, figures["largest"]) if decimals is None else worst
    text = (
        "Every row of a table goes through a real Mosquitto as Zigbee2MQTT messages into an agent that takes the time from them and forecasts every "
        "hour; all levels of what its model said against the offline backtest's at the origins of the last 20 %, and what it published against "
        "what it stored of that, with the correction of the bands. Differences are relative to the mean of each forecast; the floor is the "
        "payload's six digits, 5e-06. Messages a second are those of publisher, broker, agent and 24 forecasts a day together. The reference "
        "house's readings are multiples of 10 Wh: rounding its counters to 0.01 kWh takes nothing away."
    )
    columns = ["house, model", "meters", "origins", "messages", "messages/s", "largest difference", "mean of the largest"]
    claim = Claim("agent against backtest, unrounded meters", f"<= {WANTED:g} relative", f"{worst:.1e}", worst <= WANTED)
    return [Section("Agent against backtest", text, columns, rows, [claim])]


def _reference(work: Path) -> tuple[str, Path]:
    """The reference house's table where HEARTHCAST_REFERENCE_CSV names it, else a made-up one of its size."""
    path = Path(os.environ.get("HEARTHCAST_REFERENCE_CSV", "no such file"))
    if path.is_file():
        return "reference house", path
    material.write_csv(work / "house.csv")
    return "made-up house of its size", work / "house.csv"


if __name__ == "__main__":
    sys.exit(run_group(measure))
