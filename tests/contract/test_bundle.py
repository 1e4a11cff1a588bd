"""The bundle: write then read is identity, and whatever was touched is refused by name."""

import contextlib
import errno
import hashlib
import io
import json
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.contract import archive, signing
from edge_agent.contract import bundle as module
from edge_agent.contract.baseline import QUANTILE_LEVELS
from edge_agent.contract.bundle import GOLDEN, KERAS_MODEL, MODEL, SIGNATURE, Golden, read_bundle, write_bundle
from edge_agent.contract.calibration import fit_calibration, identity
from edge_agent.contract.errors import BundleError, ConfigError, SignatureError
from edge_agent.contract.manifest import MANIFEST, Manifest, Tensor
from edge_agent.contract.plan import FeaturePlan
from edge_agent.contract.schema import Feature
from edge_agent.contract.series import Series

PLAN = FeaturePlan("energy", "energy", 3600, 24, 1800, 48, ("target", "role:co2"), ("lead", "lag_1d"), anchored=True)
FILES = (MODEL, GOLDEN, MANIFEST, SIGNATURE)


def a_manifest(plan=PLAN, **changes):
    rng = np.random.default_rng(0)
    quantiles = np.sort(rng.gamma(1.0, 50.0, (40, 24, 9)), axis=-1)
    manifest = Manifest(
        name="base",
        version="20261123.2310-1a2b3c4d",
        created_at="2026-11-23T23:10:00Z",
        plan=plan,
        calibration=fit_calibration(quantiles, quantiles[..., 4], rng.gamma(1.0, 50.0, (40, 24)), QUANTILE_LEVELS, origins_per_day=1),
        inputs=tuple(Tensor(name, shape, "float32") for name, shape in plan.input_shapes().items()),
        outputs=(Tensor("quantiles", (24, 9), "float32"), Tensor("mean", (24,), "float32")),
        training={"houses": ["Käthe's", "b"], "first": "2016-01-11"},
        scores={"mae": 33.8, "nested": {"skill": [0.1, None]}},
        versions={"keras": "3.15.1"},
        git_commit="0" * 40,
        mlflow_run_id="",
        features=tuple(plan.describe()),
        files={},
    )
    return replace(manifest, **changes)


def a_golden(**changes):
    values = np.random.default_rng(1).gamma(1.0, 50.0, (100, 2))
    values[3, 1] = np.nan
    series = Series(3600 * 400_000, 3600, (Feature("meter", "energy"), Feature("dial", "co2")), values)
    golden = Golden(series, "meter", "Europe/Brussels", series.end, np.sort(np.random.default_rng(2).random((24, 9)), axis=-1), np.arange(24.0))
    return replace(golden, **changes)


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "signing.key"
    signing.create_key(path)
    return path


@pytest.fixture(scope="module")
def trusted(key):
    return signing.trusted_keys((key.parent,))


def names(folder):
    return [entry.name for entry in folder.iterdir()]


@pytest.fixture
def path(tmp_path, key):
    write_bundle(tmp_path / "energy", a_manifest(), model=b"the graph" * 50, golden=a_golden(), sign_key=key)
    return tmp_path / "energy"


def rewrite(path, key=None, *, contents=None, **body):
    """Write a manifest with other keys that is intact and signed all the same."""
    old = {k: v for k, v in json.loads((path / MANIFEST).read_bytes()).items() if k != "manifest_sha256"}
    new = {**old, **body}
    for name, content in (contents or {}).items():
        (path / name).write_bytes(content)
        new["files"] = {**new["files"], name: hashlib.sha256(content).hexdigest()}

    def dump(body):
        return (json.dumps(body, indent=1, sort_keys=True) + "\n").encode()

    data = dump({**new, "manifest_sha256": hashlib.sha256(dump(new)).hexdigest()})
    (path / MANIFEST).write_bytes(data)
    (path / SIGNATURE).unlink(missing_ok=True)
    if key is not None:
        (path / SIGNATURE).write_bytes(signing.sign(data, signing.load_key(key)))
    return path


def test_a_golden_sample_keeps_its_weather_and_must_have_that_of_its_plan(tmp_path):
    with_weather = replace(PLAN, weather=("wind_speed",))
    golden = a_golden(weather=np.linspace(0, 9, 24)[:, None])
    np.testing.assert_array_equal(Golden.from_bytes(golden.to_bytes()).weather, golden.weather)
    golden.check(with_weather)
    for plan, sample in ((PLAN, golden), (with_weather, a_golden())):
        with pytest.raises(BundleError, match="another weather forecast"):
            sample.check(plan)


def test_write_then_read_is_identity(path, key, trusted):
    found = read_bundle(path, trusted=trusted)
    wanted = replace(a_manifest(), files=found.manifest.files)
    assert found.manifest.to_json() == wanted.to_json()
    assert (found.manifest.plan, found.manifest.inputs, found.manifest.features) == (wanted.plan, wanted.inputs, wanted.features)
    assert (found.model, found.signer, found.path) == (b"the graph" * 50, str(key.with_suffix(".pub")), path)
    golden = a_golden()
    assert (found.golden.target, found.golden.time_zone, found.golden.origin) == ("meter", "Europe/Brussels", golden.origin)
    assert (found.golden.series.start, found.golden.series.features) == (golden.series.start, golden.series.features)
    for name in ("quantiles", "mean"):
        np.testing.assert_array_equal(getattr(found.golden, name), getattr(golden, name))
    np.testing.assert_array_equal(found.golden.series.values, golden.series.values)


def test_the_archive_is_the_same_bundle_in_one_file(path, tmp_path, key, trusted):
    for _ in range(2):  # the second time it is replaced
        write_bundle(tmp_path / "energy.tar", a_manifest(), model=b"the graph" * 50, golden=a_golden(), sign_key=key)
    found, folder = read_bundle(tmp_path / "energy.tar", trusted=trusted), read_bundle(path, trusted=trusted)
    assert (found.manifest.id, found.model, found.signer) == (folder.manifest.id, folder.model, folder.signer)
    assert sorted(names(tmp_path)) == ["energy", "energy.tar"]
    with pytest.raises(BundleError, match="exists and is no bundle"):
        write_bundle(tmp_path, a_manifest(), model=b"m", golden=a_golden(), sign_key=key)


def test_bundles_have_different_ids():
    manifests = [a_manifest(), a_manifest(), a_manifest(name="next"), a_manifest(files={MODEL: "00"})]
    assert [len(m.id) for m in manifests] == [16] * 4
    assert len({m.id for m in manifests}) == 3


def test_the_manifest_tells_what_the_design_promises(path):
    body = json.loads((path / MANIFEST).read_bytes())
    assert {key: body[key] for key in ("schema_version", "target", "unit", "step_s", "context_length", "horizon")} == {
        "schema_version": 1,
        "target": "energy",
        "unit": "Wh",
        "step_s": 3600,
        "context_length": 48,
        "horizon": 24,
    }
    assert body["files"] == {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in (MODEL, GOLDEN)}
    assert body["quantile_levels"] == list(QUANTILE_LEVELS)


@pytest.fixture(scope="module")
def touched(tmp_path_factory, key):
    path = tmp_path_factory.mktemp("touched") / "energy"
    write_bundle(path, a_manifest(), model=b"the graph" * 50, golden=a_golden(), sign_key=key)
    return path


@settings(max_examples=150)
@given(st.sampled_from(FILES), st.integers(0, 10**6), st.integers(1, 255), st.booleans())
def test_any_flipped_byte_is_refused_and_names_its_file(touched, trusted, name, place, flip, is_signed):
    if name == SIGNATURE and not is_signed:
        return
    before = {file: (touched / file).read_bytes() for file in FILES}
    damaged = bytearray(before[name])
    damaged[place % len(damaged)] ^= flip
    try:
        (touched / name).write_bytes(damaged)
        if not is_signed:
            (touched / SIGNATURE).unlink()
        with pytest.raises(BundleError, match=name):
            read_bundle(touched, trusted=trusted, allow_unsigned=not is_signed)
    finally:
        for file, content in before.items():
            (touched / file).write_bytes(content)


@pytest.mark.parametrize("name", [MODEL, GOLDEN, MANIFEST])
@pytest.mark.parametrize("kept", [0, 1, 40])
def test_a_truncated_file_is_refused_by_name(path, name, kept):
    (path / SIGNATURE).unlink()
    (path / name).write_bytes((path / name).read_bytes()[:kept])
    with pytest.raises(BundleError, match=name):
        read_bundle(path, allow_unsigned=True)


@pytest.mark.parametrize("name", [MODEL, GOLDEN])
def test_a_missing_file_is_refused_by_name(path, trusted, name):
    (path / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        read_bundle(path, trusted=trusted)


@pytest.mark.parametrize("meddle", [lambda file: file.write_bytes(b"other"), lambda file: file.unlink()], ids=["changed", "missing"])
def test_the_model_for_fine_tuning_travels_signed_and_verified(tmp_path, key, trusted, meddle):
    write_bundle(tmp_path / "b", a_manifest(), model=b"m", golden=a_golden(), sign_key=key, keras_model=b"weights")
    assert read_bundle(tmp_path / "b", trusted=trusted).manifest.files[KERAS_MODEL] == hashlib.sha256(b"weights").hexdigest()
    meddle(tmp_path / "b" / KERAS_MODEL)
    with pytest.raises(BundleError, match=KERAS_MODEL):
        read_bundle(tmp_path / "b", trusted=trusted)


def test_a_manifest_in_which_a_number_was_changed_fails_its_checksum(path):
    (path / SIGNATURE).unlink()
    (path / MANIFEST).write_bytes((path / MANIFEST).read_bytes().replace(b"33.8", b"13.8"))
    with pytest.raises(BundleError, match=r"manifest\.json does not match its own checksum"):
        read_bundle(path, allow_unsigned=True)


def test_a_manifest_without_a_model_is_refused(path, key, trusted):
    files = json.loads((path / MANIFEST).read_bytes())["files"]
    rewrite(path, key, files={GOLDEN: files[GOLDEN]})
    with pytest.raises(BundleError, match=r"energy: model\.onnx does not match"):
        read_bundle(path, trusted=trusted)
    (path / MODEL).unlink()
    with pytest.raises(BundleError, match=r"energy: model\.onnx is missing"):
        read_bundle(path, trusted=trusted)


def test_without_manifest_it_is_no_bundle(path, tmp_path):
    (path / MANIFEST).unlink()
    with pytest.raises(BundleError, match=r"is no bundle: manifest\.json is missing"):
        read_bundle(path)
    for nothing, problem in ((tmp_path / "gone", "no readable bundle"), (tmp_path / "energy" / GOLDEN, "no archive of a bundle")):
        with pytest.raises(BundleError, match=problem):
            read_bundle(nothing)


def test_an_additional_file_is_refused_by_name(path, trusted):
    (path / "notes.txt").write_text("hello")
    with pytest.raises(BundleError, match=r"notes\.txt is not part of the bundle"):
        read_bundle(path, trusted=trusted)


def test_links_and_folders_are_refused_by_name(path, trusted, tmp_path):
    (path / MODEL).rename(tmp_path / "elsewhere")
    (path / MODEL).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=r"model\.onnx is a link"):
        read_bundle(path, trusted=trusted)
    (path / MODEL).unlink()
    (path / MODEL).mkdir()
    with pytest.raises(BundleError, match=r"model\.onnx is a link or no plain file"):
        read_bundle(path, trusted=trusted)


def test_a_huge_file_is_refused_unread(path, trusted, monkeypatch):
    monkeypatch.setattr(archive, "MAX_BYTES", 400)
    with pytest.raises(BundleError, match="larger than"):
        read_bundle(path, trusted=trusted)


def test_unsigned_bundles_need_leave(path):
    (path / SIGNATURE).unlink()
    with pytest.raises(SignatureError, match=r"is not signed.*--allow-unsigned"):
        read_bundle(path, trusted={})
    assert read_bundle(path, allow_unsigned=True).signer is None


def test_an_unknown_signer_needs_leave(path, tmp_path):
    with pytest.raises(SignatureError, match=r"a key that this machine does not trust.*keys trust"):
        read_bundle(path, trusted={})
    assert read_bundle(path, trusted={}, allow_unsigned=True).signer is None


def test_a_signature_over_something_else_is_refused_even_with_leave(path, key):
    (path / SIGNATURE).write_bytes(signing.sign(b"another manifest", signing.load_key(key)))
    with pytest.raises(SignatureError, match=r"manifest\.sig does not fit manifest\.json"):
        read_bundle(path, allow_unsigned=True)


def test_trust_is_looked_up_on_this_machine(path, key, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    with pytest.raises(SignatureError, match="does not trust"):
        read_bundle(path)
    public = key.with_suffix(".pub").read_text()
    file = signing.trust(public, folder=tmp_path / "config" / "hearthcast" / "trusted", name="workstation")
    assert read_bundle(path).signer == str(file)


def test_a_bundle_is_replaced_whole(path, key, trusted):
    (path / "left-over").write_text("from a hand that meddled")
    write_bundle(path, a_manifest(name="next"), model=b"another", golden=a_golden(), sign_key=key)
    found = read_bundle(path, trusted=trusted)
    assert (found.manifest.name, found.model) == ("next", b"another")
    assert names(path.parent) == ["energy"]


def test_an_empty_folder_is_filled_and_another_one_left_alone(tmp_path):
    (tmp_path / "empty").mkdir()
    write_bundle(tmp_path / "empty", a_manifest(), model=b"m", golden=a_golden(), sign_key=None)
    assert read_bundle(tmp_path / "empty", allow_unsigned=True).model == b"m"
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").write_text("x")
    with pytest.raises(BundleError, match="exists and is no bundle"):
        write_bundle(tmp_path / "photos", a_manifest(), model=b"m", golden=a_golden(), sign_key=None)
    assert names(tmp_path / "photos") == ["1.jpg"]
    with pytest.raises(BundleError, match="cannot be written"):
        write_bundle(tmp_path / "photos" / "1.jpg", a_manifest(), model=b"m", golden=a_golden(), sign_key=None)


@pytest.mark.parametrize("step", ["write_synced", "sync_folder"])
def test_a_full_disk_leaves_the_old_bundle(path, trusted, monkeypatch, step):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, step, full)
    with pytest.raises(BundleError, match="No space left on device"):
        write_bundle(path, a_manifest(name="next"), model=b"m", golden=a_golden(), sign_key=None)
    assert read_bundle(path, trusted=trusted).manifest.name == "base"
    assert names(path.parent) == ["energy"]


def test_a_failed_exchange_puts_the_old_bundle_back(path, trusted, monkeypatch):
    rename = Path.rename

    def fails_for_new(self, target):
        if self.name == "new":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_for_new)
    with pytest.raises(BundleError, match="Input/output error"):
        write_bundle(path, a_manifest(name="next"), model=b"m", golden=a_golden(), sign_key=None)
    assert read_bundle(path, trusted=trusted).manifest.name == "base"


def test_a_missing_key_writes_nothing(tmp_path):
    with pytest.raises(ConfigError, match="no readable signing key"):
        write_bundle(tmp_path / "b", a_manifest(), model=b"m", golden=a_golden(), sign_key=tmp_path / "gone.key")
    assert not (tmp_path / "b").exists()


def test_another_schema_version_says_what_to_do(path, key, trusted):
    rewrite(path, key, schema_version=2)
    with pytest.raises(BundleError, match="schema_version 2, this version reads 1: upgrade the agent"):
        read_bundle(path, trusted=trusted)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"unit": "kWh"}, "contradict"),
        ({"horizon": 48}, "contradict"),
        ({"surprise": 1}, "does not know"),
        ({"name": 7}, "name is 7: a str is expected"),
        ({"files": []}, "files is"),
        ({"training": None}, "training is None"),
        ({"plan": {}}, "feature plan has missing"),
        ({"plan": [1]}, "not of the expected form"),
        ({"plan": {**PLAN.to_dict(), "horizon": -1}}, "horizon is -1"),
        ({"plan": {**PLAN.to_dict(), "context_length": 96}}, "inputs are"),
        ({"calibration": {}}, "calibration is not of the expected form"),
        ({"calibration": identity((0.1, 0.5, 0.9)).to_dict()}, "calibration is for other outputs"),
        ({"inputs": []}, "inputs are"),
        ({"outputs": [{"name": "mean", "shape": [23], "dtype": "float32"}]}, "outputs are"),
        ({"outputs": [{"name": "mean", "shape": [24], "dtype": "float64"}]}, "outputs are"),
        ({"outputs": [{"name": "mean", "shape": [24], "dtype": "float32"}]}, "calibration is for other outputs"),
        ({"outputs": [{"nom": "mean"}]}, "not of the expected form"),
        ({"outputs": 5}, "not of the expected form"),
        ({"features": []}, "channels of its plan"),
        ({"files": {"../../etc/passwd": "0"}}, "passwd is missing"),
    ],
)
def test_a_signed_manifest_that_makes_no_sense_is_refused(path, key, trusted, body, message):
    rewrite(path, key, **body)
    with pytest.raises(BundleError, match=message):
        read_bundle(path, trusted=trusted)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"null", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"schema_version": 1, "x": 1e999}', b'{"schema_version": 1, "x": NaN}']
)
def test_bytes_that_are_no_manifest_are_refused(path, data):
    (path / SIGNATURE).unlink()
    (path / MANIFEST).write_bytes(data)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        read_bundle(path, allow_unsigned=True)


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def golden_arrays(**changes):
    with np.load(io.BytesIO(a_golden().to_bytes())) as file:
        return {**{name: file[name] for name in file.files}, **changes}


def zipped(name, content, **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content, **options)
    return buffer.getvalue()


def lying_header():
    """An array that claims a petabyte."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (140737488355328,), }"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


class Detonator:
    def __reduce__(self):
        return os._exit, (13,)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"PK\x05\x06" + bytes(18), id="empty archive"),
        pytest.param(pickle.dumps(Detonator()), id="pickle"),
        pytest.param(zipped("values.npy", pickle.dumps(Detonator())), id="pickle in an archive"),
        pytest.param(npz(**golden_arrays(values=np.array([Detonator()], object))), id="array of objects"),
        pytest.param(zipped("grid.npy", lying_header()), id="array that claims a petabyte"),
        pytest.param(npz(**golden_arrays(grid=np.array([1, 2]))), id="short grid"),
        pytest.param(npz(**golden_arrays(grid=np.array([0, 0, 0]))), id="step of zero"),
        pytest.param(npz(**golden_arrays(grid=np.array([7, 3600, 0]))), id="start off the grid"),
        pytest.param(npz(**golden_arrays(values=np.zeros((100, 3)))), id="more columns than names"),
        pytest.param(npz(**golden_arrays(values=np.array(["x"]))), id="text"),
        pytest.param(npz(**golden_arrays(features=np.array(["meter"]))), id="features without roles"),
        pytest.param(npz(values=np.zeros(3)), id="missing arrays"),
    ],
)
def test_a_hostile_golden_sample_is_refused(data):
    with pytest.raises(BundleError, match=r"golden\.npz"):
        Golden.from_bytes(data)


def test_a_zip_bomb_is_refused_before_it_is_unpacked():
    bomb = zipped("values.npy", bytes(65 * 2**20))
    assert len(bomb) < 100_000
    with pytest.raises(BundleError, match=r"golden\.npz unpacks to more than 64 MiB"):
        Golden.from_bytes(bomb)


@settings(max_examples=300)
@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_golden_sample_with_any_other_byte_is_read_or_refused_cleanly(place, byte):
    data = bytearray(GOLDEN_BYTES)
    data[place % len(data)] = byte
    with contextlib.suppress(BundleError):
        assert Golden.from_bytes(bytes(data)).target


GOLDEN_BYTES = a_golden().to_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"target": "metre"},
        {"time_zone": "Europe/Atlantis"},
        {"time_zone": "../../etc/passwd"},
        {"origin": 3600 * 400_000 - 3600},
        {"origin": 3600 * 400_100 + 3600},
        {"origin": 1},
        {"quantiles": np.zeros((24, 3))},
        {"quantiles": np.zeros((1, 1))},
        {"mean": np.zeros(23)},
        {"series": Series(0, 3600, (Feature("meter", "enrgy"),), np.zeros((5, 1)))},
        {"series": Series(0, 3200, (Feature("meter", "energy"),), np.zeros((5, 1)))},
    ],
)
def test_a_golden_sample_of_another_model_is_refused(path, key, trusted, change):
    rewrite(path, key, contents={GOLDEN: a_golden(**change).to_bytes()})
    with pytest.raises(BundleError, match=r"golden\.npz is no example for this model"):
        read_bundle(path, trusted=trusted)
