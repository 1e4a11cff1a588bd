"""What must outlive the program does, whatever the disk does."""

import numpy as np
import pytest

from edge_agent.config import HistoryLimits
from edge_agent.contract.errors import ConfigError, ServiceError, StorageError
from edge_agent.contract.schema import parse_house
from edge_agent.contract.weather import WeatherForecast
from edge_agent.database import Database
from edge_agent.health import Health
from edge_agent.history import BUILDER, History
from edge_agent.keeping import REOPEN_EVERY_S, Keeper
from edge_agent.reading import Reading
from edge_agent.rescue import damaged_files
from edge_agent.steps import ClosedStep
from edge_agent.weather import WeatherMemory, stored_weather

STEP = 600
T = 1_772_359_200
HOUSE = parse_house(
    """
site = "home"
time_zone = "Europe/Berlin"
targets = [{name = "energy", sensor = "plug"}]
sensors = [{name = "plug", role = "energy", topic = "plug"}]
""",
    source="house.toml",
)


@pytest.fixture
def make(tmp_path):
    """Builds keepers of one history; closes them at the end."""
    kept = []

    def make(**options):
        limits, is_replay = options.get("limits", HistoryLimits()), options.get("is_replay", False)
        keeper = Keeper(History(tmp_path / "history.db"), limits, Health(HOUSE), is_replay=is_replay)
        kept.append(keeper)
        keeper.open(options.get("house", HOUSE))
        return keeper

    yield make
    for keeper in kept:
        keeper.history.database.close()


def add(keeper, *steps):
    keeper.add_steps([ClosedStep(T + i * STEP, {"plug": float(i)}, ()) for i in steps], lambda: {"next": max(steps) + 1})


def known(keeper, n=4):
    return keeper.history.series(HOUSE.features, T, T + n * STEP, STEP).values[:, 0].tolist()


def problems(keeper):
    return keeper.health.problems(T)


def ruin(path, *, page=None):
    """Overwrite the last page, or all from one on."""
    with path.open("r+b") as file:
        size = path.stat().st_size
        file.seek(size - 4096 if page is None else 4096 * page)
        file.write(b"\xff" * (size - file.tell()))


def test_steps_are_on_the_disk_at_once(make):
    keeper = make()
    add(keeper, 0, 1)
    keeper.keep(0.0)
    assert known(keeper, 2) == [0.0, 1.0]
    assert keeper.history.state(BUILDER) == {"next": 2}


def test_readings_are_on_the_disk_after_half_a_second(make):
    keeper = make()
    keeper.keep(10.0)
    keeper.add_readings([Reading("plug", T, 1.0)])
    keeper.keep(10.4)
    assert keeper.history.rows("SELECT count(*) FROM readings") == [(0,)]
    keeper.keep(10.5)
    assert keeper.history.rows("SELECT count(*) FROM readings") == [(1,)]


def test_a_history_damaged_at_the_start_is_set_aside_and_named(make, tmp_path):
    first = make()
    add(first, *range(300))
    first.close()
    ruin(tmp_path / "history.db", page=0)
    second = make()
    (name,) = [file.name for file in damaged_files(tmp_path / "history.db")]
    assert any(name in problem for problem in problems(second))
    assert "is damaged" in second.health.events[0]
    add(second, 300)
    second.keep(0.0)
    assert known(second, 301)[-1] == 300.0


def test_a_history_damaged_while_it_runs_is_set_aside_and_filled_from_memory(make, tmp_path):
    keeper = make()
    add(keeper, *range(3))
    keeper.keep(0.0)
    remembered = keeper.history.series(HOUSE.features, T, T + 3 * STEP, STEP)
    keeper.in_memory = lambda: remembered
    keeper.history.database.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    keeper.history.database.rows("PRAGMA shrink_memory")
    ruin(tmp_path / "history.db", page=0)
    add(keeper, 3)
    keeper.keep(100.0)
    keeper.keep(200.0)
    assert known(keeper) == [0.0, 1.0, 2.0, 3.0]
    assert len(damaged_files(tmp_path / "history.db")) == 1


def test_what_an_examination_finds_is_mended_by_the_loop(make, tmp_path):
    keeper = make()
    add(keeper, *range(300))
    keeper.keep(0.0)
    keeper._examine()
    assert keeper._finding is None
    keeper.history.database.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    ruin(tmp_path / "history.db")
    keeper._examine()
    keeper.keep(1.0)
    assert len(damaged_files(tmp_path / "history.db")) == 1


def test_a_disk_that_takes_nothing_costs_nothing_while_it_lasts(make, monkeypatch):
    with monkeypatch.context() as broken:

        def refuse(*_args, **_options):
            raise StorageError("read-only")

        broken.setattr("edge_agent.database.Database.open", refuse)
        keeper = make()
        keeper._tidy_at = keeper._examine_at = float("inf")
        assert problems(keeper) == ["history fails: StorageError: read-only"]
        assert keeper.read(lambda history: history.state(BUILDER), "nothing") == "nothing"
        keeper.add_readings([Reading("plug", T, 1.0)])
        add(keeper, 0, 1)
        keeper.keep(0.0)
    keeper.keep(keeper._reopen_at - 0.1)
    assert not keeper.history.database.is_open
    keeper.keep(keeper._reopen_at)
    assert known(keeper, 2) == [0.0, 1.0]
    assert len(keeper.history.readings_since(0)) == 1
    assert problems(keeper) == []


def test_what_cannot_be_written_is_still_read(make, monkeypatch, tmp_path):
    first = make()
    add(first, 0, 1)
    first.close()
    with monkeypatch.context() as broken:

        def refuse(*_args, **_options):
            raise StorageError("read-only")

        broken.setattr("edge_agent.database.Database.open", refuse)
        second = make()
    assert second.read(lambda history: history.state(BUILDER), None) == {"next": 2}
    add(second, 2)
    assert not second.save()
    second.keep(second._reopen_at + REOPEN_EVERY_S)
    assert known(second, 3) == [0.0, 1.0, 2.0]


def test_another_houses_history_is_refused_at_the_start(make):
    make().close()
    other = parse_house(
        'site = "b"\ntime_zone = "UTC"\nstep = 300\ntargets = [{name = "e", sensor = "plug"}]\n'
        'sensors = [{name = "plug", role = "energy", topic = "plug"}]',
        source="b",
    )
    with pytest.raises(ConfigError, match="holds steps of 600 s"):
        make(house=other)


def test_a_folder_of_somebody_else_is_refused_at_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    keeper = Keeper(History(tmp_path / "file" / "history.db"), HistoryLimits(), Health(HOUSE), is_replay=False)
    with pytest.raises(ServiceError, match="no right to write"):
        keeper.open(HOUSE)


def test_a_full_history_makes_room_and_goes_on(make, monkeypatch):
    monkeypatch.setattr("edge_agent.keeping.TIDY_PACE_S", 0.0)
    monkeypatch.setattr("edge_agent.keeping.RETRY_SAVE_S", 1.0)
    keeper = make()
    keeper.add_readings(Reading("plug", T + i * 100.0, float(i)) for i in range(30_000))
    add(keeper, 4999)
    keeper.keep(0.0)
    pages = keeper.history.database.one("PRAGMA page_count")
    keeper.retention.limits = HistoryLimits(max_bytes=pages * 4096)
    keeper.retention._limit_file()
    add(keeper, *range(5000, 6000))
    assert not keeper.save()
    assert "full" in problems(keeper)[0]
    for second in range(10, 60):
        keeper.keep(float(second))
    assert not keeper._is_unsaved
    assert problems(keeper) == []
    assert keeper.history.database.one("PRAGMA page_count") <= pages
    assert np.isfinite(keeper.history.series(HOUSE.features, T + 5000 * STEP, T + 6000 * STEP, STEP).values).all()


def test_a_disk_without_room_leaves_the_damaged_file_until_there_is(make, tmp_path, monkeypatch):
    first = make()
    add(first, 0)
    first.close()
    ruin(tmp_path / "history.db", page=0)
    with monkeypatch.context() as full:
        full.setattr("edge_agent.rescue._copy_all", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        second = make()
        assert "No space left" in problems(second)[0]
    add(second, 1)
    second.keep(second._reopen_at)
    assert known(second, 2)[1] == 1.0


@pytest.mark.parametrize("is_replay", [True, False])
def test_a_replay_forgets_as_its_hours_fly_by(make, is_replay, monkeypatch):
    monkeypatch.setattr("edge_agent.retention.ROWS", 3)  # several pieces an hour
    keeper = make(limits=HistoryLimits(readings_s=3600.0), is_replay=is_replay)
    for i in range(0, 30, 2):
        keeper.add_readings([Reading("plug", T + i * STEP + second / 10, float(i)) for second in range(10)])
        add(keeper, i)
        keeper.keep(float(i))  # a second of ours for an hour of the house
    assert (len(keeper.history.readings_since(T)) < 80) == is_replay


def test_weather_forecasts_that_came_while_the_clock_was_ahead_and_the_disk_took_nothing_get_their_true_times(make, monkeypatch):
    def no_room(*_, **__):
        raise StorageError("disk full")

    def forecast(issued_at):
        return WeatherForecast("outdoor_temperature", issued_at, np.array([T]), np.array([15.0]))

    keeper, ahead = make(), 30 * 86_400.0
    with monkeypatch.context() as full:
        full.setattr(Database, "transaction", no_room)
        keeper.add_weather([forecast(T), forecast(T + 3600.0 + ahead)])
        keeper.correct_weather(later_than=T + ahead / 2, by_s=ahead)
        assert keeper.weather(WeatherMemory(step_s=STEP)).forecasts().newest("outdoor_temperature", T + 7200).issued_at == T + 3600.0
    assert keeper.save()
    assert [f.issued_at for f in stored_weather(keeper.history)] == [T, T + 3600.0]
