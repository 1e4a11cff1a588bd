"""A made-up home in the columns of one that the accuracy table knows."""

import gzip

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="session")
def houston_like(tmp_path_factory):
    """A folder with 60 days of a made-up `houston_home_hourly`: two meals a day, levels that move, one gap."""
    rng = np.random.default_rng(4)
    hour = np.arange(24 * 60)
    meals = 0.3 + 0.5 * np.exp(-((hour % 24 - 8) ** 2) / 4) + 0.9 * np.exp(-((hour % 24 - 19) ** 2) / 6)
    energy = meals * rng.gamma(6, 1 / 6, hour.size) * np.repeat(rng.gamma(20, 1 / 20, 60), 24)
    energy[300:306] = np.nan
    times = pd.date_range("2019-01-01", periods=hour.size, freq="h")
    low = np.repeat(rng.uniform(5, 20, 60), 24).round(1)
    table = pd.DataFrame({"date": times, "energy_kwh": energy.round(3), "t_out_max_c": low + 9, "t_out_avg_c": low + 4, "t_out_min_c": low})
    folder = tmp_path_factory.mktemp("tables")
    (folder / "houston_home_hourly.csv.gz").write_bytes(gzip.compress(table.to_csv(index=False).encode()))
    return folder
