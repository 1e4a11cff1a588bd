"""Whether a run's model is worth shipping: not worse, by the run's own scores, than what a gateway does without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from edge_agent.contract.errors import ExportError

MODEL: Final = "model"
RIVALS: Final = {
    "rolling climatology": "which every agent forecasts energy by when it has no model",
    "mixture of naive forecasts": "which every agent forecasts a room by when it has no model",
    "base": "the model that fine-tuning started from",
}
"""What a model must not be worse than, where the run names it, and what that is."""


def check_worth(scores: Mapping[str, Any], *, source: str) -> None:
    """See that the model's CRPS is no worse than its rivals' on the test span, or, in a run without one, on every span that it was scored on.

    Args:
        scores: the run's, by span and method.
        source: where they stand.

    Raises:
        ExportError: it is worse.
    """
    spans = {"test": scores["test"]} if "test" in scores else scores
    lost = [text for span, table in spans.items() for text in _lost(span, table)]
    if lost:
        raise ExportError(f"{source}: {'; '.join(lost)}: nothing was written; train on more data, or export it all the same with --even-if-worse")


def _lost(span: str, table: Any) -> Iterator[str]:
    """Each rival that is better on a span."""
    if not isinstance(table, Mapping) or MODEL not in table:
        return
    own = table[MODEL]["crps"]
    for rival, what in RIVALS.items():
        if rival in table and own > table[rival]["crps"]:
            loss = own / table[rival]["crps"] - 1
            yield f"on the {span} span the model's CRPS is {loss:.1%} worse than the {rival}'s, {what}"
