from pathlib import Path

import numpy as np
import pytest

from edge_agent.contract.bundle import read_bundle
from edge_agent.contract.schema import parse_house
from edge_agent.contract.series import Series
from trainer.scorecard import Card, to_json
from trainer.workers import Job, Skipped, cards

DAY_S = 86_400


@pytest.fixture(scope="module")
def bundle():
    return read_bundle(Path(__file__).parents[1] / "fixtures" / "tiny", allow_unsigned=True)


def job(site, *, seed, is_modelled=True, n_origins=30, unknown=False):
    house = parse_house(
        f"""
        site = "{site}"
        time_zone = "UTC"
        step = 3600
        targets = [{{ name = "energy", sensor = "mains" }}]
        sensors = [{{ name = "mains", role = "energy", column = "wh" }}]
        """,
        source="test",
    )
    values = np.random.default_rng(seed).gamma(2.0, 40.0, 70 * 24)
    if unknown:
        values[60 * 24 :] = np.nan
    return Job(house, "energy", is_modelled, Series(0, 3600, house.features, values[:, None]), 60 * DAY_S + 3600 * np.arange(n_origins))


def jobs():
    return [job("a", seed=1), job("b", seed=2, unknown=True), job("c", seed=3, is_modelled=False), job("d", seed=4)]


def scored(bundle, folder, n_workers):
    done = []
    folder.mkdir()
    found = list(cards(iter(jobs()), bundle, archive=folder, n_workers=n_workers, on_progress=lambda *one: done.append(one)))
    assert sum(n for n, _ in done) == 120
    assert sum(homes for _, homes in done) == pytest.approx(4)
    return found


def test_workers_make_the_same_cards_and_files_in_the_same_order(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.workers.ORIGINS_A_TASK", 50)  # two tasks of two homes
    here, there = scored(bundle, tmp_path / "1", 1), scored(bundle, tmp_path / "2", 2)
    assert [card.name for card in here] == ["a:energy", "b:energy", "c:energy", "d:energy"]
    assert isinstance(here[1], Skipped)
    assert "no actual value is known" in here[1].reason
    assert here[1] == there[1]
    for one, other in zip(here, there, strict=True):
        if isinstance(one, Card):
            assert to_json(one) == to_json(other)
    files = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert files == ["a-energy.npz", "c-energy.npz", "d-energy.npz"]
    assert files == sorted(path.name for path in (tmp_path / "2").iterdir())
    for name in files:
        with np.load(tmp_path / "1" / name) as one, np.load(tmp_path / "2" / name) as other:
            assert all(np.array_equal(one[key], other[key], equal_nan=one[key].dtype.kind == "f") for key in one.files)
