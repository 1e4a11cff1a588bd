"""One model over the rooms of a house, by the command line as a user would."""

import json

import mlflow
import numpy as np
import pytest
from rich.console import Console

from export.run_folder import read_run
from trainer.__main__ import main
from trainer.baselines import CHANGE, CLIMATOLOGY, LABELS, MIXTURE
from trainer.fit import FitRequest
from trainer.fit_rooms import read_rooms
from trainer.presets import ROOMS
from trainer.tracking import FORECASTER

TINY = ["--epochs", "1", "--stride-s", "21600", "--tracking-uri", "off"]


@pytest.fixture
def fit(small_run, tmp_path):
    def run(*extra, data=small_run[1], out="run"):
        words = ["fit", "--house", str(small_run[0]), "--data", str(data), "--out", str(tmp_path / out), "--role", "indoor_temperature"]
        return main([*words, *TINY, *extra]), tmp_path / out

    return run


def test_a_model_of_rooms_is_logged_as_one_that_takes_any_home(fit, tmp_path, capsys):
    code, run = fit("--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db")
    assert code == 0, capsys.readouterr().err
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    run_id = record(run)["mlflow_run_id"]
    uri = mlflow.get_run(run_id).data.tags[FORECASTER]
    assert mlflow.pyfunc.load_model(uri).metadata.signature.inputs.input_names() == ["house", "time", "sensor", "value"]


def record(run):
    return json.loads((run / "run.json").read_text())


def test_a_model_of_rooms_is_rehearsed_judged_and_trained_on_all(fit, capsys):
    code, run = fit()
    said = " ".join(capsys.readouterr().out.split())
    assert code == 0
    assert "training on 60% of the time" in said
    assert "training on 100% of the time" in said
    assert "over the best naive forecast of each" in said
    read, found = read_run(run), record(run)
    assert (read.plan.role, read.plan.target, read.plan.weather) == ("indoor_temperature", "indoor_temperature", ("outdoor_temperature",))
    assert list(found["scores"]) == ["rehearsal"]
    assert set(found["rooms"]["living_room"]) == {"model", *LABELS.values(), CHANGE, CLIMATOLOGY, MIXTURE}
    assert found["scores"]["rehearsal"][MIXTURE]["mae"] == pytest.approx(1.0)
    assert found["training"]["rehearsal_epoch"] == 1
    levels = np.array(found["calibration"]["read_levels"])
    np.testing.assert_allclose(levels + levels[:, ::-1], 1.0, atol=1e-6)


def test_what_the_share_leaves_out_is_never_read(small_run, tmp_path):
    request = FitRequest(small_run[0], (small_run[1],), tmp_path, "base", ROOMS, role="indoor_temperature", share=0.6)
    rooms = read_rooms(request, Console(quiet=True))
    builder = rooms.builders["living_room"]
    assert builder.series.end == builder.series.start + 48 * 86_400
    first, rest = rooms.windows(first=0.0, last=0.6, every_s=7200), rooms.windows(first=0.6, last=1.0, every_s=3600)
    cut = builder.series.start + round(0.6 * len(builder.series)) * 3600
    assert first.parts[0].origins[-1] <= cut - 86_400
    assert rest.parts[0].origins[0] == cut + 86_400
    assert rest.parts[0].origins[-1] == builder.series.end - 86_400


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--role", "co2"], "has no co2 target"),
        (["--role", "energy"], "invalid choice"),
        (["--target", "living_room"], "leave out --target"),
        (["--train-share", "2"], "a share above 0 and up to 1"),
        (["--covariates", "outdoor_humidity", "--weather", "outdoor_temperature"], "add it to --covariates"),
    ],
)
def test_what_cannot_be_is_refused(fit, capsys, words, said):
    try:
        code = fit(*words)[0]
    except SystemExit as err:
        code = err.code
    assert code == 2
    assert said in capsys.readouterr().err


def test_one_room_alone_is_fitted_as_a_home_is_and_has_a_test_span(small_run, tmp_path, capsys):
    words = ["fit", "--house", str(small_run[0]), "--data", str(small_run[1]), "--out", str(tmp_path / "run"), "--target", "living_room", *TINY]
    assert main(words) == 0
    assert f"beside the {MIXTURE}" in " ".join(capsys.readouterr().out.split())
    assert set(record(tmp_path / "run")["scores"]) == {"validation", "test"}
