from datetime import UTC, datetime

import numpy as np
import pytest

from demo.folder import prepare_folder
from demo.material import recorded_material, simulated_material
from demo.simulate import HOUSE_TOML, simulate_house, write_csv
from edge_agent.contract.errors import ConfigError, DataError
from edge_agent.contract.localtime import DAY_S


@pytest.fixture
def folder(tmp_path):
    return prepare_folder(tmp_path / "out")


def utc(*parts):
    return int(datetime(*parts, tzinfo=UTC).timestamp())


def test_last_day_is_held_back_and_the_days_before_it_are_replayed(folder):
    material = simulated_material(7, folder, quick=True)
    # ten weeks from Monday 4 May 2026 00:00 in Berlin (22:00 UTC the day before) end with Sunday 12 July
    assert material.origin == utc(2026, 7, 11, 22)
    assert material.replay_from == material.origin - 3 * DAY_S
    assert material.earlier.end == material.replayed.start
    assert material.replayed.end == material.origin
    assert material.series.end - material.origin == DAY_S


def test_recorded_table_is_cut_at_its_last_whole_local_day(folder, tmp_path):
    series = simulate_house(1, 70)
    write_csv(series.between(series.start, series.end - 5 * 3600), tmp_path / "mine.csv")
    material = recorded_material(tmp_path / "mine.csv", HOUSE_TOML, folder, quick=False)
    assert material.origin == utc(2026, 7, 10, 22)  # the 12th lacks its last five hours, so the 11th is held back
    assert material.replay_from == material.origin - 9 * DAY_S
    np.testing.assert_allclose(material.earlier.values, series.between(series.start, material.replay_from).values)


def test_short_table_says_how_long_it_must_be(folder, tmp_path):
    write_csv(simulate_house(1, 30), tmp_path / "short.csv")
    with pytest.raises(DataError, match=r"covers 30\.0 days: at least 53"):
        recorded_material(tmp_path / "short.csv", HOUSE_TOML, folder, quick=False)


def test_data_without_a_description_asks_for_one(folder, tmp_path):
    with pytest.raises(ConfigError, match="--house"):
        recorded_material(tmp_path / "mine.csv", tmp_path / "missing.toml", folder, quick=False)
