"""Runs over many homes: one table of four meters and a house of its own, seconds each, by the command line as a user would."""

import json

import keras
import numpy as np
import pytest

from export.run_folder import read_run
from trainer.__main__ import main

TINY = ["--epochs", "1", "--units", "3", "--batch-size", "32", "--no-jit", "--per-day", "0.5", "--augment", "3", "--tracking-uri", "off"]


@pytest.fixture
def fit(street, tmp_path):
    def run(*extra, houses=(street[0],), data=(street[1],), out="run"):
        words = ["fit", "--house", *map(str, houses), "--data", *map(str, data), "--out", str(tmp_path / out)]
        return main([*words, *TINY, *extra]), tmp_path / out

    return run


def test_homes_are_trained_with_the_forecast_of_their_own_weather(fit):
    code, run = fit("--all-targets", "--covariates", "outdoor_temperature", "--weather", "outdoor_temperature")
    assert code == 0
    read = read_run(run)
    assert read.plan.weather == ("outdoor_temperature",)
    for sample in read.samples:
        assert np.isfinite(sample.inputs(read.plan, sample.origins).arrays["weather"]).all()


def record(run):
    return json.loads((run / "run.json").read_text())


@pytest.fixture
def vacant(small_run, changed_meter, tmp_path):
    """Paths of a house whose meter is not connected."""
    (tmp_path / "vacant.toml").write_text(small_run[0].read_text().replace('site = "small"', 'site = "vacant"'))
    return tmp_path / "vacant.toml", changed_meter(lambda _row, _value: 0)


def test_all_targets_of_usable_houses_make_one_model_for_any_step(fit, street, small_run, vacant, capsys):
    code, run = fit(houses=(street[0], small_run[0], vacant[0]), data=(street[1], small_run[1], vacant[1]))
    assert code == 0
    assert "left out: vacant:meter: 0 in 100% of all known steps" in capsys.readouterr().out
    refused = [(found["source"], found["kind"]) for found in record(run)["quality"] if found["done"] == "refused"]
    assert refused == [("vacant", "empty")]
    read = read_run(run)
    assert (read.plan.target, read.plan.step_s, read.plan.horizon) == ("energy", 3600, 24)
    assert {sample.series.step_s for sample in read.samples} <= {1800, 3600}
    homes = [name for part in record(run)["split"].values() for name in part]
    assert sorted(homes) == ["small:energy", *(f"street:home{i}" for i in range(4))]
    model = keras.models.load_model(run / "model.keras", compile=False)
    for sample in read.samples:
        assert model.predict_on_batch(sample.inputs(read.plan, sample.origins[:2]).arrays)[1].shape == (2, 86400 // sample.series.step_s)


def test_scores_stand_beside_the_baselines_by_resolution(fit):
    _, run = fit("--all-targets")
    scores = record(run)["scores"]
    assert set(scores) == {f"{part} {minutes} min" for part in ("validation", "stopping") for minutes in (30, 60)}
    for table in scores.values():
        assert table["rolling climatology"]["skill"]["total_mae"] == 0
        assert 0.5 < table["model"]["coverage"] <= 1


def test_the_same_seed_gives_the_same_model(fit):
    models = [keras.models.load_model(fit("--all-targets", out=out)[1] / "model.keras", compile=False) for out in ("one", "two")]
    for ours, theirs in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_what_the_share_leaves_out_decides_nothing(fit, street, small_run, tmp_path):
    lines = small_run[1].read_text().splitlines()
    border = 1 + round(0.6 * (len(lines) - 1))
    spoilt = [*lines[:border], *(f"{line.split(',')[0]},5.0,30.0,-20.0" for line in lines[border:])]
    (tmp_path / "spoilt.csv").write_text("\n".join(spoilt) + "\n")
    houses = (street[0], small_run[0])
    files = {"ours": small_run[1], "theirs": tmp_path / "spoilt.csv"}
    runs = [fit("--train-share", "1", "0.6", houses=houses, data=(street[1], path), out=out)[1] for out, path in files.items()]
    ours, theirs = map(record, runs)
    assert ours["training"]["data_fingerprint"] == theirs["training"]["data_fingerprint"]
    np.testing.assert_allclose(ours["calibration"]["read_levels"], theirs["calibration"]["read_levels"], atol=1e-4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--all-targets", "--preset", "seed"], "preset base"),
        (["--all-targets", "--resolutions", "7"], "--resolutions 7"),
        (["--all-targets", "--per-day", "0"], "--per-day 0"),
        (["--all-targets", "--train-share", "0.5", "0.5"], "--train-share"),
    ],
)
def test_what_cannot_be_is_refused(fit, capsys, words, said):
    assert fit(*words)[0] == 2
    assert said in capsys.readouterr().err
