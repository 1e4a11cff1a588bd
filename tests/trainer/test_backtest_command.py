import functools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edge_agent.contract.errors import ConfigError
from trainer import backtest_plan
from trainer.__main__ import main
from trainer.outputs import write_whole
from trainer.workers import cards

TINY = Path(__file__).parents[1] / "fixtures" / "tiny"


@pytest.fixture
def backtest(small_run, capsys):
    """`backtest("--json", …)` on the small house; returns exit code and output."""

    def run(*options, houses=None, data=None):
        house, table = small_run
        code = main(["backtest", "--house", *map(str, houses or [house]), "--data", *map(str, data or [table]), *map(str, options)])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


@pytest.fixture
def two_houses(small_run, tmp_path):
    house, table = small_run
    other = tmp_path / "other.toml"
    other.write_text(house.read_text().replace('site = "small"', 'site = "other"'))
    return [house, other], [table, table]


def test_one_house_writes_its_scores_and_forecasts(backtest, tmp_path):
    code, said = backtest("--json", tmp_path / "s.json", "--predictions", tmp_path / "p.npz", "--every", "6h")
    assert code == 0
    assert "small, energy: 61 origins" in said
    scores = json.loads((tmp_path / "s.json").read_text())
    assert scores["site"] == "small"
    assert scores["origins"]["n"] == 61
    with np.load(tmp_path / "p.npz") as kept:
        assert kept["origins"].dtype == np.int64
        assert kept["quantiles"].shape == (61, 24, 9)
        assert kept["mean"].shape == kept["actual"].shape == (61, 24)
        mae = np.nanmean(np.abs(kept["quantiles"][:, :, 4] - kept["actual"]))
    assert scores["scores"]["base-energy"]["mae"] == pytest.approx(mae)
    assert scores["days"]["n"] == 16  # the last fifth of eighty
    assert scores["days"]["by"]["base-energy"]["misplaced"] >= scores["days"]["by"]["base-energy"]["total_error"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.npz", "s.json"]


def test_several_houses_are_one_run_with_a_file_each(backtest, two_houses, tmp_path):
    houses, data = two_houses
    options = ("--json", tmp_path / "s.json", "--predictions", tmp_path / "p", "--html", tmp_path / "r.html", "--every", "1d", "--workers", "1")
    code, said = backtest(*options, houses=houses, data=data)
    assert code == 0
    assert "2 homes together" in said
    assert "2 homes together" in (tmp_path / "r.html").read_text()
    scores = json.loads((tmp_path / "s.json").read_text())
    assert list(scores["homes"]) == ["small:energy", "other:energy"]
    assert scores["homes"]["small:energy"]["scores"] == scores["homes"]["other:energy"]["scores"]
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["other-energy.npz", "small-energy.npz"]


def test_every_target_of_a_house_is_scored_in_its_own_unit(backtest, tmp_path):
    code, _ = backtest("--all-targets", "--json", tmp_path / "s.json", "--every", "1d", "--workers", "1")
    assert code == 0
    homes = json.loads((tmp_path / "s.json").read_text())["homes"]
    assert {name: (one["unit"], one["model"]) for name, one in homes.items()} == {
        "small:energy": ("Wh", "base-energy"),
        "small:living_room": ("degC", "mixture of naive forecasts"),
    }


def test_perfect_weather_is_given_to_the_models_that_read_one(backtest, tmp_path):
    code, _ = backtest("--all-targets", "--perfect-weather", "--json", tmp_path / "s.json", "--every", "1d", "--workers", "1")
    assert code == 0
    homes = json.loads((tmp_path / "s.json").read_text())["homes"]
    assert {name: one["weather"] for name, one in homes.items()} == {
        "small:energy": "perfect weather forecast",
        "small:living_room": "no weather forecast",
    }


def test_one_bad_house_of_several_is_named_and_left_out(backtest, two_houses, tmp_path):
    houses, data = two_houses
    bad = tmp_path / "bad.csv"
    bad.write_text("time,use,living,outdoor\n2026-01-01T00:00,many,20,5\n")
    code, said = backtest("--json", tmp_path / "s.json", "--every", "1d", "--workers", "1", houses=houses, data=[data[0], bad])
    assert code == 0
    assert "left out: other" in said
    assert "bad.csv" in json.loads((tmp_path / "s.json").read_text())["skipped"]["other"]


def dead_days(row, value):
    return 0 if 1700 <= row < 1748 else value


def test_dead_days_are_told_and_not_scored(backtest, changed_meter, tmp_path):
    table = changed_meter(dead_days)
    options = ("--json", tmp_path / "s.json", "--predictions", tmp_path / "p.npz", "--every", "1d")
    code, said = backtest(*options, data=[table])
    assert code == 0
    assert "history checked: 1 finding" in said
    (found,) = json.loads((tmp_path / "s.json").read_text())["quality"]
    assert (found["kind"], found["done"], found["steps"]) == ("dead", "masked", 48)
    with np.load(tmp_path / "p.npz") as kept:
        assert np.isnan(kept["actual"]).sum() == 48
    code, said = backtest(*options, "--accept", "dead", data=[table])
    assert (code, " noted " in said) == (0, True)
    with np.load(tmp_path / "p.npz") as kept:
        assert np.isfinite(kept["actual"]).all()


def test_a_refused_home_of_several_is_left_out_with_its_reason(backtest, two_houses, changed_meter, tmp_path):
    houses, (table, _) = two_houses
    empty = changed_meter(lambda row, value: value if row % 24 < 3 else 0)
    options = ("--every", "1d", "--workers", "1", "--json", tmp_path / "s.json")
    code, said = backtest(*options, houses=houses, data=[table, empty])
    assert code == 0
    assert "histories of 2 homes checked" in said
    assert "left out: other:energy: " in said
    written = json.loads((tmp_path / "s.json").read_text())
    assert list(written["homes"]) == ["small:energy"]
    assert [(found["source"], found["kind"], found["done"]) for found in written["quality"]] == [("other", "empty", "refused")]
    code, said = backtest("--every", "1d", houses=houses[:1], data=[empty])
    assert code == 1
    assert "meter: 0 in 88% of all known steps: refused" in said


def test_a_bad_single_house_is_an_error(backtest, tmp_path):
    bad = tmp_path / "bad.csv"
    bad.write_text("time,use,living,outdoor\n2026-01-01T00:00,many,20,5\n")
    assert backtest("--json", tmp_path / "s.json", data=[bad])[0] == 1
    assert not (tmp_path / "s.json").exists()


@pytest.mark.parametrize(
    ("days", "says"),
    [
        (3, "covers 3.0 days, too few: no origin lies in its last 20% with a whole day after it: give more --data"),
        (6, "or nothing of the week before them"),
    ],
)
def test_a_table_that_is_too_short_says_so(backtest, small_run, tmp_path, days, says):
    short = tmp_path / "short.csv"
    short.write_text("".join(small_run[1].read_text().splitlines(keepends=True)[: 24 * days + 1]))
    code, said = backtest(data=[short])
    assert code == 1
    assert says in said
    assert "widen --from and --to" in backtest("--from", "2026-01-09", data=[short])[1]


def test_notes_about_the_table_are_told(backtest, changed_meter):
    data = changed_meter(lambda _row, value: f"{value},1")
    data.write_text(data.read_text().replace("time,use,", "time,use,voltage,", 1))
    code, said = backtest("--every", "1d", data=[data])
    assert code == 0
    assert "1 column that house.toml does not name ignored: voltage" in said


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--all-targets", "--target", "energy"), "exclude each other"),
        (("--workers", "0"), "at least 1"),
        (("--price", "-1"), "price of a kWh"),
        (("--every", "25m"), "no multiple of the house's step"),
        (("--every", "1w"), "no duration"),
        (("--from", "yesterday"), "is no time"),
        (("--target", "attic"), "no target 'attic'"),
        (("--json", "/no/such/folder/s.json"), "there is no folder"),
        (("--json", "one", "--html", "./one"), "a place of its own is expected for each"),
        (("--json", "."), "--json .: this is a folder, a file is written"),
        (("--predictions", ".."), "this is a folder, a file is written"),
        (("--perfect-weather", "--target", "living_room"), "reads no weather forecast"),
        (("--perfect-weather", "--bundle", TINY, "--allow-unsigned"), "reads no weather forecast"),
    ],
)
def test_mistakes_are_named_before_the_work(backtest, options, says):
    code, said = backtest(*options)
    assert code == 2
    assert says in said


def test_two_houses_of_one_name_are_refused(backtest, small_run):
    house, table = small_run
    code, said = backtest(houses=[house, house], data=[table, table])
    assert code == 2
    assert "give each house.toml its own site" in said


@pytest.mark.parametrize("text", ["", "h", "0h", "1.5h", "10", "-1h", "1w", "²h"])
def test_a_duration_is_a_number_and_a_unit(text):
    with pytest.raises(ConfigError, match="--every"):
        backtest_plan._duration(text)


def test_a_time_without_an_offset_is_on_the_tables_clock(reference_house):
    # the reference house's table is in Belgian winter time all year: noon in May is 11:00 UTC
    assert backtest_plan._time("--from", "2016-05-01T12:00", reference_house) == 1_462_100_400
    assert backtest_plan._time("--from", "2016-05-01T12:00+02:00", reference_house) == 1_462_096_800


def test_an_interrupted_run_leaves_no_file(backtest, tmp_path, monkeypatch):
    def interrupted(jobs, *rest, **options):
        yield from cards(jobs, *rest, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr("trainer.backtest_command.cards", interrupted)
    code, said = backtest("--json", tmp_path / "s.json", "--predictions", tmp_path / "p.npz", "--every", "1d")
    assert code == 1
    assert "interrupted: no file was written" in said
    assert list(tmp_path.iterdir()) == []


def interrupted_run(two_houses, out, number):
    """Exit code and output of a backtest that gets a signal once its folder is there."""
    houses, data = two_houses
    command = [sys.executable, "-m", "trainer", "backtest", "--workers", "2", "--every", "1h", "--from", "2026-01-02"]
    command += ["--house", *map(str, houses), "--data", *map(str, data), "--predictions", str(out)]
    # what is started in the background by a shell inherits that Ctrl-C is ignored
    listen = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, **pipes, start_new_session=True, preexec_fn=listen)  # noqa: PLW1509  (no threads here)
    while process.poll() is None and not out.is_dir():
        time.sleep(0.05)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)  # ends only when no worker holds the pipe any more
    return process.returncode, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_workers_too_and_leaves_nothing(two_houses, tmp_path, number):
    # on a busy machine the run may be over before the signal arrives: then once more
    runs = ((*interrupted_run(two_houses, tmp_path / f"p{i}", number), tmp_path / f"p{i}") for i in range(5))
    code, said, out = next(run for run in runs if run[0] != 0)
    assert code == 1, said
    assert "Traceback" not in said
    assert not out.exists()


def test_a_failed_run_leaves_no_folder_and_one_that_was_there(backtest, two_houses, tmp_path):
    houses, _ = two_houses
    bad, kept = tmp_path / "bad.csv", tmp_path / "kept"
    bad.write_text("time,use,living,outdoor\n2026-01-01T00:00,many,20,5\n")
    kept.mkdir()
    for folder in (tmp_path / "p", kept):
        code, said = backtest("--predictions", folder, "--workers", "1", houses=houses, data=[bad, bad])
        assert code == 1
        assert "none of 2 homes can be scored" in said
    assert not (tmp_path / "p").exists()
    assert list(kept.iterdir()) == []


def test_files_are_written_together_or_not_at_all(tmp_path):
    with pytest.raises(ConfigError, match=r"--html .*gone/r\.html: cannot be written"):
        write_whole([("--json", tmp_path / "s.json", "{}"), ("--html", tmp_path / "gone" / "r.html", "")])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--json", "--html", "--predictions"])
def test_a_folder_where_a_file_belongs_is_refused_before_the_work(backtest, tmp_path, option):
    code, said = backtest(option, tmp_path, "--data", "no such table")
    assert code == 2
    assert "this is a folder, a file is written" in said


def test_a_file_where_a_folder_belongs_is_refused_before_the_work(backtest, tmp_path):
    (tmp_path / "p").touch()
    code, said = backtest("--predictions", tmp_path / "p", "--all-targets")
    assert code == 2
    assert "this is a file, a folder is written" in said


def test_days_that_the_model_has_seen_are_told_everywhere(backtest, two_houses, tmp_path):
    houses, data = two_houses
    # the model that ships has learnt from a house of this name, until the end of 2013
    house, old = tmp_path / "london.toml", tmp_path / "old.csv"
    house.write_text(houses[0].read_text().replace('site = "small"', 'site = "london"'))
    old.write_text(data[0].read_text().replace("2026-", "2013-"))
    options = ("--every", "1d", "--workers", "1", "--json", tmp_path / "s.json", "--html", tmp_path / "r.html")
    assert backtest(*options, houses=[house], data=[old])[0] == 0
    note = "the model has seen 16 of the 16 scored days: it learnt from a house called london, so these scores flatter it"
    assert json.loads((tmp_path / "s.json").read_text())["seen"] == {"n_days": 16, "n_seen": 16, "note": note}
    assert note in (tmp_path / "r.html").read_text()
    code, said = backtest(*options, houses=[house, houses[1]], data=[old, data[1]])
    assert code == 0
    note = "the model has seen 16 of the 32 scored days: it learnt from 1 of the 2 homes"
    written, page = json.loads((tmp_path / "s.json").read_text()), (tmp_path / "r.html").read_text()
    assert [home["seen"]["n_seen"] for home in written["homes"].values()] == [16, 0]
    assert written["pools"][0]["seen"]["note"].startswith(note)
    assert note in page
    assert "<td>16 of 16 days</td>" in page
    assert "16 of the 32 scored days" in " ".join(said.split())
    assert "seen" not in backtest("--every", "1d", houses=houses[:1], data=data[:1])[1]


@pytest.fixture
def no_outdoors(small_run, tmp_path):
    """A house.toml without an outdoor sensor."""
    path = tmp_path / "indoors.toml"
    path.write_text(small_run[0].read_text().partition('[[sensors]]\nname = "outdoor"')[0].replace('"small"', '"indoors"'))
    return path


def forecasts_of(day, path):
    """A table of one weather forecast, issued at that midnight."""
    path.write_text("\n".join(["issued,time,outdoor_temperature", *(f"{day}T00:00Z,{day}T{hour:02d}:00Z,{hour}" for hour in range(24))]) + "\n")
    return path


def test_weather_that_cannot_be_given_is_refused(backtest, no_outdoors, tmp_path):
    code, said = backtest("--perfect-weather", houses=[no_outdoors])
    assert (code, "no sensor here measures that" in said) == (2, True)
    code, said = backtest("--every", "1d", "--weather", forecasts_of("2010-01-01", tmp_path / "w.csv"))
    assert (code, "says nothing of outdoor_temperature at any of the 16 origins" in said) == (1, True)


def test_the_label_says_how_often_weather_was_given(backtest, tmp_path):
    options = ("--every", "1d", "--json", tmp_path / "s.json")
    assert backtest(*options, "--weather", forecasts_of("2026-03-10", tmp_path / "w.csv"))[0] == 0
    assert json.loads((tmp_path / "s.json").read_text())["weather"] == "weather forecasts of w.csv, at 1 of 16 origins"


def test_of_many_homes_those_without_weather_are_named_and_labelled(backtest, small_run, no_outdoors, tmp_path):
    options = ("--every", "1d", "--workers", "1", "--json", tmp_path / "s.json", "--perfect-weather")
    code, said = backtest(*options, houses=[small_run[0], no_outdoors], data=[small_run[1]] * 2)
    assert code == 0
    assert "nothing was known of the weather ahead for 1 of 2 homes: indoors:energy" in said
    homes = json.loads((tmp_path / "s.json").read_text())["homes"]
    assert {name: one["weather"] for name, one in homes.items()} == {
        "small:energy": "perfect weather forecast",
        "indoors:energy": "no weather forecast",
    }


@pytest.mark.parametrize("column", ["energy [kWh]", "e[/kWh]"])
def test_square_brackets_in_a_column_are_printed_as_they_are(backtest, two_houses, tmp_path, column):
    houses, data = two_houses
    houses[1].write_text(houses[1].read_text().replace('column = "use"', f'column = "{column}"'))
    bad = tmp_path / "bad.csv"
    bad.write_text(data[0].read_text().replace("use", column, 1).replace("2026-01-05T05:00:00,", "2026-01-05T05:00:00,many", 1))
    code, said = backtest("--every", "1d", "--workers", "1", houses=houses, data=[data[0], bad])
    assert code == 0
    assert "left out: other" in said
    assert column in said


def test_two_homes_of_one_file_are_named_before_the_work(backtest, two_houses, tmp_path):
    houses, data = two_houses
    for house, site, target in zip(houses, ("a-b", "a"), ("c", "b-c"), strict=True):
        text = house.read_text().replace('site = "small"', f'site = "{site}"').replace('site = "other"', f'site = "{site}"')
        (tmp_path / f"{site}.toml").write_text(text.replace('name = "energy"', f'name = "{target}"'))
    houses = [tmp_path / "a-b.toml", tmp_path / "a.toml"]
    code, said = backtest("--predictions", tmp_path / "p", houses=houses, data=data)
    assert code == 2
    assert "a-b:c and a:b-c would both be written to a-b-c.npz" in said
    assert not (tmp_path / "p").exists()


def test_a_house_without_a_column_is_named_and_left_out(backtest, two_houses):
    houses, data = two_houses
    houses[1].write_text(houses[1].read_text().replace("column = ", "topic = "))
    code, said = backtest("--every", "1d", "--workers", "1", houses=houses, data=data)
    assert code == 0
    assert "left out: other: house 'other': no sensor has a 'column'" in said
    code, said = backtest("--every", "1d", houses=houses[1:], data=data[1:])
    assert code == 2
    assert "no sensor has a 'column'" in said
