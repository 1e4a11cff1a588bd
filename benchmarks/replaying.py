"""Gateway beside workstation: twenty days replayed through a broker into the agent, its forecasts beside the backtest's at the same origins."""

from __future__ import annotations

import sys

from benchmarks import material
from benchmarks.reference_replay import compare
from benchmarks.section import Claim, Section, run_group

WANTED = 1e-4
DAYS = 20
FORMS = (("every digit", None), ("counters of 0.01 kWh", 2), ("counters of 0.1 kWh", 1))


def measure(quick: bool) -> list[Section]:
    """Replay the made-up house with both bundles, with exact and with rounded counters."""
    table = material.BUILD / "last_days.csv"
    material.write_csv(table, days=8 if quick else DAYS)
    rows, claims = [], []
    for preset in material.PRESETS:
        material.bundle(preset)
        for form, decimals in FORMS:
            found = compare(material.bundle_folder(preset), material.HOUSE, table, counter_decimals=decimals, allow_unsigned=True)
            counts = [f"{found['origins']:,}", f"{found['messages']:,}", f"{found['messages_per_s']:,.0f}"]
            rows.append([f"`{preset}`, {form}", f"{found['largest']:.1e}", f"{found['mean']:.1e}", *counts])
            if decimals is None:
                claims.append(
                    Claim(f"`{preset}` on the gateway beside the backtest", f"<= {WANTED:.0e}", f"{found['largest']:.1e}", found["largest"] <= WANTED)
                )
    text = (
        "Largest difference of a published value from the backtest's, relative to the forecast's mean value. Published values have six digits: that rounding "
        "is the floor. Energies are multiples of 10 Wh, as in the reference house, so that counters with 0.01 kWh lose nothing; with 0.1 kWh they do."
    )
    return [Section("Gateway beside workstation", text, ["", "largest", "mean", "origins", "messages", "messages/s"], rows, claims)]


if __name__ == "__main__":
    sys.exit(run_group(measure))
