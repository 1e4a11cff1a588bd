"""A broker that does not let the agent read says nothing: it is known by what should have been heard, against a real one."""

import logging
import time

import pytest

from edge_agent.config import BrokerSettings, Settings
from edge_agent.doctor import examine
from edge_agent.health import Health
from edge_agent.hearing import Hearing
from edge_agent.history import History
from edge_agent.keeping import Keeper
from edge_agent.mqtt import BrokerLink
from edge_agent.reading import Reading
from edge_agent.zigbee import Decoder
from tests.edge_agent.test_health import HOUSE

BRIDGE = "zigbee2mqtt/bridge/state"


class Agent:
    """What the service does with messages and their absence."""

    def __init__(self, port, folder):
        broker = BrokerSettings(port=port, username="hearthcast", password="a")
        self.settings, self.health = Settings(broker, state_dir=folder), Health(HOUSE)
        self.link = BrokerLink(broker, client_id="agent", status_topic=None, subscriptions=Decoder(HOUSE).topics)
        keeper = Keeper(History(folder / "history.db"), self.settings.limits, self.health, is_replay=False)
        keeper.open(HOUSE)
        self.hearing = Hearing(HOUSE, self.settings, link=self.link, keeper=keeper, health=self.health)
        self.start = time.time()

    def listen(self, seconds=0.3):
        """Take in what comes."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.hearing.look(self.start, time.monotonic())
            message = self.link.get(0.05)
            if message is not None:
                self.hearing.readings(message, received_at=self.start)
        return self

    def problems(self, after_s):
        self.hearing.tell(self.start + after_s)
        self.health.tell_problems(self.start + after_s)
        return self.health.problems(self.start + after_s)


@pytest.fixture
def agent_under(make_broker, tmp_path, eventually):
    """An agent with these rights, at a broker where Zigbee2MQTT is online and its devices speak."""
    links, keepers = [], []

    def begin(rights):
        acl = f"user hearthcast\n{rights}\nuser zigbee2mqtt\ntopic readwrite #\n"
        broker = make_broker(users={"hearthcast": "a", "zigbee2mqtt": "b"}, acl=acl)
        bridge = BrokerLink(
            BrokerSettings(port=broker.port, username="zigbee2mqtt", password="b"), client_id="z", status_topic=None, subscriptions=()
        )
        agent = Agent(broker.port, tmp_path)
        keepers.append(agent.hearing.keeper)
        for link in (bridge, agent.link):
            link.start()
            links.append(link)
            eventually(link.connected.is_set)
        bridge.publish(BRIDGE, '{"state": "online"}', retain=True)
        agent.listen()
        bridge.publish("zigbee2mqtt/room", '{"temperature": 20}')
        eventually(lambda: bridge.get(0) or not bridge.outbox.waiting)
        return agent.listen()

    yield begin
    for link in links:
        link.stop()
    for keeper in keepers:
        keeper.close()


@pytest.mark.broker
def test_an_agent_that_may_read_all_has_nothing_to_say(agent_under):
    assert agent_under("topic read zigbee2mqtt/#").problems(600) == []


@pytest.mark.broker
def test_an_agent_that_may_read_nothing_says_so_after_a_minute(agent_under, caplog):
    agent = agent_under("topic read weather/#")
    assert agent.problems(59) == []
    (problem,) = agent.problems(3700)  # one line, not one a sensor
    assert agent.problems(7300) == [problem]
    assert [record.getMessage() for record in caplog.records] == [problem]
    assert problem.startswith("nothing is heard of Zigbee2MQTT, not even zigbee2mqtt/bridge/state")
    assert "'topic read zigbee2mqtt/#' below 'user hearthcast'" in problem
    report = list(examine(HOUSE, agent.settings, history_path=agent.settings.state_dir / "none.db", seconds=0.3))
    assert f"problem: {problem}" in report


@pytest.mark.broker
def test_an_agent_that_may_read_the_bridge_alone_says_so_when_a_device_should_have_spoken(agent_under):
    agent = agent_under("topic read zigbee2mqtt/bridge/#")
    assert agent.problems(600) == []
    (problem,) = agent.problems(601)
    assert problem.startswith("Zigbee2MQTT is online, but nothing has come from any of its devices since ")


@pytest.mark.broker
def test_a_silent_sensor_is_logged_once_and_again_when_it_speaks(agent_under, caplog):
    agent = agent_under("topic read zigbee2mqtt/#")
    with caplog.at_level(logging.INFO):
        for after_s in (100, 700, 1300, 1900):
            agent.hearing.watch.saw([Reading("meter", agent.start + after_s - 1, float(after_s))])
            agent.problems(after_s)
        agent.hearing.watch.saw([Reading("room", agent.start + 2000, 20.0)])
        agent.problems(2001)
    said = [record.getMessage() for record in caplog.records]
    assert [text.split(" has sent")[0] for text in said] == ["room (zigbee2mqtt/room)", "no longer so: room (zigbee2mqtt/room)"]
