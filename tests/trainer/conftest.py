"""A small house that the training tests share: hourly, 80 days, so that a network is trained in a second."""

import numpy as np
import pytest

from edge_agent.contract.features import FeatureBuilder
from edge_agent.contract.localtime import local_seconds
from edge_agent.contract.schema import parse_house
from edge_agent.contract.series import Series
from edge_agent.contract.weather import PerfectWeather
from trainer.presets import plan_for
from trainer.quiet import quiet_libraries

quiet_libraries()

TOML = """
site = "small"
time_zone = "Europe/Berlin"
step = 3600
table_clock = "utc"
targets = [{ name = "energy", sensor = "meter" }, { name = "living_room", sensor = "living" }]
[[sensors]]
name = "meter"
role = "energy"
column = "use"
[[sensors]]
name = "living"
role = "indoor_temperature"
column = "living"
[[sensors]]
name = "outdoor"
role = "outdoor_temperature"
column = "outdoor"
"""
METERS = """
site = "street"
time_zone = "Europe/Berlin"
step = 1800
table_clock = "utc"
targets = [{targets}]
{sensors}
[[sensors]]
name = "outdoor"
role = "outdoor_temperature"
column = "outdoor"
"""
START = 1_767_225_600  # 2026-01-01T00:00Z
N_DAYS = 80


@pytest.fixture(scope="session")
def small_house():
    return parse_house(TOML, source="house.toml")


@pytest.fixture(scope="session")
def small_series(small_house):
    """Two meals a day, warmer afternoons, a little noise."""
    rng = np.random.default_rng(0)
    hour = np.arange(24 * N_DAYS) % 24
    meals = 80 + 300 * np.exp(-((hour - 8) ** 2) / 4) + 600 * np.exp(-((hour - 19) ** 2) / 6)
    outdoor = 5 + 6 * np.sin(2 * np.pi * (hour - 9) / 24) + rng.normal(0, 1, hour.size)
    living = 20 + 0.1 * outdoor + rng.normal(0, 0.2, hour.size)
    return Series(START, 3600, small_house.features, np.stack([meals * rng.gamma(4, 0.25, hour.size), living, outdoor], axis=1))


@pytest.fixture(scope="session")
def small_builder(small_house, small_series):
    """`small_builder(preset, target="energy", covariates=(), weather=())`; the weather ahead is perfect."""

    def build(preset, target="energy", covariates=(), series=small_series, weather=()):
        plan = plan_for(preset, small_house, target, covariates, weather)
        source = PerfectWeather(series)
        return FeatureBuilder(plan, series, target=small_house.target(target).sensor, zone=small_house.zone, weather=source)

    return build


@pytest.fixture(scope="session")
def small_run(tmp_path_factory, small_series):
    """Paths of a house.toml and a CSV as a user would have them."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "house.toml").write_text(TOML)
    times = np.datetime_as_string(small_series.times.astype("datetime64[s]"))
    rows = [f"{t},{e:.3f},{a:.3f},{b:.3f}" for t, (e, a, b) in zip(times, small_series.values, strict=True)]
    (folder / "house.csv").write_text("\n".join(["time,use,living,outdoor", *rows]) + "\n")
    return folder / "house.toml", folder / "house.csv"


@pytest.fixture(scope="session")
def street(small_series, tmp_path_factory):
    """Paths of a house.toml and a CSV of four half-hourly meters, and the table's rows."""
    folder = tmp_path_factory.mktemp("street")
    names = [f"home{i}" for i in range(4)]
    targets = ", ".join(f'{{ name = "{name}", sensor = "{name}" }}' for name in names)
    sensors = "".join(f'[[sensors]]\nname = "{name}"\nrole = "energy"\ncolumn = "{name}"\n' for name in names)
    (folder / "street.toml").write_text(METERS.format(targets=targets, sensors=sensors))
    half = small_series.resample(1800)
    rng = np.random.default_rng(1)
    use = half.values[:, :1] * (0.5 + np.arange(4)) * rng.gamma(3, 1 / 3, (len(half), 4))
    times = np.datetime_as_string(half.times.astype("datetime64[s]"))
    rows = [",".join([t, *(f"{v:.2f}" for v in e), f"{o:.1f}"]) for t, e, o in zip(times, use, half.values[:, 2], strict=True)]
    (folder / "street.csv").write_text("\n".join(["time," + ",".join(names) + ",outdoor", *rows]) + "\n")
    return folder / "street.toml", folder / "street.csv"


@pytest.fixture
def changed_meter(small_run, tmp_path):
    """`changed_meter(use)`: path of the small house's table with `use(row, value)` in its meter's column."""

    def make(use):
        head, *rows = small_run[1].read_text().splitlines()
        cells = [row.split(",") for row in rows]
        path = tmp_path / "changed.csv"
        path.write_text("\n".join([head, *(",".join([c[0], str(use(i, c[1])), *c[2:]]) for i, c in enumerate(cells))]) + "\n")
        return path

    return make


@pytest.fixture
def spoilt_end(small_run, tmp_path):
    """Path of the small house's table, the last fifth of it nonsense that no check takes for a dead meter."""
    lines = small_run[1].read_text().splitlines()
    border = 1 + round(0.8 * (len(lines) - 1))
    nonsense = np.random.default_rng(0).integers(1, 99, (len(lines) - border, 3))
    spoilt = [f"{line.split(',')[0]},{a},{b / 3:.1f},{c - 60}" for line, (a, b, c) in zip(lines[border:], nonsense, strict=True)]
    (tmp_path / "spoilt.csv").write_text("\n".join([*lines[:border], *spoilt]) + "\n")
    return tmp_path / "spoilt.csv"


@pytest.fixture(scope="session")
def lived_in():
    """`lived_in(n_days, step_s=3600, start=START, zone=UTC, seed=0)`: Wh of each step of a home whose people keep the zone's wall time."""

    def make(n_days, step_s=3600, start=START, zone=None, seed=0):
        rng = np.random.default_rng(seed)
        times = start + step_s * np.arange(n_days * 86_400 // step_s, dtype=np.int64)
        local = times if zone is None else local_seconds(times, zone)
        hour, weekend = local % 86_400 / 3600, (local // 86_400 + 3) % 7 >= 5
        morning = 300 * np.exp(-((hour - 7 - 2 * weekend) ** 2) / 2)
        evening = 600 * np.exp(-((hour - 19) ** 2) / 4)
        power_w = 90 * rng.gamma(30, 1 / 30, len(times)) + (morning + evening) * rng.gamma(2, 0.5, len(times))
        return np.round(power_w * step_s / 3600, 1)

    return make
