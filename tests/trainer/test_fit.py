"""Whole runs on the small house: seconds each, by the command line as a user would."""

import json
import os
import signal

import keras
import numpy as np
import pytest

from edge_agent.contract.baseline import QUANTILE_LEVELS
from edge_agent.contract.errors import TrainingError
from export.run_folder import read_run
from trainer import fit_command
from trainer.__main__ import main

TINY = ["--epochs", "2", "--units", "3", "--batch-size", "64", "--stride-s", "10800"]


@pytest.fixture
def fit(small_run, tmp_path):
    """`fit("--preset", "seed")` runs the command and returns exit code and run folder."""
    house, data = small_run

    def run(*extra, out="run", tracking="off"):
        words = ["fit", "--house", str(house), "--data", str(data), "--out", str(tmp_path / out), "--tracking-uri", tracking]
        return main([*words, *TINY, *extra]), tmp_path / out

    return run


def record(run):
    return json.loads((run / "run.json").read_text())


@pytest.mark.parametrize(("preset", "outputs"), [("base", ["quantiles", "mean"]), ("seed", ["mean"])])
def test_a_run_holds_all_that_the_exporter_reads(fit, small_house, preset, outputs):
    code, run = fit("--preset", preset)
    assert code == 0
    read = read_run(run)
    assert (read.outputs, read.name) == (tuple(outputs), f"{preset}-small")
    assert record(run)["status"] == "finished"
    assert record(run)["outputs"] == keras.models.load_model(run / "model.keras", compile=False).output_names
    assert (run / "house.toml").read_text() == record(run)["house"]
    pictures = {path.stem for path in (run / "pictures").iterdir()}
    assert pictures == {"loss", "forecasts", "error_by_lead_time", "coverage_by_level", "residuals_by_hour"}


def test_scores_stand_beside_the_baselines_on_both_spans(fit):
    _, run = fit()
    scores = record(run)["scores"]
    assert set(scores) == {"validation", "test"}
    names = {"model", "persistence", "same time yesterday", "same time last week", "28-day mean", "rolling climatology"}
    assert set(scores["test"]) == names
    assert scores["test"]["rolling climatology"]["skill"]["crps"] == 0
    assert scores["test"]["model"]["crps"] < scores["test"]["persistence"]["crps"]


def test_the_same_seed_gives_the_same_model(fit):
    models = [keras.models.load_model(fit("--seed", "4", out=out)[1] / "model.keras", compile=False) for out in ("one", "two")]
    for ours, theirs in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_nothing_of_the_test_span_decides_anything(fit, small_run, spoilt_end, tmp_path):
    """The last fifth of the table replaced by nonsense: the same model and calibration, other test scores."""
    _, run = fit()
    words = ["fit", "--house", str(small_run[0]), "--data", str(spoilt_end), "--out", str(tmp_path / "other"), "--tracking-uri", "off"]
    assert main([*words, *TINY]) == 0
    ours, theirs = record(run), record(tmp_path / "other")
    assert ours["calibration"] == theirs["calibration"]
    assert ours["scores"]["validation"]["model"]["crps"] == pytest.approx(theirs["scores"]["validation"]["model"]["crps"], rel=1e-5)
    assert ours["scores"]["test"]["model"]["crps"] != theirs["scores"]["test"]["model"]["crps"]


def test_ctrl_c_leaves_a_usable_run_that_can_go_on(fit, monkeypatch, capsys):
    count = iter(range(10**6))

    def press(display, *_args):
        if next(count) == 8:  # in the second epoch
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr("trainer.display.TrainingDisplay.batch", press)
        code, run = fit("--epochs", "3")
    assert code == 1
    assert "interrupted" in capsys.readouterr().err
    assert (record(run)["status"], list(record(run)["scores"])) == ("interrupted", ["validation"])
    assert len(read_run(run).calibration.read_levels)
    code, run = fit("--epochs", "3", "--resume")
    assert (code, record(run)["status"], record(run)["training"]["epochs"]) == (0, "finished", 3)


def test_a_second_ctrl_c_says_what_is_left(fit, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        patched.setattr("trainer.fit.read_table", _press)
        assert fit()[0] == 1
        assert "interrupted before there was anything to keep: start it again" in capsys.readouterr().err
    monkeypatch.setattr("trainer.fit.calibrate", _press)
    code, run = fit("--epochs", "1")
    assert code == 1
    assert f"go on after the last complete epoch in {run} with --resume" in capsys.readouterr().err


def _press(*_args, **_options):
    raise KeyboardInterrupt


def test_a_run_that_fails_leaves_no_record(fit, monkeypatch):
    def diverges(*_):
        raise TrainingError("the loss became nan")

    monkeypatch.setattr("trainer.loop._validate", diverges)
    code, run = fit()
    assert code == 1
    assert not (run / "run.json").exists()


def test_a_dead_week_is_masked_told_and_recorded(fit, changed_meter, capsys):
    data = changed_meter(lambda row, value: 0 if 400 <= row < 568 else value)
    code, run = fit("--data", str(data), "--epochs", "1")
    assert code == 0
    (found,) = record(run)["quality"]
    assert (found["kind"], found["done"], found["sensor"], found["steps"]) == ("dead", "masked", "meter", 168)
    assert "history checked: 1 finding" in capsys.readouterr().out
    untold = fit("--epochs", "1", out="clean")[1]
    assert record(untold)["quality"] == []
    # no window looks a day ahead into that week
    assert record(run)["split"]["train"]["origins"] < record(untold)["split"]["train"]["origins"]


def test_a_house_that_uses_nothing_is_refused(fit, changed_meter, capsys):
    data = changed_meter(lambda row, value: value if row % 24 < 3 else 0)
    code, run = fit("--data", str(data))
    assert code == 1
    assert "meter: 0 in 88% of all known steps: refused: is the meter connected" in capsys.readouterr().err
    assert not run.exists()


def test_a_run_that_was_refused_does_not_block_the_corrected_one(fit, capsys):
    assert fit("--patch", "5")[0] == 2
    assert fit("--epochs", "1")[0] == 0


def test_a_stride_off_the_houses_step_is_refused(fit, capsys):
    assert fit("--stride-s", "5000")[0] == 2
    assert "--stride-s 5000: a multiple of the house's step of 3600 s is expected" in capsys.readouterr().err


def test_a_taken_folder_is_refused(fit, capsys):
    fit("--epochs", "1")
    capsys.readouterr()
    assert fit()[0] == 2
    assert "holds a run already" in capsys.readouterr().err


def test_a_temperature_can_be_the_target(fit):
    code, run = fit("--target", "living_room", "--covariates", "outdoor_temperature", "indoor_humidity")
    assert code == 0
    assert record(run)["plan"]["role"] == "indoor_temperature"


def test_mixed_precision_leaves_a_float32_model(fit):
    _, run = fit("--mixed-precision", "--preset", "seed", "--epochs", "1")
    model = keras.models.load_model(run / "model.keras", compile=False)
    assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}


def test_a_run_is_tracked_with_its_pyfunc_model(fit, tmp_path, small_series):
    import mlflow
    import pandas as pd

    code, run = fit(tracking=f"sqlite:///{tmp_path}/runs.db")
    assert code == 0
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/runs.db")
    tracked = client.get_run(record(run)["mlflow_run_id"])
    assert (tracked.info.status, tracked.data.params["units"], tracked.data.tags["preset"]) == ("FINISHED", "3", "base")
    assert len(client.get_metric_history(tracked.info.run_id, "validation_loss")) == 3
    assert tracked.data.metrics["test/model/crps"] == pytest.approx(record(run)["scores"]["test"]["model"]["crps"])
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
    (model,) = client.search_logged_models([tracked.info.experiment_id])
    rows = pd.DataFrame({"time": pd.to_datetime(small_series.times, unit="s"), "use": small_series.values[:, 0]})
    forecast = mlflow.pyfunc.load_model(f"models:/{model.model_id}").predict(rows)
    assert len(forecast) == 24
    assert (forecast["p10"] <= forecast["p90"]).all()
    assert len([c for c in forecast.columns if c.startswith("p")]) == len(QUANTILE_LEVELS)


def test_a_second_ctrl_c_ends_at_once():
    from rich.console import Console

    before = signal.getsignal(signal.SIGINT)  # ignored where the tests run in a shell's background
    with fit_command.stoppable(Console(quiet=True)) as asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
