"""Whole searches on the small house, by the command line as a user would."""

import json
import os
import signal
import sqlite3

import pytest

from edge_agent.contract.errors import TrainingError
from export.run_folder import read_run
from trainer.__main__ import main

TINY = ["--epochs", "2", "--units", "3", "--stride-s", "21600", "--search", "batch_size=32,64", "dropout=0.1:0.5"]
OTHERS = ["--learning-rate", "0.002", "--weight-decay", "0.001", "--schedule", "cosine"]


@pytest.fixture(scope="module")
def tune(small_run, tmp_path_factory):
    """`tune("--trials", "2", out="a")` runs the command, in one folder for all tests here; returns exit code and run folder."""
    folder = tmp_path_factory.mktemp("tune")
    house, data = small_run

    def run(*extra, out, tracking="off", preset="base"):
        words = ["tune", "--house", str(house), "--data", str(data), "--out", str(folder / out), "--tracking-uri", tracking, "--preset", preset]
        return main([*words, *TINY, *(OTHERS if preset == "base" else []), *extra]), folder / out

    return run


def trials(run):
    with sqlite3.connect(run / "study" / "study.db") as database:
        return database.execute("SELECT number, state FROM trials WHERE state != 'WAITING' ORDER BY number").fetchall()


def record(run):
    return json.loads((run / "run.json").read_text())


@pytest.fixture(scope="module")
def tracked(tune, tmp_path_factory):
    """A finished search of two trials, its store, and what its command said."""
    store = f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"
    code, run = tune("--trials", "2", out="tracked", tracking=store)
    assert code == 0
    return run, store


@pytest.fixture
def client(tracked):
    import mlflow

    return mlflow.MlflowClient(tracked[1])


def test_the_best_trial_is_a_run_that_can_be_exported(tracked):
    run, _ = tracked
    assert read_run(run).name == "base-small"
    best = min(json.loads((run / "study" / "trials.json").read_text())["trials"], key=lambda trial: trial["loss"])
    assert {name: record(run)["hyper_parameters"][name] for name in best["values"]} == best["values"]
    assert {"loss", "search", "importances", "forecasts"} <= {path.stem for path in (run / "pictures").iterdir()}


@pytest.mark.filterwarnings("ignore")  # reading the store back: MLflow and SQLAlchemy warn about themselves
def test_each_trial_is_a_child_of_the_searchs_mlflow_run(tracked, client):
    run, _ = tracked
    (experiment,) = [e for e in client.search_experiments() if e.name == "small"]
    runs = {found.info.run_name: found for found in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"tracked", "trial-0000", "trial-0001"}
    assert {found.info.status for found in runs.values()} == {"FINISHED"}
    parent, first = runs["tracked"], runs["trial-0000"]
    assert first.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert first.data.params["dropout"] == "0.3"
    assert parent.data.params["space.dropout"] == "0.1 to 0.5"
    assert [m.step for m in client.get_metric_history(parent.info.run_id, "best_validation_loss")] == [0, 1]
    assert {f.path for f in client.list_artifacts(parent.info.run_id, "pictures")} == {"pictures/search.png", "pictures/importances.png"}
    best = client.get_run(record(run)["mlflow_run_id"])
    assert best.info.run_name in runs
    assert "test/model/crps" in best.data.metrics


@pytest.mark.filterwarnings("ignore")
def test_the_champion_moves_only_to_a_model_that_wins(tracked, client, tune, capsys):
    run, store = tracked
    assert client.get_model_version_by_alias("small-energy", "champion").run_id == record(run)["mlflow_run_id"]
    # an LSTM that has hardly been trained, on its own, is worse than the climatology, which base starts from
    code, _ = tune("--trials", "1", "--epochs", "1", "--stride-s", "86400", out="worse", tracking=store, preset="seed")
    said = capsys.readouterr().out
    assert code == 0
    assert "champion (version 1)" in said
    assert "small-energy version 2 stays the challenger" in said
    assert client.get_model_version_by_alias("small-energy", "champion").version == 1
    assert client.get_model_version_by_alias("small-energy", "challenger").version == 2


@pytest.mark.filterwarnings("ignore")
def test_one_model_over_many_homes_is_searched_and_compared_where_none_has_looked(street, small_run, tmp_path, capsys):
    import mlflow
    import pandas as pd

    houses, tables = zip(street, small_run, strict=True)
    homes = ["--house", *map(str, houses), "--data", *map(str, tables), "--train-share", "1", "0.6", "--augment", "1", "--per-day", "0.5", "--no-jit"]
    store = f"sqlite:///{tmp_path}/mlflow.db"
    code = main(["tune", *homes, "--out", str(tmp_path / "homes"), "--trials", "1", "--epochs", "1", "--units", "3", "--tracking-uri", store])
    said = capsys.readouterr().out
    assert code == 0
    # 80 days, of which 48 may be looked at: a day between, and the last day's end
    assert "on 721 origins from 2026-02-19T00:00:00Z" in said
    mlflow.set_tracking_uri(store)
    model = mlflow.pyfunc.load_model("models:/homes-energy@challenger")
    hours = 1_767_225_600 + 3600 * pd.RangeIndex(24 * 40).to_numpy()
    cells = {"house": small_run[0].read_text(), "time": hours, "sensor": ["meter"] * len(hours), "value": 100.0 + hours % 7}
    answer = model.predict(pd.DataFrame([cells]))
    assert (answer["problem"].iloc[0], len(answer["p50"].iloc[0])) == ("", 24)


def test_the_same_command_again_does_nothing_twice_and_more_trials_go_on(tracked, tune, capsys):
    run, store = tracked
    before = record(run)
    assert tune("--trials", "2", out="tracked", tracking=store)[0] == 0
    assert "2 of 2 trials are finished already" in capsys.readouterr().out
    assert record(run) == before
    assert tune("--trials", "3", out="tracked", tracking=store)[0] == 0
    assert trials(run) == [(number, "COMPLETE") for number in range(3)]


def test_ctrl_c_leaves_a_study_that_goes_on(tune, monkeypatch, capsys):
    count = iter(range(10**6))

    def press(display, *_args):
        if next(count) == 9:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr("trainer.display.TrainingDisplay.batch", press)
        code, run = tune("--trials", "2", out="stopped")
    assert code == 1
    assert "of 2 trials are finished and kept; the same command goes on" in capsys.readouterr().err
    assert not (run / "run.json").exists()
    assert trials(run)[-1][1] == "FAIL"
    code, run = tune("--trials", "2", out="stopped")
    assert code == 0
    assert sum(state == "COMPLETE" for _, state in trials(run)) == 2
    assert record(run)["status"] == "finished"


def test_a_trial_that_fails_is_passed_over(tune, monkeypatch, capsys):
    import trainer.fit

    train, calls = trainer.fit.train, []

    def fail_first(*arguments, **named):
        calls.append(arguments)
        if len(calls) == 1:
            raise TrainingError("the loss became nan")
        return train(*arguments, **named)

    monkeypatch.setattr("trainer.fit.train", fail_first)
    code, run = tune("--trials", "1", "--epochs", "1", out="failing")
    assert code == 0
    assert [state for _, state in trials(run)] == ["FAIL", "COMPLETE"]
    assert "trial 0  failed: the loss became nan" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--trials", "0"], "--trials 0"),
        (["--search", "unit=1:2"], "did you mean 'units'?"),
        (["--search", "units=1:2"], "--search units and --units"),
    ],
)
def test_what_cannot_be_is_refused(tune, capsys, extra, said):
    assert tune(*extra, out="refused")[0] == 2
    assert said in capsys.readouterr().err


def test_the_folder_of_a_fit_is_refused(tune, capsys):
    _, run = tune("--trials", "0", out="taken")
    run.mkdir()
    (run / "run.json").write_text("{}")
    assert tune("--trials", "1", out="taken")[0] == 2
    assert "holds the run of a fit" in capsys.readouterr().err
