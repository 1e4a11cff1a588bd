"""Export: how near the graph is to Keras, how large it is, how long the way there takes."""

from __future__ import annotations

import sys
import time

from benchmarks import material
from benchmarks.section import Claim, Section, run_group
from export.assemble import export_run
from export.verify import TOLERANCE

FLOAT32_EPSILON = 1.2e-7


def measure(_quick: bool) -> list[Section]:
    """Export both presets' runs and compare ONNX with Keras."""
    rows, claims = [], []
    for preset in material.PRESETS:
        run = material.run(preset)
        start = time.perf_counter()
        report = export_run(run, material.bundle_folder(preset), sign_key=material.signing_key(), even_if_worse=True)
        seconds = time.perf_counter() - start
        worst = {parity.windows: parity.worst for parity in report.parities}
        shown = [f"{worst[name]:.1e}" if name in worst else "-" for name in ("real", "gappy", "unknown", "random", "half-horizon")]
        rows.append(
            [preset, *shown, str(report.operators["LSTM"]), f"{report.model_bytes / 1e3:.0f}", f"{report.bundle_bytes / 1e3:.0f}", f"{seconds:.1f}"]
        )
        largest = max(worst.values())
        claims.append(Claim(f"`{preset}`: ONNX beside Keras", f"<= {TOLERANCE:.0e}", f"{largest:.1e}", largest <= TOLERANCE))
    text = (
        "Largest difference between the ONNX graph, run by the agent's code, and Keras, as a share of the largest value of the same window; up to "
        f"32 windows of each kind. The floor is float32 itself: {FLOAT32_EPSILON:.1e}. Weights shaken after a short training: every layer matters."
    )
    columns = ["preset", "real windows", "with gaps", "all unknown", "random", "half horizon", "LSTM nodes", "graph kB", "bundle kB", "export s"]
    return [Section("Export parity", text, columns, rows, claims)]


if __name__ == "__main__":
    sys.exit(run_group(measure))
