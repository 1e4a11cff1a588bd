"""Installing: an honest bundle gets in, everything else changes nothing and is named."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from edge_agent.contract import archive, signing
from edge_agent.contract.bundle import GOLDEN, MODEL, SIGNATURE, read_bundle, read_files
from edge_agent.contract.errors import BundleError, ConfigError, SignatureError
from edge_agent.contract.manifest import MANIFEST
from edge_agent.contract.schema import parse_house
from edge_agent.install import DOWNLOADS, Wishes, install
from edge_agent.standing import SHIPPED, Shadow
from edge_agent.store import ModelStore
from edge_agent.trial import Trial, try_out

NOW = 1_780_000_000
HOUSE = """
site = "home"
time_zone = "Europe/Berlin"
step = 3600
targets = [{name = "energy", sensor = "meter"}, {name = "heat_pump", sensor = "pump"}, {name = "warmth", sensor = "room"}]
sensors = [
  {name = "meter", role = "energy", topic = "z/meter", field = "energy", topic_unit = "kWh"},
  {name = "pump", role = "energy", topic = "z/pump", field = "energy", topic_unit = "kWh"},
  {name = "room", role = "indoor_temperature", topic = "z/room", field = "temperature"},
]
"""
MANY = {"training": {"houses": ["a", "b"]}}
"""Trained over many houses, so for any."""


@pytest.fixture(autouse=True)
def own_trust(tmp_path, monkeypatch, signing_key):
    """This user trusts the key that test bundles are signed with."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    signing.trust(signing_key.with_suffix(".pub").read_text(), folder=signing.trusted_folders()[-1], name="workstation")


@pytest.fixture
def store(tmp_path):
    return ModelStore(tmp_path / "state")


@pytest.fixture
def put_in(store):
    """Installs without a trial: `put_in(path, days=0, house=…)`; returns what was said."""

    def put(source, *, house=HOUSE, trial=lambda *_, **__: Trial(0.1, 2.0), **wishes):
        spec = parse_house(house, source="house.toml")
        return list(install(str(source), house=spec, house_text=house, store=store, wishes=Wishes(**wishes), trial=trial, clock=lambda: NOW))

    return put


def tree(folder):
    """Everything below a folder, but for the lock."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*") if p.name != ".lock"}


def test_a_new_model_goes_into_shadow_and_says_so(store, put_in, make_bundle):
    path = make_bundle("energy.tar", **MANY)
    model = read_bundle(path, allow_unsigned=True).manifest.id
    lines = put_in(path)
    assert (store.standing("energy").current, store.standing("energy").shadow) == (SHIPPED, Shadow(model, NOW, 14, is_candidate=True))
    assert lines[0].startswith("tiny ")
    assert lines[0].endswith("workstation.pub")
    assert lines[1:] == [
        "golden sample reproduced; a forecast of this house takes 100 ms, the model 2 MB",
        f"installed: {model} forecasts energy in shadow beside shipped for 14 days, then takes over if its score is no worse",
    ]
    assert read_bundle(store.bundle("energy", model)).manifest.id == model


def test_a_folder_is_as_good_as_an_archive_and_may_hold_the_keras_model(store, put_in, make_bundle):
    path = make_bundle("energy", **MANY)
    put_in(path, days=0)
    assert read_files(store.bundle("energy", store.standing("energy").current)) == read_files(path)


def test_by_wish_it_is_current_at_once(store, put_in, make_bundle):
    lines = put_in(make_bundle("energy.tar", **MANY), days=0)
    current = store.standing("energy").current
    assert lines[-1] == f"installed: {current} forecasts energy now; shipped is watched beside it, to come back if this one is worse"


def test_the_same_one_again_changes_nothing(store, put_in, make_bundle):
    path = make_bundle("energy.tar", **MANY)
    for days in (7, 7, 0, 0):
        put_in(path, days=days)
    standing = store.standing("energy")
    assert [what.partition(" ")[2].partition(" ")[0] for _, what in standing.events] == ["installed,", "took"]
    assert "installed for energy already: nothing to do" in put_in(path, days=0)[-1]


def test_a_pinned_target_takes_a_new_model_into_shadow_only(store, put_in, make_bundle):
    with store.locked():
        store.save("energy", store.standing("energy").with_pin(pinned=True, now=NOW))
    path = make_bundle("energy.tar", **MANY)
    with pytest.raises(ConfigError, match="shipped is pinned for energy: let it go first, hearthcast-agent models unpin energy"):
        put_in(path, days=0)
    assert put_in(path)[-1].endswith("(not while a model is pinned)")


# which target


def test_a_general_model_serves_any_target_of_its_role(store, put_in, make_bundle):
    put_in(make_bundle("energy.tar", **MANY), target="heat_pump")
    assert store.targets() == ["heat_pump"]
    only = HOUSE.replace('{name = "energy", sensor = "meter"}, ', "")
    put_in(make_bundle("other.tar", factor=1.1, **MANY), house=only)
    assert store.targets() == ["heat_pump"]


def test_where_several_fit_it_asks(store, put_in, make_bundle):
    several = HOUSE.replace('name = "energy", sensor', 'name = "mains", sensor')
    with pytest.raises(ConfigError, match=r"energy\.tar can forecast mains or heat_pump: say which with --target"):
        put_in(make_bundle("energy.tar", **MANY), house=several)


@pytest.mark.parametrize(
    ("wishes", "house", "problem"),
    [
        ({"target": "warmth"}, HOUSE, r"energy\.tar forecasts 'energy' \(energy\), house 'home' has energy, heat_pump, warmth"),
        ({"target": "enery"}, HOUSE, r"--target enery: house 'home' has no such target: did you mean 'energy'"),
        ({}, HOUSE.replace('role = "energy"', 'role = "indoor_humidity"'), r"energy\.tar forecasts 'energy' \(energy\)"),
    ],
)
def test_a_bundle_for_another_target_changes_nothing_and_is_named(store, put_in, make_bundle, wishes, house, problem):
    path = make_bundle("energy.tar", **MANY)
    if "indoor_humidity" in house:
        house = house.replace(', field = "energy", topic_unit = "kWh"', ', field = "humidity"')
    with pytest.raises((BundleError, ConfigError), match=problem):
        put_in(path, house=house, **wishes)
    assert store.targets() == []


def test_a_bundle_of_another_house_changes_nothing_and_is_named(store, put_in, make_bundle):
    path = make_bundle("energy.tar", training={"houses": ["neighbours"]})
    with pytest.raises(BundleError, match=r"energy\.tar was trained for house 'neighbours', this is 'home': use its own, or --any-house"):
        put_in(path)
    assert store.targets() == []
    put_in(path, any_house=True)
    put_in(make_bundle("own.tar", training={"houses": ["home"]}))
    assert store.targets() == ["energy"]


# what is refused


def test_a_downgrade_changes_nothing_and_is_named(store, put_in, make_bundle):
    new = make_bundle("new.tar", created_at="2026-11-02T00:00:00Z", **MANY)
    old = make_bundle("old.tar", factor=1.1, created_at="2026-11-01T23:59:59Z", **MANY)
    put_in(new, days=0)
    before = tree(store.path)
    with pytest.raises(BundleError, match=r"old\.tar was made 2026-11-01T23:59:59Z, before one that was installed \(2026-11-02T00:00:00Z\)"):
        put_in(old)
    with store.locked():
        store.save("energy", store.standing("energy").with_current(SHIPPED, now=NOW))  # rolled back by hand: no way in for an old one either
    with pytest.raises(BundleError, match="before one that was installed"):
        put_in(old)
    assert set(tree(store.path)) == set(before)
    put_in(old, allow_downgrade=True)
    assert store.standing("energy").newest == "2026-11-01T23:59:59Z"


def test_one_that_does_not_say_when_it_was_made_is_refused(put_in, make_bundle):
    with pytest.raises(BundleError, match="does not say when it was made"):
        put_in(make_bundle("energy.tar", created_at="soon", **MANY))


def test_unsigned_and_unknown_signers_need_leave_which_is_remembered(store, put_in, make_bundle, tmp_path):
    unsigned = make_bundle("unsigned.tar", sign_key=None, **MANY)
    with pytest.raises(SignatureError, match=r"unsigned\.tar is not signed"):
        put_in(unsigned)
    stranger = tmp_path / "stranger.key"
    signing.create_key(stranger)
    foreign = make_bundle("foreign.tar", sign_key=stranger, factor=1.1, **MANY)
    with pytest.raises(SignatureError, match=r"foreign\.tar is signed by a key that this machine does not trust"):
        put_in(foreign)
    assert store.targets() == []
    for path in (unsigned, foreign):
        assert "signed by nobody you trust" in put_in(path, allow_unsigned=True)[0]
    ids = tuple(read_bundle(path, allow_unsigned=True).manifest.id for path in (unsigned, foreign))
    assert store.standing("energy").unsigned == ids


def test_a_model_that_fails_its_trial_changes_nothing(store, put_in, make_bundle):
    put_in(make_bundle("first.tar", **MANY), days=0)
    before = tree(store.path)

    def fails(*_args, **_options):
        raise BundleError("the golden sample differs")

    with pytest.raises(BundleError, match="the golden sample differs"):
        put_in(make_bundle("second.tar", factor=1.1, **MANY), trial=fails)
    assert tree(store.path) == before


def swapped(files, other):
    return {**files, MODEL: other[MODEL]}


def resigned(files, _other):
    return {**files, SIGNATURE: files[SIGNATURE][:32] + bytes(64)}


HOSTILE = {
    "truncated": (lambda files, _: archive.pack(files)[:-1100], r"is truncated within model\.onnx"),
    "truncated between": (lambda files, _: archive.pack({n: c for n, c in files.items() if n != MODEL})[:-1024], "truncated between two files"),
    "swapped model": (lambda files, other: archive.pack(swapped(files, other)), r"model\.onnx does not match the manifest's sha256"),
    "swapped golden": (lambda files, other: archive.pack({**files, GOLDEN: other[GOLDEN]}), r"golden\.npz does not match"),
    "swapped manifest": (lambda files, other: archive.pack({**files, MANIFEST: other[MANIFEST]}), r"manifest\.sig does not fit manifest\.json"),
    "forged": (lambda files, other: archive.pack(resigned(files, other)), r"manifest\.sig does not fit manifest\.json"),
    "missing": (lambda files, _: archive.pack({n: c for n, c in files.items() if n != GOLDEN}), r"golden\.npz is missing"),
    "additional": (lambda files, _: archive.pack({**files, "run.sh": b"rm -rf /"}), r"run\.sh is not part of the bundle"),
    "no bundle": (lambda *_: b"<!DOCTYPE html>" * 100, "no archive of a bundle"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_changes_nothing_and_is_named(store, put_in, make_bundle, kind, tmp_path):
    put_in(make_bundle("first.tar", **MANY), days=0)
    before = tree(store.path)
    change, problem = HOSTILE[kind]
    files, other = (read_files(make_bundle(name, factor=factor, **MANY)) for name, factor in (("a", 1.2), ("b", 1.3)))
    (tmp_path / "hostile.tar").write_bytes(change(files, other))
    for wishes in ({}, {"allow_unsigned": True, "allow_downgrade": True, "any_house": True, "days": 0}):
        with pytest.raises(BundleError, match=problem) as caught:
            put_in(tmp_path / "hostile.tar", **wishes)
        assert "hostile.tar" in str(caught.value)
    assert tree(store.path) == before


def test_a_folder_with_a_link_is_named(store, put_in, make_bundle, tmp_path):
    path = make_bundle("energy", **MANY)
    (path / MODEL).rename(tmp_path / "elsewhere")
    (path / MODEL).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=r"model\.onnx is a link or no plain file"):
        put_in(path)


def test_ten_gigabytes_of_zeros_are_not_read(store, put_in, tmp_path):
    with (tmp_path / "zeros.tar").open("wb") as file:
        file.truncate(10 * 10**9)
    with pytest.raises(BundleError, match="has 9536 MiB"):
        put_in(tmp_path / "zeros.tar")


def zeros(count):
    """Nodes that sum up `count` zeros: harmless but for the memory."""
    nodes = [
        helper.make_node("ConstantOfShape", ["count"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["sum", "one"], ["factor"]),
    ]
    return {"before": nodes, "constants": {"count": np.array([count]), "one": np.float32(1)}}


def loop():
    """A node that never ends."""
    inputs = [helper.make_tensor_value_info(n, kind, ()) for n, kind in (("i", 7), ("go", 9), ("state", 1))]
    outputs = [helper.make_tensor_value_info(n, kind, ()) for n, kind in (("go_on", 9), ("next", 1))]
    body = helper.make_graph([helper.make_node("Identity", [a], [b]) for a, b in (("go", "go_on"), ("state", "next"))], "body", inputs, outputs)
    nodes = [helper.make_node("Loop", ["many", "true", "one"], ["factor"], body=body)]
    return {"before": nodes, "constants": {"many": np.array(2**62), "true": np.array(True), "one": np.float32(1)}}


@pytest.mark.parametrize(
    ("hostile", "problem"),
    [(zeros(10**10), r"energy\.tar: model\.onnx (cannot be loaded|fails)"), (loop(), r"energy\.tar: model\.onnx holds a graph within the graph")],
    ids=["ten billion numbers", "endless loop"],
)
def test_a_signed_bundle_with_a_hostile_graph_changes_nothing_and_is_named(store, put_in, make_bundle, hostile, problem):
    put_in(make_bundle("first.tar", **MANY), days=0)
    before = tree(store.path)
    with pytest.raises(BundleError, match=problem):
        put_in(make_bundle("energy.tar", has_golden=False, **hostile, **MANY), trial=try_out, days=0)
    assert tree(store.path) == before


# over the air


def test_a_bundle_comes_over_the_air(store, put_in, make_bundle, https_server):
    https_server.content = make_bundle("energy.tar", **MANY).read_bytes()
    https_server.cuts = [len(https_server.content) // 2]
    lines = put_in(https_server.url, days=0)
    assert [line.split()[0] for line in lines[:2]] == ["cut", "going"]
    assert store.standing("energy").current != SHIPPED
    assert list((store.path.parent / DOWNLOADS).iterdir()) == []


def test_what_came_over_the_air_and_is_refused_is_not_kept(store, put_in, make_bundle, https_server):
    https_server.content = make_bundle("energy.tar", sign_key=None, **MANY).read_bytes()
    with pytest.raises(SignatureError, match=r"^energy\.tar is not signed"):
        put_in(https_server.url)
    assert list((store.path.parent / DOWNLOADS).iterdir()) == []


# kill -9


def kill_everywhere(make_bundle, second, tmp_path):
    """How often an installation was killed, and the store was whole; 0.05 s of one core each."""
    (tmp_path / "house.toml").write_text(HOUSE)
    first = make_bundle("first.tar", created_at="2026-11-01T00:00:00Z", **MANY)
    script = Path(__file__).with_name("kill_points.py")
    folder = tmp_path / "killed"
    folder.mkdir()
    command = [sys.executable, str(script), str(tmp_path / "house.toml"), str(first), str(second), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.timeout(1200)  # ten seconds of one core, and some thousand syncs of a disk
def test_killed_at_every_instruction_the_store_is_whole_and_a_second_run_succeeds(make_bundle, tmp_path):
    second = make_bundle("second.tar", factor=1.1, created_at="2026-11-02T00:00:00Z", **MANY)
    assert kill_everywhere(make_bundle, second, tmp_path) > 150


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_so_it_is_over_the_air(make_bundle, tmp_path, https_server):
    https_server.content = make_bundle("second.tar", factor=1.1, created_at="2026-11-02T00:00:00Z", **MANY).read_bytes()
    assert kill_everywhere(make_bundle, https_server.url, tmp_path) > 200
