"""Fine-tuning the small house from a small base, by the command line as a user would."""

import json
import shutil

import keras
import numpy as np
import pytest

from edge_agent.contract.bundle import read_bundle
from edge_agent.forecaster import Forecaster, Model
from export.assemble import export_run
from export.run_folder import read_run
from trainer.__main__ import main
from trainer.start import read_start

BASE = ["--epochs", "1", "--units", "3", "--batch-size", "64", "--stride-s", "21600"]
QUICK = ["--epochs", "3", "--learning-rate", "2e-2", "--batch-size", "32", "--stride-s", "10800"]


@pytest.fixture(scope="module")
def base(small_run, tmp_path_factory):
    """A run to start from."""
    out = tmp_path_factory.mktemp("base") / "run"
    house, data = map(str, small_run)
    assert main(["fit", "--house", house, "--data", data, "--out", str(out), "--tracking-uri", "off", *BASE]) == 0
    return out


@pytest.fixture(scope="module")
def poor(base):
    """The same with its weights stirred: a base that anything is better than."""
    out = base.parent / "poor"
    shutil.copytree(base, out)
    model, rng = keras.models.load_model(out / "model.keras", compile=False), np.random.default_rng(0)
    model.set_weights([w + rng.normal(0, 0.06, w.shape).astype(w.dtype) for w in model.get_weights()])
    model.save(out / "model.keras")
    return out


def tune(init, out, files, *extra, tracking="off"):
    house, data = map(str, files)
    words = ["fit", "--preset", "finetune", "--init", str(init), "--house", house, "--data", data, "--out", str(out), "--tracking-uri", tracking]
    return main([*words, *QUICK, *extra])


def record(run):
    return json.loads((run / "run.json").read_text())


def weights(run):
    return keras.models.load_model(run / "model.keras", compile=False).get_weights()


@pytest.fixture(scope="module")
def tuned(poor, small_run):
    """Run of a tuning that helped."""
    assert tune(poor, poor.parent / "tuned", small_run) == 0
    return poor.parent / "tuned"


def test_a_poor_base_is_tuned_and_scored_beside_itself(tuned):
    found = record(tuned)
    said = found["training"]["fine_tuning"]
    assert said["kept"] in ("mixture", "tuned")
    assert said["choice"]["share"] > 0
    assert said["gate"]["crps"]["won"]
    assert found["quality"] == []
    scores, gain = found["scores"]["test"], found["beside_base"]["test"]["crps"]["gain"]
    assert gain == pytest.approx(1 - scores["model"]["crps"] / scores["base"]["crps"], rel=1e-3)
    assert gain > 0.005
    assert {"rolling climatology", "same time yesterday"} < set(scores)
    assert found["training"]["base"]["name"] == "base-small"


def test_folds_lie_in_time_order_before_the_test_span(tuned):
    found = record(tuned)
    folds = found["training"]["fine_tuning"]["folds"]
    edges = [edge for fold in folds for edge in (fold["start"], fold["end"])]
    assert edges == sorted(edges)
    assert [fold["trained_on"] for fold in folds] == sorted(fold["trained_on"] for fold in folds)
    assert found["split"]["before"]["end"] + 86_400 == found["split"]["test"]["start"]


def test_what_is_left_exports_and_is_a_base_again(tuned, small_house, small_series, tmp_path):
    export_run(tuned, tmp_path / "bundle", sign_key=None, even_if_worse=True)
    bundle = read_bundle(tmp_path / "bundle", allow_unsigned=True)
    assert bundle.manifest.training["base"]["name"] == "base-small"
    assert set(bundle.manifest.scores["test"]) > {"model", "base"}
    forecast = Forecaster(small_house, Model(bundle)).forecast(small_series, small_series.end, issued_at=small_series.end)
    assert np.isfinite(forecast.mean).all()
    assert read_start(tmp_path / "bundle", allow_unsigned=True).name == "finetune-small"


def test_tuning_that_changes_nothing_keeps_the_base(base, small_run, tmp_path, capsys):
    uri = f"sqlite:///{tmp_path}/runs.db"
    assert tune(base, tmp_path / "run", small_run, "--learning-rate", "1e-12", "--epochs", "1", tracking=uri) == 0
    found = record(tmp_path / "run")
    assert found["training"]["fine_tuning"]["kept"] == "base"
    assert found["calibration"] == record(base)["calibration"]
    assert found["scores"]["test"]["model"] == found["scores"]["test"]["base"]
    for ours, theirs in zip(weights(tmp_path / "run"), weights(base), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    said = capsys.readouterr().out
    assert "kept: base" in said
    assert "has looked at small until 2026-03-" in said
    assert len(read_run(tmp_path / "run").samples[0].origins)
    one_mlflow_run(uri, found)
    assert (tmp_path / "run" / "pictures" / "tuning.png").is_file()


def one_mlflow_run(uri, found):
    import mlflow

    client = mlflow.MlflowClient(uri)
    (tracked,) = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    assert (tracked.info.run_id, tracked.info.status) == (found["mlflow_run_id"], "FINISHED")
    assert tracked.data.params["base.name"] == "base-small"
    assert tracked.data.metrics["gate/crps/gain"] == pytest.approx(found["training"]["fine_tuning"]["gate"]["crps"]["gain"])
    assert tracked.data.metrics["test/base/crps"] == pytest.approx(found["scores"]["test"]["base"]["crps"])


def test_nothing_of_the_test_span_decides_anything(poor, tuned, small_run, tmp_path):
    """The days of the last fifth of the table in another order: the same choice, model and calibration, other test scores."""
    lines = small_run[1].read_text().splitlines()
    border = 1 + round(0.8 * (len(lines) - 1))
    last = lines[border:]
    spoilt = [*lines[:border], *(f"{line[:19]}{other[19:]}" for line, other in zip(last, last[48:] + last[:48], strict=True))]
    (tmp_path / "spoilt.csv").write_text("\n".join(spoilt) + "\n")
    assert tune(poor, tmp_path / "run", (small_run[0], tmp_path / "spoilt.csv")) == 0
    ours, theirs = record(tuned), record(tmp_path / "run")
    assert ours["training"]["fine_tuning"]["choice"] == theirs["training"]["fine_tuning"]["choice"]
    np.testing.assert_allclose(ours["calibration"]["read_levels"], theirs["calibration"]["read_levels"], atol=1e-3)
    for one, other in zip(weights(tuned), weights(tmp_path / "run"), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    assert ours["scores"]["test"]["model"]["crps"] != theirs["scores"]["test"]["model"]["crps"]


def test_a_month_is_too_little_and_it_says_so(base, small_run, tmp_path, capsys):
    lines = small_run[1].read_text().splitlines()
    (tmp_path / "month.csv").write_text("\n".join(lines[: 1 + 30 * 24]) + "\n")
    assert tune(base, tmp_path / "run", (small_run[0], tmp_path / "month.csv")) == 0
    said = capsys.readouterr().out
    assert "kept: base" in said
    assert "too little data" in said
    assert record(tmp_path / "run")["training"]["fine_tuning"]["folds"] == []


def test_a_house_that_uses_nothing_is_refused(base, small_run, changed_meter, tmp_path, capsys):
    empty = changed_meter(lambda row, value: value if row % 24 < 3 else 0)
    assert tune(base, tmp_path / "run", (small_run[0], empty)) == 1
    assert "meter: 0 in 88% of all known steps: refused" in capsys.readouterr().err


def test_a_week_is_refused(base, small_run, tmp_path, capsys):
    lines = small_run[1].read_text().splitlines()
    (tmp_path / "week.csv").write_text("\n".join(lines[: 1 + 7 * 24]) + "\n")
    assert tune(base, tmp_path / "run", (small_run[0], tmp_path / "week.csv")) == 1
    assert "too few for one forecast" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_ctrl_c_keeps_nothing_and_says_so(base, small_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("trainer.tuner.Tuner.train", _stop)
    assert tune(base, tmp_path / "run", small_run) == 1
    assert "stopped before it was known whether tuning helps" in capsys.readouterr().err
    assert not (tmp_path / "run" / "run.json").exists()


def _stop(*_args, **_kwargs):
    from trainer.tuner import StoppedError

    raise StoppedError


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--covariates", "outdoor_temperature"], "leave out --covariates"),
        (["--units", "8"], "--units is decided by the model"),
        (["--target", "enrgy"], "did you mean 'energy'?"),
        (["--target", "living_room"], "forecasts energy"),
        (["--all-targets"], "preset base"),
    ],
)
def test_what_cannot_be_is_refused(base, small_run, tmp_path, capsys, words, said):
    assert tune(base, tmp_path / "run", small_run, *words) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_base_that_ships_is_the_default(small_run, tmp_path, capsys):
    from edge_agent.contract.bundle import shipped_bundle

    house, data = map(str, small_run)
    code = main(["fit", "--preset", "finetune", "--house", house, "--data", data, "--out", str(tmp_path / "run"), "--tracking-uri", "off", *QUICK])
    said = capsys.readouterr()
    if "model.keras" in json.loads((shipped_bundle() / "manifest.json").read_text())["files"]:
        assert code == 0
        assert "base-energy" in said.out
    else:
        assert code == 2
        assert "holds no model.keras" in said.err


def test_a_counter_that_restarts_every_day_leaves_the_base_its_totals(poor, small_run, changed_meter, tmp_path):
    table = changed_meter(lambda row, value: "" if row % 24 == 23 else value)
    assert tune(poor, tmp_path / "run", (small_run[0], table)) == 0  # a mean of nothing would be a warning, and so an error
    found = record(tmp_path / "run")
    assert found["scores"]["test"]["model"]["n_totals"] == 0
    assert found["training"]["fine_tuning"]["choice"]["totals"] == "base"
