"""statsforecast: MSTL with a day's and a week's season and AutoETS for the trend, fitted anew at each origin on the last four weeks."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
from statsforecast.models import MSTL, AutoETS

from benchmarks.accuracy.peer_case import Floats, Forecasts, Ints, PeerCase, run, with_error_quantiles


def forecast(case: PeerCase, settings: dict[str, Any]) -> Forecasts:
    """Points; quantiles from the errors at a few past origins."""
    values = case.filled
    rows = settings["days"] * case.day

    def points(origins: Ints) -> Floats:
        return np.stack([_one(values[max(o - rows, 0) : o], case) for o in origins])

    usable = case.past_origins[case.past_origins >= 15 * case.day]
    past = usable[np.linspace(0, len(usable) - 1, settings["past"]).astype(int)]
    return with_error_quantiles(case, points(case.origins), points(past), past)


def _one(values: Floats, case: PeerCase) -> Floats:
    model = MSTL(season_length=[case.day, 7 * case.day], trend_forecaster=AutoETS(model="ZZN"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(model.forecast(y=values, h=case.horizon)["mean"])


if __name__ == "__main__":
    sys.exit(run(forecast))
