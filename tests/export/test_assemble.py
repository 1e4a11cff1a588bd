import shutil
import zipfile

import keras
import make_tiny_bundle as tiny
import numpy as np
import pytest

from edge_agent.contract import signing
from edge_agent.contract.bundle import read_bundle
from edge_agent.contract.errors import BundleError, ConfigError, ExportError
from edge_agent.forecaster import Forecaster, Model
from export.assemble import export_run
from export.run_folder import read_run


@pytest.fixture(scope="module")
def exported(anchored_run, tmp_path_factory):
    """Bundle, report and key of an export."""
    folder = tmp_path_factory.mktemp("exported")
    signing.create_key(folder / "a.key")
    report = export_run(anchored_run, folder / "bundle", sign_key=folder / "a.key")
    return folder / "bundle", report, signing.trusted_keys((folder,))


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_bundle_is_signed_and_reproduces_its_golden_sample(exported):
    folder, _, trusted = exported
    bundle = read_bundle(folder, trusted=trusted)
    Model(bundle).check_golden()
    assert bundle.signer.endswith("a.pub")


def test_golden_sample_is_the_last_real_window_as_published(exported, anchored_run):
    bundle = read_bundle(exported[0], trusted=exported[2])
    run = read_run(anchored_run)
    assert bundle.golden.origin == run.samples[0].origins[-1]
    assert bundle.golden.series.end == bundle.golden.origin
    assert (np.diff(bundle.golden.quantiles, axis=1) >= 0).all()


def test_manifest_tells_plan_training_and_versions(exported):
    manifest = read_bundle(exported[0], trusted=exported[2]).manifest
    assert manifest.plan == tiny.tiny_plan()
    assert manifest.training["houses"] == ["tiny"]
    assert {"hearthcast", "export:tf2onnx", "export:onnxruntime"} <= set(manifest.versions)
    assert manifest.name == "tiny"


def test_bundle_carries_the_runs_keras_model(exported, anchored_run):
    manifest = read_bundle(exported[0], trusted=exported[2]).manifest
    travels, trained = exported[0] / "model.keras", anchored_run / "model.keras"
    with zipfile.ZipFile(travels) as packed, zipfile.ZipFile(trained) as given:
        assert {name: packed.read(name) for name in packed.namelist()} == {name: given.read(name) for name in given.namelist()}
    assert travels.stat().st_size < 0.8 * trained.stat().st_size
    weights = [keras.models.load_model(path, compile=False).get_weights() for path in (travels, trained)]
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(*weights, strict=True))
    assert "model.keras" in manifest.files


def test_lone_graph_tells_its_version(exported):
    model = Model(read_bundle(exported[0], trusted=exported[2]))
    properties = model.session.get_modelmeta().custom_metadata_map
    assert properties["hearthcast.version"] == exported[1].version


def test_bundle_forecasts_a_house_of_another_step(exported, reference_house):
    model = Model(read_bundle(exported[0], trusted=exported[2]))
    forecaster = Forecaster(reference_house, model)
    assert forecaster.plan.horizon == 144


def test_report_states_parity_and_speed(exported):
    report = exported[1]
    assert max(p.worst for p in report.parities) < 1e-4
    assert report.latency_ms > 0
    assert report.operators["LSTM"] == 1


def test_exporting_again_replaces_the_bundle_and_keeps_the_weights_part_of_the_version(anchored_run, exported, tmp_path):
    shutil.copytree(exported[0], tmp_path / "bundle")
    report = export_run(anchored_run, tmp_path / "bundle", sign_key=None, name="other")
    assert read_bundle(tmp_path / "bundle", allow_unsigned=True).manifest.name == "other"
    assert report.version.partition("-")[2] == exported[1].version.partition("-")[2]
    assert "manifest.sig" not in files(tmp_path / "bundle")


def test_mean_only_model_publishes_quantiles_from_residuals(fixed_run, tmp_path):
    export_run(fixed_run, tmp_path / "bundle", sign_key=None)
    golden = read_bundle(tmp_path / "bundle", allow_unsigned=True).golden
    assert golden.quantiles.shape == (6, 9)
    np.testing.assert_allclose(golden.quantiles[:, 8] - golden.mean, 20.0, rtol=1e-6)


@pytest.fixture
def bad_run(tmp_path):
    """A run whose LSTM cannot be fused."""
    plan = tiny.tiny_plan()
    return tiny.write_run(tmp_path / "bad", tiny.tiny_model(plan, recurrent_activation="hard_sigmoid"), plan)


def test_refused_model_leaves_nothing_behind(bad_run, tmp_path):
    with pytest.raises(ExportError, match="hard_sigmoid"):
        export_run(bad_run, tmp_path / "new" / "bundle", sign_key=None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad"]


def test_refused_model_leaves_an_existing_bundle_as_it_is(bad_run, exported, tmp_path):
    shutil.copytree(exported[0], tmp_path / "bundle")
    with pytest.raises(ExportError):
        export_run(bad_run, tmp_path / "bundle", sign_key=None)
    assert files(tmp_path / "bundle") == files(exported[0])


def test_bundle_that_fails_its_golden_check_replaces_nothing(anchored_run, exported, tmp_path, monkeypatch):
    def fail(_self):
        raise BundleError("golden")

    shutil.copytree(exported[0], tmp_path / "bundle")
    monkeypatch.setattr(Model, "check_golden", fail)
    with pytest.raises(BundleError, match="golden"):
        export_run(anchored_run, tmp_path / "bundle", sign_key=None)
    assert files(tmp_path / "bundle") == files(exported[0])


def test_folder_that_is_no_bundle_is_not_replaced(anchored_run, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(BundleError, match="is no bundle"):
        export_run(anchored_run, tmp_path / "photos", sign_key=None)
    assert files(tmp_path / "photos") == {"cat.jpg": b"cat"}


def test_unreadable_key_fails_before_anything_is_converted(anchored_run, tmp_path, monkeypatch):
    monkeypatch.setattr("export.assemble.convert", None)
    with pytest.raises(ConfigError, match="no readable signing key"):
        export_run(anchored_run, tmp_path / "bundle", sign_key=tmp_path / "missing.key")


def test_committed_tiny_bundle_is_whole_and_signed():
    fixtures = tiny.HERE
    bundle = read_bundle(fixtures / "tiny", trusted=signing.trusted_keys((fixtures,)))
    Model(bundle).check_golden()
    assert bundle.manifest.plan == tiny.tiny_plan()
