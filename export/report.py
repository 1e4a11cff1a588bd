"""What the command line says of a finished export."""

from __future__ import annotations

import base64

from rich.table import Table

from edge_agent.contract import signing
from export.assemble import Report
from export.verify import TOLERANCE


def table(report: Report) -> Table:
    """Parity, operators, size, latency, signature and place."""
    rows = Table(title=f"{report.name} {report.version}", show_header=False, title_justify="left")
    rows.add_column(style="bold")
    rows.add_column(overflow="fold")
    for parity in report.parities:
        rows.add_row(
            f"ONNX beside Keras, {parity.windows}", f"{parity.worst:.1e} of the largest value on {parity.count} windows (allowed {TOLERANCE:.0e})"
        )
    rows.add_row("operators", ", ".join(f"{name} {count}" for name, count in report.operators.items()))
    rows.add_row("size", f"model.onnx {report.model_bytes / 1e3:.0f} kB, whole bundle {report.bundle_bytes / 1e3:.0f} kB")
    rows.add_row("one forecast", f"{report.latency_ms:.2f} ms for the graph, here, on one thread")
    if report.int8 is not None:
        rows.add_row("int8", report.int8.text)
    rows.add_row("golden sample", "written, read back and run by the agent's code: the same forecast")
    rows.add_row("signed by", _signer(report.signer))
    rows.add_row("bundle", str(report.bundle.resolve()))
    return rows


def _signer(public: str | None) -> str:
    if public is None:
        return "nobody: agents take it with --allow-unsigned only"
    if base64.b64decode(public) in signing.trusted_keys():
        return f"{public} (trusted by this user's agents; on another gateway: hearthcast-agent keys trust FILE.pub)"
    return f"{public} (trusted by nobody on this machine; on the gateway: hearthcast-agent keys trust FILE.pub)"
