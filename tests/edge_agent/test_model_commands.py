"""`hearthcast-agent install` and `models …` as their owner meets them."""

import re

import pytest

from edge_agent.__main__ import main
from edge_agent.contract import signing
from edge_agent.contract.bundle import MODEL, read_bundle
from edge_agent.standing import SHIPPED
from edge_agent.store import ModelStore

HOUSE = """
site = "home"
time_zone = "Europe/Berlin"
step = 3600
targets = [{name = "energy", sensor = "meter"}]
sensors = [{name = "meter", role = "energy", topic = "z/meter", field = "energy", topic_unit = "kWh"}]
"""


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch, signing_key):
    """A user who trusts the key that test bundles are signed with, standing in the folder of house.toml."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    signing.trust(signing_key.with_suffix(".pub").read_text(), folder=signing.trusted_folders()[-1], name="workstation")
    (tmp_path / "house.toml").write_text(HOUSE)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def store(tmp_path):
    return ModelStore(tmp_path / "hearthcast")


@pytest.fixture
def agent(capsys):
    """Runs a command; returns its exit code, its lines, and its error."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err

    return run


@pytest.fixture
def two(make_bundle, store, monkeypatch):
    """Two bundles, the second one newer, and no trial: it has tests of its own."""
    from edge_agent.trial import Trial

    monkeypatch.setattr("edge_agent.install.install.__kwdefaults__", {"trial": lambda *_, **__: Trial(0.1, 2.0), "clock": lambda: 1_780_000_000})
    made = {"training": {"houses": ["a", "b"]}}
    first = make_bundle("first.tar", created_at="2026-11-01T00:00:00Z", **made)
    second = make_bundle("second.tar", factor=1.1, created_at="2026-11-02T00:00:00Z", **made)
    return [(path, read_bundle(path, allow_unsigned=True).manifest.id) for path in (first, second)]


def test_a_bundle_is_tried_and_installed(agent, store, tiny_bundle):
    signing.trust(tiny_bundle.with_suffix(".pub").read_text(), folder=signing.trusted_folders()[-1], name="tiny")
    code, lines, error = agent("install", tiny_bundle, "--any-house")
    assert (code, error) == (0, "")
    assert lines[1].startswith("golden sample reproduced; a forecast of this house takes ")
    assert store.standing("energy").shadow.model == read_bundle(tiny_bundle, allow_unsigned=True).manifest.id
    assert store.standing("energy").shadow.days == 14


def test_where_nothing_is_installed_it_says_what_to_do(agent):
    code, lines, _ = agent("models", "list")
    assert code == 0
    assert "every target is forecast by what ships; add one with hearthcast-agent install BUNDLE" in lines[0]


def test_the_list_tells_what_forecasts_and_how_it_came_to_be(agent, store, two):
    (first, one), (second, two_id) = two
    agent("install", first, "--shadow-days", 0)
    agent("install", second)
    _, lines, _ = agent("models", "list")
    assert lines[0] == "energy"
    assert lines[1].startswith(f"  current   {one}  tiny ")
    assert lines[1].endswith("workstation.pub")
    assert lines[2].startswith(f"  shadow    {two_id}  tiny ")
    assert lines[3].strip() == "since 2026-05-28T20:26:40Z; takes over if its score over 14 days is no worse"
    assert lines[4] == "  previous  shipped           the base model in the package, or the climatology"
    assert lines[5:] == [
        f"  2026-05-28T20:26:40Z {one} took over from shipped: installed to forecast at once",
        f"  2026-05-28T20:26:40Z {two_id} installed, in shadow",
    ]
    (store.bundle("energy", one) / MODEL).write_bytes(b"rot")
    assert f"  current   {one}  DAMAGED: " in agent("models", "list")[1][1]


def test_rolled_back_by_hand_and_again(agent, store, two):
    for path, _ in two:
        agent("install", path, "--shadow-days", 0)
    (_, one), (_, two_id) = two
    code, lines, _ = agent("models", "rollback", "energy")
    assert (code, lines) == (0, [f"energy: {one} forecasts again; a running agent sees it within its next step"])
    assert (store.standing("energy").current, store.standing("energy").shadow) == (one, None)
    agent("models", "rollback", "energy")
    assert store.standing("energy").current == two_id


def test_pinned_and_let_go(agent, store, two):
    for path, _ in two:
        agent("install", path, "--shadow-days", 0)
    (_, one), _ = two
    assert agent("models", "pin", "energy", one[:4])[1][0].startswith(f"energy: {one} is pinned")
    assert (store.standing("energy").current, store.standing("energy").pinned) == (one, True)
    assert agent("models", "list")[1][0] == "energy (pinned)"
    assert agent("models", "unpin", "energy")[1] == [f"energy: {one} is not pinned"]
    agent("models", "pin", "energy", "shipped")
    assert (store.standing("energy").current, store.standing("energy").pinned) == (SHIPPED, True)


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["models", "rollback", "energy"], 2, "no model was installed for target 'energy'"),
        (["models", "pin", "enery", "shipped"], 2, "no model was installed for target 'enery'"),
        (["install", "gone.tar"], 1, "gone.tar is no readable bundle (No such file or directory)"),
        (["install", "http://127.0.0.1/x.tar"], 2, "https://HOST/… is expected"),
        (["install", "first.tar", "--shadow-days", "91"], 2, "0 (at once) to 90 is expected"),
        (["install", "first.tar", "--house", "none.toml"], 2, "none.toml: cannot be read"),
        (["install", "first.tar", "--target", "heat"], 2, "has no such target"),
    ],
)
def test_mistakes_are_named_and_change_nothing(agent, store, two, arguments, code, problem):
    found, _, error = agent(*arguments)
    assert (found, error.startswith("error: "), problem in error) == (code, True, True), error
    assert store.targets() == []


def test_without_a_house_it_asks_for_one(agent, tmp_path, monkeypatch):
    (tmp_path / "house.toml").unlink()
    monkeypatch.setattr("edge_agent.commands.SERVICE", tmp_path / "etc")
    code, _, error = agent("install", "first.tar")
    assert (code, "give its path with --house" in error) == (2, True)


def test_what_cannot_be_used_is_not_made_current(agent, store, two):
    for path, _ in two:
        agent("install", path, "--shadow-days", 0)
    (_, one), (_, two_id) = two
    (store.bundle("energy", one) / MODEL).write_bytes(b"rot")
    assert "model.onnx does not match" in agent("models", "rollback", "energy")[2]
    assert "model.onnx does not match" in agent("models", "pin", "energy", one)[2]
    code, _, error = agent("models", "pin", "energy", "f")
    assert (code, "is no installed model" in error) == (2, True)
    assert store.standing("energy").current == two_id


def test_models_are_checked_on_this_machine(agent, make_bundle):
    first = make_bundle("first.tar", factor=1.5)
    assert agent("models", "check", first)[0] == 0
    assert agent("install", first, "--any-house")[0] == 0
    code, lines, _ = agent("models", "check")
    assert code == 0
    assert re.match(r"\S+, Python 3\.1\d\.\d+, ONNX Runtime 1\.\d+", lines[0])
    assert [line.split(" ", 1)[0] for line in lines[1:]] == ["tiny", "base-energy"]
    assert all(re.search(r"differs by \d\.\de[-+]\d+ of its largest value \(allowed 0\.001\), in \d+ ms$", line) for line in lines[1:])
