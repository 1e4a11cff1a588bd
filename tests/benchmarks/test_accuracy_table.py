"""The whole table on a made-up home: written, rebuilt from what is there, and open to bundles that are given."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.accuracy.__main__ import main
from benchmarks.accuracy.bundles import Recipe, bundle_of
from benchmarks.accuracy.houses import ROOT
from benchmarks.accuracy.peers import Peer
from benchmarks.accuracy.report import percent
from benchmarks.accuracy.rows import Bundles, Rows, read_rows, replaced
from benchmarks.accuracy.scoring import Spread
from edge_agent.contract.bundle import shipped_bundle
from edge_agent.contract.errors import ConfigError, TrainingError


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
    for words in ("| **Hearthcast, zero-shot** |", "| **Hearthcast, fine-tuned** |", "| rolling climatology |", "7 days of history", "±0.0"):
        assert words in text
    assert "Houston, Texas, zero-shot: CRPS skill | >= +14 %" in text
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


def test_a_peer_that_fails_says_why(written, tmp_path):
    peer = Peer("none", "peer_that_is_not_there", "", python=Path(sys.executable))
    with pytest.raises(TrainingError, match="peer_that_is_not_there"):
        peer._run(tmp_path, tmp_path, "here")
