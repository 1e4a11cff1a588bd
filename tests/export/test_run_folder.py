import json
import shutil

import numpy as np
import pytest

from edge_agent.contract.errors import ExportError
from export.run_folder import read_run


@pytest.fixture
def broken(anchored_run, tmp_path):
    """A copy of the run to damage."""
    return shutil.copytree(anchored_run, tmp_path / "run")


def change(run, **keys):
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    (run / "run.json").write_text(json.dumps(record | keys), encoding="utf-8")


def test_run_gives_plan_outputs_and_samples(anchored_run):
    run = read_run(anchored_run)
    assert run.plan.horizon == 24
    assert run.outputs == ("quantiles", "mean")
    assert len(run.samples[0].origins) == 30


def test_actual_is_what_the_series_holds_after_the_origin(anchored_run):
    run = read_run(anchored_run)
    sample = run.samples[0]
    actual = sample.actual(run.plan, sample.origins[:1])
    row = sample.series.index(int(sample.origins[0]))
    assert np.array_equal(actual[0], sample.series.column("Appliances")[row : row + 24])


def test_last_actual_ends_with_the_samples(anchored_run):
    run = read_run(anchored_run)
    sample = run.samples[0]
    assert np.isfinite(sample.actual(run.plan, sample.origins[-1:])).all()


@pytest.mark.parametrize("name", ["model.keras", "run.json", "samples.npz"])
def test_missing_file_is_named(broken, name):
    (broken / name).unlink()
    with pytest.raises(ExportError, match=name):
        read_run(broken)


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(ExportError, match="is no run"):
        read_run(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("plan", {"horizon": 3}, "plan or calibration"),
        ("calibration", {}, "plan or calibration"),
        ("outputs", ["mean", "quantiles"], "outputs"),
        ("name", 7, "'name' is 7"),
    ],
)
def test_unusable_key_is_named(broken, key, value, said):
    change(broken, **{key: value})
    with pytest.raises(ExportError, match=said):
        read_run(broken)


def test_mean_without_residuals_is_refused(broken):
    change(broken, outputs=["mean"])
    with pytest.raises(ExportError, match="residuals"):
        read_run(broken)


def test_nan_score_becomes_null(broken):
    change(broken, scores={"skill": float("nan")})
    assert read_run(broken).scores == {"skill": None}


def test_damaged_samples_are_refused(broken):
    (broken / "samples.npz").write_bytes(b"not a zip")
    with pytest.raises(ExportError, match=r"samples\.npz"):
        read_run(broken)


def test_samples_without_origins_are_refused(broken):
    with np.load(broken / "samples.npz") as file:
        arrays = dict(file)
    np.savez(broken / "samples.npz", **arrays | {"origins_0": np.zeros(0, np.int64)})
    with pytest.raises(ExportError, match="no origin"):
        read_run(broken)
