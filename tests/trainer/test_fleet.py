"""Many houses on Spark with two workers on this machine, by the command line: needs Java."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest

from edge_agent.contract.calibration import identity
from trainer.__main__ import main
from trainer.fleet_folder import write_readings
from trainer.presets import HyperParameters, plan_for
from trainer.tracking import RunStart, track

pytest.importorskip("pyspark", reason="needs Spark: pip install '.[spark]'")
pytestmark = [
    pytest.mark.skipif(
        not (shutil.which("java") or os.environ.get("JAVA_HOME")), reason="needs Java 17 or newer: apt-get install openjdk-17-jre-headless"
    ),
    pytest.mark.filterwarnings("ignore"),  # Spark 4.3 warns about pandas 3, MLflow about itself
]


@pytest.fixture(scope="module")
def fleet(small_run, small_house, small_series, tmp_path_factory):
    """Folder of a fleet: two houses like the small one, one with a day of readings, one with none, and one that nobody has described."""
    from dataclasses import replace

    folder = tmp_path_factory.mktemp("fleet")
    toml = small_run[0].read_text()
    spans = {"one": 80, "two": 70, "young": 1, "unknown": 60}
    for site, days in spans.items():
        part = small_series.between(small_series.start, small_series.start + days * 86_400)
        write_readings(folder, replace(small_house, site=site), toml.replace('"small"', f'"{site}"'), part)
    (folder / "houses" / "silent.toml").write_text(toml.replace('"small"', '"silent"'))
    (folder / "houses" / "unknown.toml").unlink()
    return folder


@pytest.fixture(scope="module")
def base_run(small_house, tmp_path_factory):
    """Run folder of a model over many homes that has learnt nothing: the climatology."""
    from trainer.model import build_base

    folder = tmp_path_factory.mktemp("runs") / "base"
    folder.mkdir()
    plan = plan_for("base", small_house, "energy")
    model = build_base(plan, HyperParameters(units=3)).model
    model.save(folder / "model.keras")
    record = {"plan": plan.to_dict(), "outputs": list(model.output_names), "calibration": identity(plan.quantile_levels).to_dict()}
    (folder / "run.json").write_text(json.dumps(record))
    with track(RunStart(folder=folder, experiment="homes", name="base", parameters={}, tags={})) as run:
        run.log_forecaster(folder)
    return folder


def test_every_house_is_forecast_and_those_that_cannot_be_are_named(fleet, base_run, tmp_path, capsys):
    out = tmp_path / "forecasts"
    code = main(["fleet", "score", "--fleet", str(fleet), "--model", str(base_run), "--out", str(out), "--master", "local[2]"])
    said = capsys.readouterr().out
    assert code == 0, said
    assert "skipped: silent: there are no readings of it" in said
    assert "skipped: unknown: there are readings but no houses/unknown.toml" in said
    assert "skipped: young: 'meter' is known for 14%" in said
    assert "2 of 5 houses forecast" in said
    rows = pd.read_parquet(out).sort_values(["site", "time"])
    one = rows[rows["site"] == "one"]
    assert len(one) == 24
    # the day after its last reading, 80 days after the first of January, UTC
    assert str(one["time"].iloc[0]).startswith("2026-03-22 00:00:00")
    assert (one[["p10", "p50", "p90"]].diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    assert rows.groupby("site")["mean"].count().to_dict() == {"one": 24, "two": 24, "young": 0}
    assert np.isfinite(one["mean"]).all()


@pytest.mark.slow
def test_every_house_is_fine_tuned_once_and_one_that_cannot_be_is_named(fleet, tmp_path, capsys):
    import mlflow

    store, out = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "runs"
    words = ["fleet", "finetune", "--fleet", str(fleet), "--out", str(out), "--master", "local[2]", "--tracking-uri", store]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "skipped: young: the table covers 1.0 days, too few" in said
    assert "2 of 5 houses fine-tuned" in said
    rows = {row["site"]: row for row in json.loads((out / "fleet.json").read_text())["houses"]}
    client = mlflow.MlflowClient(store)
    for site in ("one", "two"):
        assert json.loads((out / site / "run.json").read_text())["mlflow_run_id"] == rows[site]["run_id"]
        assert client.get_run(rows[site]["run_id"]).info.status == "FINISHED"
    shutil.rmtree(out / "two")
    before = (out / "one" / "run.json").stat().st_mtime_ns
    assert main(words) == 0
    assert "1 of 3 houses are done already" in capsys.readouterr().out
    assert (out / "one" / "run.json").stat().st_mtime_ns == before
    assert (out / "two" / "run.json").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["score", "--model", "nothing"], 2, "--model nothing: the folder of a run that MLflow tracked"),
        (["score", "--model", "models:/homes-energy@champion"], 2, "say in which MLflow store"),
    ],
)
def test_what_cannot_be_is_refused_before_spark_starts(fleet, tmp_path, capsys, monkeypatch, words, code, said):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main(["fleet", *words, "--fleet", str(fleet), "--out", str(tmp_path / "out")]) == code
    assert said in capsys.readouterr().err


def test_without_java_it_says_what_to_install(fleet, base_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert main(["fleet", "score", "--fleet", str(fleet), "--model", str(base_run), "--out", str(tmp_path / "out")]) == 2
    assert "Spark needs Java 17 or newer" in capsys.readouterr().err


def test_a_folder_that_is_no_fleet_is_named(base_run, tmp_path, capsys):
    assert main(["fleet", "score", "--fleet", str(tmp_path), "--model", str(base_run), "--out", str(tmp_path / "out"), "--master", "local[2]"]) == 1
    assert "holds no fleet" in capsys.readouterr().err
