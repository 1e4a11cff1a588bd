"""Who forecasts: what the store says, and the next best where that cannot be used."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import date

import pytest

from edge_agent.config import read_settings
from edge_agent.contract import signing
from edge_agent.contract.bundle import MODEL, read_bundle, read_files
from edge_agent.contract.errors import ServiceError
from edge_agent.contract.schema import parse_house
from edge_agent.lineup import Lineup
from edge_agent.standing import MOST_DEATHS, SHIPPED, DayPair
from edge_agent.store import AT_WORK, STANDING, ModelStore

NOW = 1_780_000_000
HOUSE_TEXT = """
site = "home"
time_zone = "Europe/Berlin"
step = 3600
targets = [{name = "mains", sensor = "meter"}, {name = "warmth", sensor = "room"}]
sensors = [
  {name = "meter", role = "energy", topic = "z/meter", field = "energy", topic_unit = "kWh"},
  {name = "room", role = "indoor_temperature", topic = "z/room", field = "temperature"},
]
"""
HOUSE = parse_house(HOUSE_TEXT, source="house.toml")


@pytest.fixture(autouse=True)
def own_trust(tmp_path, monkeypatch, signing_key):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    signing.trust(signing_key.with_suffix(".pub").read_text(), folder=signing.trusted_folders()[-1], name="workstation")


@pytest.fixture
def store(tmp_path):
    return ModelStore(tmp_path / "state")


@pytest.fixture
def put_in(store, make_bundle):
    """Puts a bundle into the store: `put_in("a", factor=1.1, days=0)`; returns its id."""

    def put(name, *, days=7, is_unsigned=False, **options):
        path = make_bundle(name, **options)
        model = read_bundle(path, allow_unsigned=True).manifest.id
        with store.locked():
            standing = store.standing("mains").with_installed(model, created_at="2026-11-01T00:00:00Z", now=NOW, days=days, is_unsigned=is_unsigned)
            store.add("mains", model, read_files(path))
            store.save("mains", standing)
        return model

    return put


@pytest.fixture
def lineup(tmp_path):
    return lambda **flags: Lineup(HOUSE, read_settings(None, flags={"state_dir": tmp_path / "state", **flags}))


def ids(lineup):
    return [f.model_id for f in lineup.live], [f.model_id for f in lineup.shadows]


def test_where_nothing_is_installed_what_ships_forecasts(lineup, store):
    found = lineup()
    assert [f.identity["name"] for f in found.live] == ["base-energy", "naive-mixture"]
    assert (found.shadows, found.problems, found.is_outdated) == ([], [], False)
    assert not store.path.exists()


def test_the_stores_current_model_forecasts_under_the_houses_name(lineup, put_in):
    one = put_in("one", days=0)
    two = put_in("two", factor=1.1)
    found = lineup()
    assert ids(found) == ([one, "climatology"], [two])
    assert found.live[0].plan.target == "mains"
    assert found.places[0].contest.model == two


def test_a_bundle_of_the_settings_forecasts_whatever_the_store_says(lineup, put_in, tiny_bundle, tmp_path):
    put_in("one", days=0)
    house = parse_house(HOUSE_TEXT.replace("mains", "energy"), source="house.toml")
    found = Lineup(house, read_settings(None, flags={"state_dir": tmp_path / "state", "bundles": (tiny_bundle,), "allow_unsigned": True}))
    assert (found.live[0].identity["name"], found.shadows, found.is_outdated) == ("tiny", [], False)


def test_it_follows_the_store_and_loads_nothing_twice(lineup, put_in, store):
    one = put_in("one", days=0)
    found = lineup()
    old = found.live[0]
    two = put_in("two", factor=1.1)
    assert found.is_outdated
    found.refresh()
    assert not found.is_outdated
    assert ids(found)[1] == [two]
    assert found.live[0] is old
    candidate = found.shadows[0]
    with store.locked():
        store.save("mains", store.standing("mains").with_take_over("by test", now=NOW))
    found.refresh()
    assert ids(found) == ([two, "climatology"], [one])
    assert (found.live[0], found.shadows[0]) == (candidate, old)


def test_what_no_longer_forecasts_is_let_go(lineup, put_in, store):
    put_in("one", days=0)
    found = lineup()
    with store.locked():
        store.save("mains", store.standing("mains").with_current(SHIPPED, now=NOW))
    found.refresh()
    assert [key for key in found._loaded if key[0] == "mains"] == [("mains", SHIPPED)]


def damaged(store, model):
    (store.bundle("mains", model) / MODEL).write_bytes(b"rot")


def test_a_damaged_current_model_is_named_and_the_one_before_forecasts(lineup, put_in, store):
    one, two = put_in("one", days=0), put_in("two", factor=1.1, days=0)
    damaged(store, two)
    found = lineup()
    assert ids(found) == ([one, "climatology"], [])  # it would be compared with itself
    assert found.problems[0].startswith(f"model {two} of mains cannot be used: ")
    assert "model.onnx does not match" in found.problems[0]
    assert found.places[0].contest is None
    damaged(store, one)
    again = lineup()
    assert again.live[0].identity["name"] == "base-energy"
    assert len(again.problems) == 2


def test_a_damaged_candidate_costs_nothing(lineup, put_in, store):
    one, two = put_in("one", days=0), put_in("two", factor=1.1)
    damaged(store, two)
    found = lineup()
    assert ids(found) == ([one, "climatology"], [])
    assert len(found.problems) == 1


def test_a_damaged_state_file_is_named_and_what_ships_forecasts(lineup, put_in, store):
    put_in("one", days=0)
    (store.path / "mains" / STANDING).write_text("{")
    found = lineup()
    assert found.live[0].identity["name"] == "base-energy"
    assert "standing.json: cannot be read" in found.problems[0]


def test_a_key_that_is_no_longer_trusted_takes_its_models_along(lineup, put_in, tmp_path):
    put_in("one", days=0)
    (tmp_path / "config" / "hearthcast" / "trusted" / "workstation.pub").unlink()
    assert "is signed by a key that this machine does not trust" in lineup().problems[0]


def test_what_was_let_in_unsigned_stays_in(lineup, put_in):
    model = put_in("one", days=0, sign_key=None, is_unsigned=True)
    assert ids(lineup())[0][0] == model
    refused = put_in("two", factor=1.1, days=0, sign_key=None)
    assert lineup().problems[0].startswith(f"model {refused} of mains cannot be used: ")


def test_the_scores_are_asked_about_what_they_are_of(lineup, put_in, store):
    pairs = [DayPair(date(2026, 6, 1), 2.0, 1.0)]
    one, two = put_in("one", days=0), put_in("two", factor=1.1, days=1)
    found = lineup()
    with store.locked(), pytest.raises(ServiceError, match="another program is changing the models"):
        found.judge(found.places[0], pairs, now=NOW)
    stale = replace(found.places[0], standing=replace(found.places[0].standing, newest="another"))
    assert found.judge(stale, pairs, now=NOW) is None
    assert found.judge(found.places[0], pairs, now=NOW).startswith(f"{two} took over from {one}: its score is no worse")
    assert found.is_outdated


# a model that takes the agent down

DIES = """
import os, pathlib, signal, sys
from edge_agent.config import read_settings
from edge_agent.contract.schema import parse_house
from edge_agent.lineup import Lineup
lineup = Lineup(parse_house(sys.argv[1], source="house.toml"), read_settings(None, flags={"state_dir": pathlib.Path(sys.argv[2])}))
forecaster = lineup.live[0]
with lineup.at_work(forecaster):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_model_that_takes_the_agent_down_has_to_go(lineup, put_in, store):
    one, two = put_in("one", days=0), put_in("two", factor=1.1, days=0)
    died = subprocess.run([sys.executable, "-c", DIES, HOUSE_TEXT, str(store.path.parent)], env=os.environ.copy())
    assert died.returncode == -signal.SIGKILL
    for deaths in range(1, MOST_DEATHS):
        lineup()
        assert store.standing("mains").deaths == {two: deaths}
        (store.path / "mains" / AT_WORK).write_text(two)
    found = lineup()
    assert ids(found) == ([one, "climatology"], [])
    assert store.standing("mains").events[-1][1] == f"stepped back from {two} to {one}: the agent died {MOST_DEATHS} times while it was at work"
    assert store.left_at_work("mains") is None


def test_a_model_that_answers_is_accused_of_nothing(lineup, put_in, store):
    put_in("one", days=0)
    found = lineup()
    with found.at_work(found.live[0]):
        assert store.left_at_work("mains") is not None
    with pytest.raises(ZeroDivisionError), found.at_work(found.live[0]):
        raise ZeroDivisionError
    lineup()
    assert store.standing("mains").deaths == {}


def test_what_ships_is_never_accused(lineup, store):
    found = lineup()
    with found.at_work(found.live[0]):
        assert not store.path.exists()
