"""Which peers the table has, and how each is run."""

from __future__ import annotations

from pathlib import Path

from benchmarks.accuracy.material import Prepared
from benchmarks.accuracy.peers import Peer

NEURAL_STEPS = 300
NEURAL_WINDOWS = 128


def peers(python: Path, models: Path, training: tuple[Prepared, ...]) -> list[Peer]:
    """All peers, the cheapest first."""
    own = "fitted on the home's own first 80 %"
    trees = {"rows": 50_000, "trees": 150}
    gradient = f"one model a level on 50,000 random pairs of origin and lead, 150 trees, lags and rolling means by mlforecast, {own}"
    homes = "the homes that Hearthcast's base model is trained on, 7 days in, calendar known, MQLoss on the nine deciles"
    size = f"{NEURAL_STEPS} steps of {NEURAL_WINDOWS} windows"
    out = [
        Peer("k-nearest neighbours, 9 days", "peer_knn", "EMHASS's defaults, fitted anew each day", {"days": 9}),
        Peer(
            "k-nearest neighbours, tuned",
            "peer_knn",
            f"the same recursion, neighbours and weights searched, {own} (of a longer history, its last year)",
            {"days": 0},
        ),
        Peer("LightGBM quantiles", "peer_lightgbm", gradient, {**trees, "relative": False}),
        Peer(
            "LightGBM on load / 28-day mean",
            "peer_lightgbm",
            f"the same, everything divided by the last 28 days' mean, {own}",
            {**trees, "relative": True},
        ),
        Peer(
            "MSTL + AutoETS",
            "peer_mstl",
            "statsforecast, a day's and a week's season, fitted at each origin on the last four weeks",
            {"days": 28, "past": 15},
            few=True,
        ),
    ]
    for model in ("NHITS", "LSTM"):
        settings = {"model": model, "steps": NEURAL_STEPS, "windows": NEURAL_WINDOWS, "folder": str(models)}
        if training:
            out.append(Peer(f"{model} of neuralforecast, zero-shot", "peer_neural", f"{homes}, {size}", settings, training=training))
    return [Peer(**{**vars(peer), "python": python}) for peer in out]
