"""The whole table on a made-up home: written, rebuilt from what is there, and open to bundles that are given."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.accuracy.__main__ import main
from benchmarks.accuracy.bundles import Recipe, bundle_of
from benchmarks.accuracy.cases import PERFECT_WEATHER
from benchmarks.accuracy.houses import ROOT
from benchmarks.accuracy.material import prepare
from benchmarks.accuracy.peers import Peer
from benchmarks.accuracy.report import room_claims, silence_claims
from benchmarks.accuracy.rows import Bundles, Rows, read_rows, replaced
from benchmarks.accuracy.scoring import Row, Spread
from benchmarks.accuracy.sections import percent, room_section
from benchmarks.accuracy.store import Result
from benchmarks.accuracy.tables import Tables
from benchmarks.accuracy.yardsticks import CLIMATOLOGY, ROOM_NAIVE, YESTERDAY, Yardstick
from edge_agent.contract.bundle import shipped_bundle
from edge_agent.contract.errors import ConfigError, TrainingError
from trainer.scores import score


@pytest.fixture(scope="module")
def written(houston_like, tmp_path_factory):
    folder = tmp_path_factory.mktemp("accuracy")
    base = str(shipped_bundle())
    options = ["--data", str(houston_like), "--build", str(folder / "build"), "--out", str(folder / "ACCURACY.md")]
    assert main([*options, "--bundles", base, base, "--finetuned", f"houston={base}"]) == 0
    return folder, options


def test_the_table_has_every_row_and_claim(written):
    folder, _ = written
    text = (folder / "ACCURACY.md").read_text()
    assert "**Not run yet**, so not in the tables: k-nearest neighbours, 9 days (houston); " in text
    for words in ("| **Hearthcast, zero-shot** |", "| **Hearthcast, fine-tuned** |", "| rolling climatology |", "7 days of history", "±0.0"):
        assert words in text
    assert "Houston, Texas, zero-shot: CRPS skill | >= +14 %" in text
    assert "Houston, Texas, zero-shot, as published: p10-p90 holds | 0.77 to 0.83" in text
    assert (folder / "accuracy.png").stat().st_size > 10_000
    data = json.loads((folder / "accuracy.json").read_text())
    whole = next(case for case in data["cases"] if case["variant"] == "full")
    climatology = next(row for row in whole["rows"] if row["label"] == "rolling climatology")
    assert climatology["crps_skill"]["mean"] == 0
    assert whole["rows"][0]["crps"]["n"] == 2


def test_the_table_is_rebuilt_from_what_is_there(written):
    folder, options = written
    before = sorted(p.stat().st_mtime_ns for p in (folder / "build" / "forecasts").rglob("*.npz"))
    first = (folder / "ACCURACY.md").read_text()
    base = str(shipped_bundle())
    assert main([*options, "--cached", "--bundles", base, base, "--finetuned", f"houston={base}"]) == 0
    assert sorted(p.stat().st_mtime_ns for p in (folder / "build" / "forecasts").rglob("*.npz")) == before
    assert (folder / "ACCURACY.md").read_text() == first


@pytest.mark.parametrize(
    "wrong",
    [["--data", "no such folder"], ["--homes", "atlantis"], ["--finetuned", "houston"], ["--bundles", "no such bundle"], ["--rows", "none.toml"]],
)
def test_mistakes_end_with_two(wrong, houston_like, tmp_path, capsys):
    options = ["--data", str(houston_like), "--build", str(tmp_path), "--out", str(tmp_path / "A.md"), "--cached", *wrong]
    assert main(options) == 2
    assert "error" in capsys.readouterr().out
    assert not (tmp_path / "A.md").exists()


def test_given_bundles_stand_in_for_the_rows_of_their_name():
    rows = Rows((Bundles("a", ("x",)), Bundles("b", ("y",))), (Recipe("c", "", (0,), ()),))
    changed = replaced(rows, [Bundles("a", ("z",)), Bundles("c", ("w",))])
    assert [(row.label, row.paths) for row in changed.bundles] == [("a", ("z",)), ("c", ("w",)), ("b", ("y",))]
    assert changed.recipes == ()


def test_the_shipped_rows_can_be_read_and_unknown_words_are_named(tmp_path):
    assert read_rows(ROOT / "benchmarks" / "accuracy" / "rows.toml").recipes
    path = tmp_path / "rows.toml"
    path.write_text('[[recipes]]\nlable = "x"')
    with pytest.raises(ConfigError, match="label"):
        read_rows(path)


def test_a_folder_that_is_neither_run_nor_bundle_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="neither"):
        bundle_of(tmp_path, tmp_path)


def test_a_recipe_that_fails_says_so(tmp_path):
    recipe = Recipe("bad", "hearthcast-train fit --house {houses}/none.toml --data none.csv --out {out}", (0,), ())
    assert recipe.bundle(0, "", houses=tmp_path, runs=tmp_path, init=None, train=False) is None
    with pytest.raises(TrainingError, match=r"none\.toml"):
        recipe.bundle(0, "", houses=tmp_path, runs=tmp_path, init=None, train=True)
    with pytest.raises(ConfigError, match="rm"):
        Recipe("worse", "rm -r /", (0,), ()).bundle(0, "", houses=tmp_path, runs=tmp_path, init=None, train=True)


def test_skill_with_its_seeds():
    assert percent(Spread(0.135, 0.13, 0.146, 3)) == "+13.5 % ±0.8"
    assert percent(Spread(-0.002, -0.002, -0.002, 1)) == "-0.2 %"
    assert percent(Spread(float("nan"), 0, 0, 1)) == "-"


def test_a_method_that_fails_costs_its_own_row_alone(houston_like, tmp_path, capsys):
    """The python given is no python."""
    options = ["--data", str(houston_like), "--build", str(tmp_path), "--out", str(tmp_path / "A.md"), "--peers", "/bin/false"]
    options += ["--only", "nearest", "climatology"]
    assert main(options) == 1
    assert "2 rows failed" in capsys.readouterr().out
    text = (tmp_path / "A.md").read_text()
    assert "| rolling climatology |" in text
    assert "| k-nearest" not in text


def test_a_peer_that_fails_says_why(written, tmp_path):
    peer = Peer("none", "peer_that_is_not_there", "", python=Path(sys.executable))
    with pytest.raises(TrainingError, match="peer_that_is_not_there"):
        peer._run(tmp_path, tmp_path, "here")


class Fake:
    """A model that is a share nearer to what happened than the climatology."""

    kind, seed = "hearthcast", None

    def __init__(self, label, nearer):
        self.label, self.nearer = label, nearer

    def row(self, case):
        climatology = Yardstick(CLIMATOLOGY).predict(case)
        mean = climatology.mean + self.nearer * (case.actual - climatology.mean)
        quantiles = climatology.quantiles + self.nearer * (case.actual[:, :, None] - climatology.quantiles)
        return Row(case, self, Result(replace(climatology, mean=mean, quantiles=quantiles), 1.0))


@pytest.fixture(scope="module")
def case(houston_like, tmp_path_factory):
    prepared = prepare((houston_like,), tmp_path_factory.mktemp("build"), download=False, console=Console(quiet=True))
    return prepared["houston"].cases()[0]


def yardsticks(case, *labels):
    return [Row(case, Yardstick(label), Result(Yardstick(label).predict(case), 1.0)) for label in labels]


def test_a_silent_sensor_may_cost_its_share_of_what_sensors_bring(case):
    """They bring 10 points of skill; silent for a tenth of the time they cost 0.5, for a third 4."""
    skills = {"full": 0.3, "missing_10": 0.295, "missing_30": 0.26, "missing_100": 0.2}
    rows = [Fake("ours", nearer).row(replace(case, variant=variant)) for variant, nearer in skills.items()]
    first, second = silence_claims(Tables([*rows, *yardsticks(case, CLIMATOLOGY, YESTERDAY)]))
    assert (first.met, second.met) == (True, False)
    assert first.wanted == "<= 10% of the 10.00 points they bring"
    assert (first.measured, second.measured) == ("0.50 points", "4.00 points")


def test_a_room_is_compared_with_its_best_naive_forecast(case):
    """Here the climatology itself stands in for a room's model: its skill follows from its MAE and the naive ones' alone."""
    room = replace(case, home="rooms", target="energy")
    perfect = replace(room, variant=PERFECT_WEATHER)
    rows = [Fake("ours", 0.0).row(room), Fake("ours", 0.9).row(perfect), *yardsticks(room, CLIMATOLOGY, *ROOM_NAIVE)]
    tables = Tables(rows)
    naive = min(score(row.result.predictions).mae for row in rows[3:])
    own = score(rows[0].result.predictions).mae
    without, with_weather = room_claims(tables)
    assert without.measured == f"{100 * (1 - own / naive):+.1f} %"
    assert (without.wanted, with_weather.wanted, with_weather.met) == (">= +6 %", ">= +15 %", True)
    assert f"{with_weather.measured}" in room_section("rooms", tables).text
