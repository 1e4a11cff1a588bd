"""NHITS and LSTM of neuralforecast with its quantile loss on nine deciles: seven days in, calendar known, trained on other homes or on this one."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from pathlib import Path
from typing import Any

os.environ["NIXTLA_ID_AS_COL"] = "1"
import numpy as np
import pandas as pd
import torch
from neuralforecast import NeuralForecast
from neuralforecast.losses.pytorch import MQLoss
from neuralforecast.models import LSTM, NHITS

from benchmarks.accuracy.peer_case import Floats, Forecasts, Ints, PeerCase, filled, run

CALENDAR = ["day_sin", "day_cos", "week_sin", "week_cos", "weekend"]
CHUNK = 256
PAST = 120


def forecast(case: PeerCase, settings: dict[str, Any]) -> Forecasts:
    """Trained once, then asked at every origin; the training homes are not the case's."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    homes = case.homes or ((case.energy[: case.train_rows], case.wall_s[: case.train_rows]),)
    frames = [_frame(f"home{i}", filled(values, case.day), wall_s, case.step_s) for i, (values, wall_s) in enumerate(homes)]
    engine = _trained(case, frames, settings)
    quantiles, past = _at_origins(engine, case, case.origins, settings), case.past_origins[-PAST:]
    # the mean of nine deciles leaves out the spikes of the upper tail: it is scaled to what the home really used
    deciles, actual = _at_origins(engine, case, past, settings).mean(axis=2), case.after(past)
    known = np.isfinite(actual)
    return quantiles, quantiles.mean(axis=2) * (actual[known].sum() / deciles[known].sum())


def _trained(case: PeerCase, frames: list[pd.DataFrame], settings: dict[str, Any]) -> Any:
    """The model trained on the frames; kept in `folder` by what it depends on, because cases with the same training homes share it."""
    sums = [int(pd.util.hash_pandas_object(frame[["ds", "y"]]).sum()) for frame in frames]
    known = {name: value for name, value in settings.items() if name != "folder"}
    name = hashlib.sha256(f"{sums} {sorted(known.items())} {case.step_s} {Path(__file__).read_text()}".encode()).hexdigest()[:16]
    folder = Path(settings["folder"]) / name
    if not folder.is_dir():
        engine = NeuralForecast(models=[_model(case, settings)], freq=f"{case.step_s // 60}min")
        engine.fit(df=pd.concat(frames, ignore_index=True))
        engine.save(str(folder), save_dataset=False, overwrite=True)
    return NeuralForecast.load(str(folder))


def _model(case: PeerCase, settings: dict[str, Any]) -> Any:
    common = {
        "h": case.horizon,
        "input_size": 7 * case.day,
        "loss": MQLoss(quantiles=[float(level) for level in case.levels]),
        "futr_exog_list": CALENDAR,
        "max_steps": settings["steps"],
        "windows_batch_size": settings["windows"],
        # all windows of a batch of homes are copied before some are drawn: every step of 32 homes at ten minutes would take 213 GB
        "batch_size": 2,
        "step_size": case.day // 24,
        "scaler_type": "standard",
        "random_seed": settings["seed"] + 1,
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "logger": False,
        "enable_checkpointing": False,
    }
    return NHITS(**common) if settings["model"] == "NHITS" else LSTM(**common, encoder_hidden_size=64, decoder_hidden_size=64, recurrent=False)


def _frame(name: str, values: Floats, wall_s: Any, step_s: int) -> pd.DataFrame:
    times = pd.to_datetime(int(wall_s[0]) + step_s * np.arange(len(values)), unit="s")
    return pd.DataFrame({"unique_id": name, "ds": times, "y": values, **_calendar(wall_s)})


def _calendar(wall_s: Any) -> dict[str, Floats]:
    day, week = 2 * np.pi * (wall_s % 86_400) / 86_400, 2 * np.pi * ((wall_s + 3 * 86_400) % 604_800) / 604_800
    return dict(zip(CALENDAR, (np.sin(day), np.cos(day), np.sin(week), np.cos(week), ((wall_s // 86_400 + 3) % 7 >= 5) * 1.0), strict=True))


def _at_origins(engine: Any, case: PeerCase, origins: Ints, settings: dict[str, Any]) -> Floats:
    """Each origin's last seven days as a series of its own, many at a time, `(n_origins, horizon, n_levels)`."""
    values, length = case.filled, 7 * case.day
    parts = []
    for first in range(0, len(origins), CHUNK):
        past, future = [], []
        for i, origin in enumerate(origins[first : first + CHUNK]):
            name = f"o{i:04d}"
            window = _frame(name, values[origin - length : origin], case.wall_s[origin - length : origin], case.step_s)
            past.append(window)
            ahead = case.wall_s[origin : origin + case.horizon]
            times = window["ds"].iloc[-1] + pd.to_timedelta(case.step_s * np.arange(1, case.horizon + 1), unit="s")
            future.append(pd.DataFrame({"unique_id": name, "ds": times, **_calendar(ahead)}))
        found = engine.predict(df=pd.concat(past, ignore_index=True), futr_df=pd.concat(future, ignore_index=True)).sort_values(["unique_id", "ds"])
        columns = [c for c in found.columns if c.startswith(settings["model"])]
        parts.append(found[columns].to_numpy().reshape(-1, case.horizon, len(columns)))
    return np.concatenate(parts)


if __name__ == "__main__":
    sys.exit(run(forecast))
