"""The files that are shipped for the agent do what they say."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.config import read_settings
from edge_agent.contract.schema import parse_house
from edge_agent.homeassistant import discovery
from edge_agent.mqtt import BrokerLink
from edge_agent.service import subscriptions

DEPLOY = Path(__file__).parents[2] / "deploy"
HOUSE = parse_house(
    """
site = "house1"
time_zone = "Europe/Berlin"
targets = [{name = "energy", sensor = "meter"}]
sensors = [{name = "meter", role = "energy", topic = "zigbee2mqtt/meter", field = "energy", topic_unit = "kWh"}]
weather = [{role = "outdoor_temperature", topic = "weather/house1", field = "temperature"}]
""",
    source="house.toml",
)


def test_the_example_settings_are_the_defaults(tmp_path):
    environment = {"HOME": str(tmp_path)}
    assert read_settings(DEPLOY / "agent.toml", environment=environment) == read_settings(None, environment=environment)


def test_every_key_in_the_example_settings_is_known(tmp_path):
    text = re.sub(r"^# (\w+ = )", r"\1", (DEPLOY / "agent.toml").read_text(), flags=re.MULTILINE)
    (tmp_path / "agent.toml").write_text(text)
    (tmp_path / "mqtt-password").write_text("secret")
    settings = read_settings(tmp_path / "agent.toml", environment={})
    assert settings.broker.password == "secret"
    assert len(settings.forecast_at) == 2
    assert text.count("\n# ") < 4  # nothing but the header stayed a comment


@pytest.fixture
def unit(tmp_path):
    """The systemd unit with a program that exists."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze: apt-get install systemd")
    text = (DEPLOY / "systemd" / "hearthcast-agent.service").read_text()
    path = tmp_path / "hearthcast-agent.service"
    path.write_text(text.replace("/opt/hearthcast/bin/hearthcast-agent", sys.executable))
    return path


def test_systemd_accepts_the_unit_without_a_word(unit):
    found = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")


def test_the_unit_is_hardened(unit):
    """Exposure at most 1.5."""
    found = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=15", unit], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_the_unit_hands_over_the_password_under_the_agents_name(unit):
    from edge_agent.config import CREDENTIAL

    assert f"LoadCredential={CREDENTIAL}:" in unit.read_text()


def test_the_container_file_copies_what_is_there_and_runs_without_root():
    text = (DEPLOY / "container" / "Containerfile").read_text()
    copied = [source for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE) for source in line.split()]
    assert {"pyproject.toml", "edge_agent"} <= set(copied)
    assert all((DEPLOY.parent / source).exists() for source in copied)
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE)[-1] == "10200:10200"


def test_the_container_may_write_its_history_and_no_more():
    agent = pytest.importorskip("yaml").safe_load((DEPLOY / "container" / "compose.yaml").read_text())["services"]["agent"]
    assert agent["read_only"] is True
    assert (agent["cap_drop"], agent["security_opt"], agent["user"]) == (["ALL"], ["no-new-privileges:true"], "10200:10200")
    assert [volume for volume in agent["volumes"] if not volume.endswith(":ro")] == ["history:/var/lib/hearthcast"]
    unit = (DEPLOY / "systemd" / "hearthcast-agent.service").read_text()
    assert f"MemoryMax={agent['mem_limit'].upper()}\n" in unit
    assert f"TasksMax={agent['pids_limit']}\n" in unit


@pytest.mark.broker
def test_the_brokers_acl_lets_the_agent_do_its_work(make_broker, eventually):
    broker = make_broker(users={"hearthcast": "a", "controller": "b"}, acl=(DEPLOY / "mosquitto" / "acl").read_text())
    flags = {"broker": f"127.0.0.1:{broker.port}", "username": "hearthcast"}
    settings = read_settings(None, flags=flags, environment={})
    base = "hearthcast/house1"
    links = []
    for user, password, topics, status in (
        ("hearthcast", "a", subscriptions(HOUSE, settings), f"{base}/status"),
        ("controller", "b", ["hearthcast/#", "homeassistant/#"], None),
    ):
        broker_settings = type(settings.broker)(port=broker.port, username=user, password=password)
        links.append(BrokerLink(broker_settings, client_id=user, status_topic=status, subscriptions=topics))
        links[-1].start()
        eventually(links[-1].connected.is_set)
    agent, controller = links
    wanted = {f"{base}/{what}" for what in ("forecast/energy", "forecast/energy/hourly", "health", "model")}
    for form in ("device", "single"):
        wanted |= set(discovery(HOUSE, form=form, prefix="homeassistant", base=base, expire_after_s=60))
    for topic in sorted(wanted):
        agent.publish(topic, "x", retain=True)
    eventually(lambda: agent.get(0) or not agent.outbox.waiting)
    assert agent.problems() == []
    eventually(lambda: agent.get(0) or agent.rivals._is_mark_known)  # it may read its own status
    seen = set()
    eventually(lambda: seen.add(getattr(controller.get(0.1), "topic", "")) or wanted <= seen)
    for topic in (f"{base}/cmd/forecast", "weather/house1"):
        controller.publish(topic, "now")
        assert agent.get(20).topic == topic
    controller.publish(f"{base}/forecast/energy", "forged")
    eventually(lambda: controller.get(0.1) is None and not controller.outbox.waiting)
    assert list(controller.outbox.refused.counts) == [f"{base}/forecast/energy"]
    for link in links:
        link.stop()


def test_the_node_red_flow_is_wired():
    nodes = {node["id"]: node for node in json.loads((DEPLOY / "nodered" / "flow.json").read_text())}
    for node in nodes.values():
        assert {target for output in node.get("wires", []) for target in output} <= nodes.keys()
    assert nodes["hc_cmd"]["topic"] == "hearthcast/house1/cmd/forecast"
    assert nodes["hc_in"]["topic"] == "hearthcast/house1/forecast/energy/hourly"


def test_home_assistant_examples_name_entities_that_exist():
    (payload,) = discovery(HOUSE, form="device", prefix="homeassistant", base="b", expire_after_s=60).values()
    entities = {component["default_entity_id"] for component in json.loads(payload)["components"].values()}
    for name in ("package.yaml", "dashboard.yaml"):
        named = set(re.findall(r"(?:binary_)?sensor\.hearthcast_\w+", (DEPLOY / "homeassistant" / name).read_text()))
        assert named
        assert named <= entities
