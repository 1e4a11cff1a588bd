"""k-nearest-neighbours recursion as home-energy tools use it: a day of lags and the date, the step forecast becomes the next step's lag.

After EMHASS's MLForecaster with its defaults: scikit-learn's KNeighborsRegressor(), power in W, lags of one day, year, month, day of the week, day
of the year, day and hour unscaled, nine days of history; its `tune` searches neighbours, weights and lags.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import KNeighborsRegressor

from benchmarks.accuracy.peer_case import Floats, Forecasts, Ints, PeerCase, run, with_error_quantiles

TUNE_ORIGINS = 40
TUNE_SHARE = 0.8
YEAR = 365


def forecast(case: PeerCase, settings: dict[str, Any]) -> Forecasts:
    """Fitted anew each day on the last nine days, or once on the training span's last year with the best of a small search."""
    power, dates, to_wh = case.filled * 3600 / case.step_s, date_features(case.wall_s), case.step_s / 3600
    if settings["days"]:
        rows = settings["days"] * case.day
        past = case.past_origins[case.past_origins >= rows]
        here, before = (refitted_daily(case, power, dates, origins, rows) * to_wh for origins in (case.origins, past))
        return with_error_quantiles(case, here, before, past)
    chosen = tuned(case, power, dates)
    # what it was fitted on it knows too well: the errors are those of the newest fifth, fitted without it
    split = int(case.train_rows * TUNE_SHARE)
    past = case.past_origins[case.past_origins >= split]
    model, earlier = (fitted(power, dates, max(end - YEAR * case.day, 0), end, case.day, chosen) for end in (case.train_rows, split))
    here, before = recursion(model, power, dates, case.origins, case) * to_wh, recursion(earlier, power, dates, past, case) * to_wh
    return with_error_quantiles(case, here, before, past)


def refitted_daily(case: PeerCase, power: Floats, dates: Floats, origins: Ints, rows: int) -> Floats:
    """Forecasts in W, those of one day by one model, fitted on the `rows` before the day's first."""
    days = origins // case.day
    parts = []
    for day in np.unique(days):
        of_day = origins[days == day]
        parts.append(recursion(fitted(power, dates, of_day[0] - rows, of_day[0], case.day, {}), power, dates, of_day, case))
    return np.concatenate(parts)


def date_features(wall_s: Ints) -> Floats:
    """Year, month, day of the week, day of the year, day and hour of each step, `(n, 6)`."""
    time = wall_s.astype("datetime64[s]")
    year, month, day = (time.astype(f"datetime64[{unit}]") for unit in "YMD")
    columns = (
        year.astype(int) + 1970,
        month.astype(int) % 12 + 1,
        (day.astype(int) + 3) % 7,
        (day - year.astype("datetime64[D]")).astype(int) + 1,
        (day - month.astype("datetime64[D]")).astype(int) + 1,
        wall_s // 3600 % 24,
    )
    return np.stack(columns, axis=1).astype(np.float64)


def fitted(power: Floats, dates: Floats, first: int, end: int, lags: int, chosen: dict[str, Any]) -> Any:
    """The regressor on rows [first, end)."""
    windows = np.lib.stride_tricks.sliding_window_view(power[first:end], lags)[:-1]
    model = KNeighborsRegressor(n_neighbors=chosen.get("neighbours", 5), weights=chosen.get("weights", "uniform"), algorithm="brute")
    return model.fit(np.concatenate([windows, dates[first + lags : end]], axis=1), power[first + lags : end])


def recursion(model: Any, power: Floats, dates: Floats, origins: Ints, case: PeerCase) -> Floats:
    """Forecasts in W, `(n, horizon)`; each step's is the next one's newest lag."""
    window: npt.NDArray[np.float64] = power[origins[:, None] + np.arange(-case.day, 0)]
    out = np.empty((len(origins), case.horizon))
    for lead in range(case.horizon):
        out[:, lead] = model.predict(np.concatenate([window, dates[origins + lead]], axis=1))
        window = np.concatenate([window[:, 1:], out[:, lead : lead + 1]], axis=1)
    return out


def tuned(case: PeerCase, power: Floats, dates: Floats) -> dict[str, Any]:
    """The neighbours and weights that do best at the end of the training span, fitted on the year before."""
    split = int(case.train_rows * TUNE_SHARE)
    origins = np.linspace(split, case.train_rows - case.horizon, TUNE_ORIGINS).astype(np.int64)
    actual = case.after(origins) * 3600 / case.step_s

    def loss(chosen: dict[str, Any]) -> float:
        model = fitted(power, dates, max(split - YEAR * case.day, 0), split, case.day, chosen)
        return float(np.nanmean(np.abs(recursion(model, power, dates, origins, case) - actual)))

    return min(({"neighbours": k, "weights": weights} for k in (5, 20, 60) for weights in ("uniform", "distance")), key=loss)


if __name__ == "__main__":
    sys.exit(run(forecast))
