"""The connection to the broker, against real ones."""

import asyncio
import contextlib
import json
import logging
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.subscribeoptions import SubscribeOptions

from benchmarks.soak.proxy import Proxy
from edge_agent import mqtt
from edge_agent.config import BrokerSettings, read_settings
from edge_agent.contract.errors import ConfigError
from edge_agent.mqtt import BrokerLink
from edge_agent.outage import LONGEST_WAIT_S

STATUS = "hearthcast/house/status"


class Watcher:
    """A controller: everything published, as it comes and as it is retained."""

    def __init__(self, port, topic="#", **login):
        self.seen, self.retained, self.expiry = [], {}, {}
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        if login:
            self.client.username_pw_set(login["username"], login["password"])
        self.client.on_message = self.on_message
        granted = threading.Event()
        self.client.on_subscribe = lambda *_: granted.set()
        self.client.on_connect = lambda *_: self.client.subscribe(topic, options=SubscribeOptions(qos=1, retainAsPublished=True))
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert granted.wait(20)

    def on_message(self, _client, _data, message):
        self.seen.append((message.topic, message.payload.decode()))
        if message.retain:
            self.retained[message.topic] = message.payload.decode()
            self.expiry[message.topic] = getattr(message.properties, "MessageExpiryInterval", None)

    def publish(self, topic, payload, **options):
        self.client.publish(topic, payload, qos=1, **options).wait_for_publish(20)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def watch(paho_garbage):
    """Opens watchers and closes them."""
    with contextlib.ExitStack() as stack:

        def open_one(port, *args, **login):
            watcher = Watcher(port, *args, **login)
            stack.callback(watcher.close)
            return watcher

        yield open_one


@pytest.fixture
def link_to(paho_garbage):
    """Opens links and closes them."""
    links = []

    def open_one(port, *, client_id="hearthcast-house", start=True, keep_session=True, is_replay=False, **settings):
        how = {"keep_session": keep_session, "is_replay": is_replay}
        link = BrokerLink(BrokerSettings(port=port, **settings), client_id=client_id, status_topic=STATUS, subscriptions=("in/#",), **how)
        if start:
            link.start()
            links.append(link)
        return link

    yield open_one
    for link in links:
        link.stop()


def settle(link, eventually):
    """Let the broker answer to all that was published."""
    eventually(lambda: link.get(0) or not link.outbox.waiting)


@pytest.mark.broker
def test_messages_arrive_with_topic_and_retain_flag(broker, link_to, watch):
    controller = watch(broker.port)
    controller.publish("in/kept", "old", retain=True)
    link = link_to(broker.port)
    first = link.get(20)
    controller.publish("in/now", "new")
    second = link.get(20)
    assert [(m.topic, m.payload, m.retained) for m in (first, second)] == [("in/kept", b"old", True), ("in/now", b"new", False)]
    assert link.get(0) is None
    assert link.is_mqtt5


@pytest.mark.broker
def test_status_is_online_while_running_and_stopped_after(broker, link_to, watch, eventually):
    controller = watch(broker.port)
    link = link_to(broker.port)
    eventually(lambda: controller.retained.get(STATUS) == "online")
    link.stop()
    eventually(lambda: controller.retained.get(STATUS) == "stopped")
    broker.stop()  # everything the broker still had to send is out
    assert [payload for topic, payload in controller.seen if topic == STATUS] == ["online", "stopped"]


@pytest.mark.broker
def test_a_line_that_dies_leaves_the_will(broker, link_to, watch, eventually):
    controller = watch(broker.port)
    link = link_to(broker.port)
    eventually(lambda: controller.retained.get(STATUS) == "online")
    link._client.socket().shutdown(socket.SHUT_RDWR)
    eventually(lambda: (STATUS, "offline") in controller.seen)
    eventually(lambda: controller.retained[STATUS] == "online")  # it comes back by itself


@pytest.mark.broker
def test_retained_values_come_back_after_the_broker_forgot_them(make_broker, link_to, watch, eventually):
    broker = make_broker()
    link = link_to(broker.port)
    eventually(link.connected.is_set)
    link.publish("out/kept", "first", retain=True)
    settle(link, eventually)
    broker.kill()
    eventually(lambda: not link.connected.is_set())
    link.publish("out/kept", "second", retain=True)
    link.publish("out/passing", "gone")
    broker.start()
    controller = watch(broker.port)
    eventually(lambda: controller.retained == {STATUS: "online", "out/kept": "second"})
    assert "out/passing" not in dict(controller.seen)
    controller.publish("in/x", "subscribed again")
    assert link.get(20).payload == b"subscribed again"


@pytest.mark.broker
def test_an_unacknowledged_old_value_does_not_overwrite_the_new_one(make_broker, link_to, watch, eventually):
    broker = make_broker()
    link = link_to(broker.port)
    eventually(link.connected.is_set)
    broker.process.send_signal(signal.SIGSTOP)
    for i in range(30):  # more than paho has in flight at a time
        link.publish("out/kept", f"old {i}", retain=True)
    broker.kill()
    eventually(lambda: not link.connected.is_set())
    link.publish("out/kept", "new", retain=True)
    broker.start()
    controller = watch(broker.port)
    eventually(link.connected.is_set)
    settle(link, eventually)
    eventually(lambda: controller.retained.get("out/kept") == "new")


@pytest.mark.broker
def test_forecasts_expire_on_the_broker(broker, link_to, watch, eventually):
    link = link_to(broker.port)
    eventually(link.connected.is_set)
    link.publish("out/forecast", "x", retain=True, lifetime_s=7200)
    link.publish("out/health", "x", retain=True)
    controller = watch(broker.port)
    eventually(lambda: {"out/forecast", "out/health"} <= controller.retained.keys())
    assert 7190 <= controller.expiry["out/forecast"] <= 7200
    assert controller.expiry["out/health"] is None


@pytest.mark.broker
def test_a_removed_topic_is_sent_once(broker, link_to, watch, eventually):
    watch(broker.port).publish("out/old", "x", retain=True)
    link = link_to(broker.port, start=False)
    link.publish("out/old", b"", retain=True)
    assert "out/old" in link.outbox._kept
    link.start()
    eventually(link.connected.is_set)
    settle(link, eventually)
    assert "out/old" not in link.outbox._kept
    link.stop()
    controller = watch(broker.port)
    eventually(lambda: controller.retained.get(STATUS) == "stopped")
    assert "out/old" not in controller.retained


@pytest.mark.broker
def test_the_broker_keeps_messages_while_the_agent_restarts(broker, link_to, watch, eventually):
    controller = watch(broker.port)
    link = link_to(broker.port)
    eventually(link.connected.is_set)
    eventually(lambda: "online" in controller.retained.values())
    controller.publish("in/probe", "subscribed")
    assert link.get(20).payload == b"subscribed"
    link.stop()
    controller.publish("in/x", "while away")
    assert link_to(broker.port).get(20).payload == b"while away"


@pytest.mark.broker
def test_without_a_session_a_run_begins_anew(broker, link_to, watch, eventually):
    controller = watch(broker.port)
    link = link_to(broker.port, keep_session=False)
    eventually(lambda: controller.retained.get(STATUS) == "online")
    link.stop()
    eventually(lambda: controller.retained.get(STATUS) == "stopped")
    controller.publish("in/x", "while away")
    successor = link_to(broker.port, keep_session=False)
    eventually(lambda: controller.retained.get(STATUS) == "online")
    controller.publish("in/x", "now")
    assert successor.get(20).payload == b"now"


@pytest.mark.broker
def test_messages_that_were_not_used_come_again(broker, link_to, watch, eventually):
    controller = watch(broker.port)
    link = link_to(broker.port)
    eventually(lambda: controller.retained.get(STATUS) == "online")
    for i in range(5):
        controller.publish("in/x", str(i))
    assert [link.get(20).payload for _ in range(3)] == [b"0", b"1", b"2"]
    link.stop()
    successor = link_to(broker.port)
    assert [successor.get(20).payload for _ in range(2)] == [b"3", b"4"]


@pytest.mark.broker
def test_wrong_password_is_reported_once_and_counted(make_broker, link_to, caplog, eventually, monkeypatch):
    monkeypatch.setitem(LONGEST_WAIT_S, "refused", 0.5)
    broker = make_broker(users={"agent": "right"})
    with caplog.at_level(logging.INFO):
        link = link_to(broker.port, username="agent", password="wrong")
        eventually(lambda: link.outage.attempts >= 3)
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert f"broker 127.0.0.1:{broker.port} refuses user 'agent'" in warnings[0]
    assert "ot authorized" in warnings[0]
    assert link.attempted.is_set()
    assert not link.connected.is_set()


@pytest.mark.broker
def test_right_password_is_let_in(make_broker, link_to, eventually):
    broker = make_broker(users={"agent": "right"})
    eventually(link_to(broker.port, username="agent", password="right").connected.is_set)


@pytest.mark.broker
def test_a_topic_that_the_broker_does_not_let_write_is_named(make_broker, link_to, caplog, eventually):
    broker = make_broker(users={"agent": "right"}, acl=f"user agent\ntopic readwrite {STATUS}\n")
    link = link_to(broker.port, username="agent", password="right")
    eventually(link.connected.is_set)
    link.publish("homeassistant/device/x/config", "{}", retain=True)
    link.publish("homeassistant/device/x/config", "{}", retain=True)
    settle(link, eventually)
    assert link.outbox.refused.counts == {"homeassistant/device/x/config": 2}
    (words,) = link.problems()
    assert words.startswith("broker refuses writing homeassistant/device/x/config (Not authorized): add 'topic write homeassistant/device/x/config'")
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == [words]


@pytest.mark.broker
def test_a_topic_that_may_be_written_again_is_no_problem_any_more(make_broker, link_to, eventually, monkeypatch):
    monkeypatch.setattr("edge_agent.outbox.TRY_AGAIN_S", 0.05)
    rights = f"user agent\ntopic readwrite {STATUS}\n"
    broker = make_broker(users={"agent": "right"}, acl=rights)
    link = link_to(broker.port, username="agent", password="right")
    eventually(link.connected.is_set)
    link.publish("out/x", "1", retain=True)
    eventually(lambda: link.get(0) or link.problems())
    (broker.configuration.parent / "acl").write_text(f"{rights}topic write out/#\n")
    broker.process.send_signal(signal.SIGHUP)
    eventually(lambda: link.get(0.01) or not link.problems())


@pytest.fixture
def strict_broker(make_broker, tmp_path):
    """A broker that answers a subscription which is not allowed with a refusal; an ACL file only keeps silent."""
    plugin = next(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"), None)
    if plugin is None:
        pytest.skip("needs Mosquitto's dynamic security plugin")
    rules = tmp_path / "rules.json"
    access = {"publishClientSend": True, "publishClientReceive": True, "subscribe": False, "unsubscribe": True}
    rules.write_text(json.dumps({"defaultACLAccess": access, "clients": [], "groups": [], "roles": []}))
    return make_broker(extra=(f"plugin {plugin}", f"plugin_opt_config_file {rules}"))


@pytest.mark.broker
def test_a_topic_that_the_broker_does_not_let_read_is_named(strict_broker, link_to, eventually):
    link = link_to(strict_broker.port)
    eventually(lambda: len(link.problems()) == 2)
    assert link.problems()[0].startswith("broker refuses reading in/# (Not authorized): add 'topic read in/#' above the first 'user' line")
    assert link.state()["refused_reads"] == [STATUS, "in/#"]


@pytest.mark.broker
@pytest.mark.parametrize("other_id", ["hearthcast-house", "second"])
def test_another_agent_for_this_site_is_named_and_left_in_peace(broker, link_to, eventually, caplog, monkeypatch, other_id):
    monkeypatch.setitem(LONGEST_WAIT_S, "away", 0.2)
    links = [link_to(broker.port)]
    eventually(links[0].connected.is_set)
    links.append(link_to(broker.port, client_id=other_id))
    eventually(lambda: any(link.problems() for link in links))
    (words,) = next(link for link in links if link.problems()).problems()
    assert words.startswith("another agent is at work for this site")
    eventually(lambda: any(record.getMessage() == words for record in caplog.records))  # the network's thread tells it just afterwards
    if other_id == "hearthcast-house":
        eventually(lambda: sum(link.connected.is_set() for link in links) == 1)  # the other one waits for minutes


@pytest.mark.broker
def test_an_agent_that_was_killed_is_no_rival_of_its_successor(broker, link_to, watch, eventually):
    controller = watch(broker.port)
    first = link_to(broker.port, client_id="before")
    eventually(lambda: controller.retained.get(STATUS) == "online")
    second = link_to(broker.port)
    eventually(lambda: controller.seen.count((STATUS, "online")) == 2)
    first._client.on_disconnect = lambda client, *_: client.disconnect()
    first._client.socket().shutdown(socket.SHUT_RDWR)
    eventually(lambda: (STATUS, "offline") in controller.seen)
    eventually(lambda: controller.retained[STATUS] == "online")  # the late will is put right
    assert second.problems() == []


def test_no_broker_at_all_is_reported_and_ends_quickly(link_to, caplog, eventually):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    link = link_to(port)
    eventually(link.attempted.is_set)
    assert "cannot be reached: [Errno 111] Connection refused" in link.problem
    link.stop()


@pytest.mark.broker
def test_messages_that_were_taken_come_again_until_they_are_acknowledged(broker, link_to, watch, eventually):
    controller = watch(broker.port)
    link = link_to(broker.port)
    eventually(lambda: controller.retained.get(STATUS) == "online")
    for i in range(4):
        controller.publish("in/x", str(i))
    assert [link.take(20).payload for _ in range(2)] == [b"0", b"1"]
    link.acknowledge()
    assert [link.take(20).payload for _ in range(2)] == [b"2", b"3"]
    assert link.n_unacknowledged == 2
    link.publish("out/x", "behind the acknowledgements", retain=True)
    eventually(lambda: "out/x" in controller.retained)
    successor = link_to(broker.port)  # as after kill -9: the first link says nothing more
    assert [successor.get(20).payload for _ in range(2)] == [b"2", b"3"]


@pytest.mark.broker
def test_a_broker_that_waits_for_acknowledgements_has_not_handed_out_everything(broker, link_to, watch, eventually, monkeypatch):
    monkeypatch.setattr(mqtt, "QUIET_S", 0.1)
    controller = watch(broker.port)
    link = link_to(broker.port)
    eventually(lambda: controller.retained.get(STATUS) == "online")
    eventually(lambda: link._has_echo)
    link._has_echo = False  # as with MQTT 3.1.1: no status can be told from another
    controller.publish("in/x", "1")
    assert link.take(20) is not None
    time.sleep(0.2)  # longer than quiet
    assert not link.is_drained
    link.acknowledge()
    assert not link.is_drained
    eventually(lambda: link.is_drained)


@pytest.mark.broker
def test_what_the_broker_kept_is_here_when_it_sends_back_the_status(broker, link_to, watch, eventually):
    controller = watch(broker.port)
    link = link_to(broker.port)
    eventually(lambda: controller.retained.get(STATUS) == "online")
    link.stop()
    for i in range(100):  # five times what Mosquitto sends ahead of acknowledgement
        controller.publish("in/x", str(i))
    link, n = link_to(broker.port), 0
    eventually(link.connected.is_set)
    for _ in range(200):
        controller.publish("in/noise", "never quiet")
        while message := link.take(0.02):
            n += message.topic == "in/x"
        link.acknowledge()
        if link.is_drained:
            break
    else:
        pytest.fail("it never says that it is drained")
    assert n == 100


@pytest.mark.broker
def test_a_broker_that_takes_a_connection_and_never_answers_is_asked_again(broker, link_to, eventually, monkeypatch):
    monkeypatch.setattr("edge_agent.mqtt.KEEPALIVE_S", 3600)  # which would end the wait too
    monkeypatch.setattr("edge_agent.mqtt.FIRST_PATIENCE_S", 0.3)
    with Proxy(broker.port) as proxy:
        link = link_to(proxy.port)
        eventually(link.connected.is_set)
        proxy.is_hole = True
        link._client.socket().shutdown(socket.SHUT_RDWR)
        eventually(lambda: proxy.connections == 3)
        assert not link.connected.is_set()
        proxy.is_hole = False
        eventually(link.connected.is_set)
        link.stop()


@pytest.mark.broker
def test_the_kernel_gives_up_a_line_whose_other_end_is_gone(broker, link_to, eventually):
    link = link_to(broker.port)
    eventually(link.connected.is_set)
    line = link._client.socket()
    assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 5000
    assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


@pytest.mark.broker
@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("limit", [{"QUEUE_SIZE": 5}, {"QUEUE_BYTES": 500}])
def test_a_full_queue_holds_the_broker_back(make_broker, link_to, watch, monkeypatch, eventually, qos, limit):
    for name, value in limit.items():
        monkeypatch.setattr(f"edge_agent.mqtt.{name}", value)
    broker = make_broker(extra=["max_queued_messages 0"])
    controller = watch(broker.port)
    link = link_to(broker.port)
    eventually(lambda: controller.retained.get(STATUS) == "online")
    for i in range(500):
        controller.client.publish("in/x", f"{i:100}", qos=qos)
    assert [int(link.get(20).payload) for _ in range(500)] == list(range(500))


@pytest.mark.broker
def test_a_message_larger_than_the_queue_waits_alone(broker, link_to, watch, monkeypatch, eventually):
    monkeypatch.setattr("edge_agent.mqtt.QUEUE_BYTES", 500)
    controller = watch(broker.port)
    link = link_to(broker.port)
    eventually(link.connected.is_set)
    for size in (1, 10_000, 20_000, 1):
        controller.publish("in/x", "x" * size)
    assert [len(link.get(20).payload) for _ in range(4)] == [1, 10_000, 20_000, 1]


@pytest.mark.broker
def test_a_topic_that_is_read_no_longer_is_not_sent(broker, link_to, eventually):
    link = link_to(broker.port)
    eventually(link.connected.is_set)
    link.subscribe(["more/a", "more/b"])
    link.unsubscribe(["more/a", "unknown"])
    link.publish("more/a", "deaf")  # on the same connection, so that the broker does one after the other
    link.publish("more/b", "heard")
    assert link.get(20).payload == b"heard"


@pytest.mark.broker
def test_what_nobody_can_use_is_not_even_sent(broker, link_to, watch, eventually):
    controller = watch(broker.port)
    link = link_to(broker.port)
    eventually(link.connected.is_set)
    controller.publish("in/x", b"x" * 5_000_000)
    controller.publish("in/x", "after")
    assert link.get(20).payload == b"after"


@pytest.mark.broker
def test_a_replay_publishes_all_while_its_queue_is_full(broker, link_to, watch, monkeypatch, eventually):
    monkeypatch.setattr("edge_agent.mqtt.QUEUE_SIZE", 5)
    monkeypatch.setattr("edge_agent.mqtt.UNSENT_PACE", 5)
    controller = watch(broker.port)
    link = link_to(broker.port, is_replay=True)
    eventually(lambda: controller.retained.get(STATUS) == "online")
    for i in range(300):
        controller.publish("in/x", str(i))
    for _ in range(300):
        message = link.get(20)
        link.publish("out/x", message.payload, retain=True)
    eventually(lambda: controller.retained.get("out/x") == "299")
    assert [payload for topic, payload in controller.seen if topic == "out/x"] == [str(i) for i in range(300)]


@pytest.mark.broker
def test_a_link_with_a_full_queue_still_stops(broker, link_to, watch, monkeypatch, eventually):
    monkeypatch.setattr("edge_agent.mqtt.QUEUE_SIZE", 1)
    controller = watch(broker.port)
    link = link_to(broker.port, is_replay=True)
    eventually(lambda: controller.retained.get(STATUS) == "online")
    for i in range(5):
        controller.publish("in/x", str(i))
    link.stop()
    eventually(lambda: controller.retained[STATUS] == "stopped")


@pytest.mark.broker
def test_a_password_from_systemds_credentials(make_broker, eventually, link_to, tmp_path):
    broker = make_broker(users={"agent": "right"})
    (tmp_path / "mqtt-password").write_text("right\n")
    flags = {"broker": f"127.0.0.1:{broker.port}", "username": "agent"}
    settings = read_settings(None, flags=flags, environment={"CREDENTIALS_DIRECTORY": str(tmp_path), "HOME": str(tmp_path)})
    eventually(link_to(broker.port, username="agent", password=settings.broker.password).connected.is_set)


@pytest.mark.broker
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho does not close the socket of a failed handshake
def test_tls_with_an_own_authority(make_broker, link_to, tmp_path, eventually):
    ca, certificate, key = make_certificates(tmp_path)
    broker = make_broker(extra=(f"cafile {ca}", f"certfile {certificate}", f"keyfile {key}"))
    eventually(link_to(broker.port, tls=True, ca_file=ca).connected.is_set)
    stranger = link_to(broker.port, tls=True, client_id="other")  # trusts the system's authorities only
    eventually(stranger.attempted.is_set)
    assert "CERTIFICATE_VERIFY_FAILED" in stranger.problem
    assert "check ca_file" in stranger.problem
    stranger.stop()
    next(thread for thread in threading.enumerate() if thread.name.endswith("-other")).join()  # its sockets are garbage only then


@pytest.mark.broker
def test_tls_with_an_own_certificate_in_the_place_of_a_password(make_broker, link_to, tmp_path, eventually):
    ca, certificate, key = make_certificates(tmp_path)
    rules = ("require_certificate true", "use_identity_as_username true")
    files = (f"cafile {ca}", f"certfile {certificate}", f"keyfile {key}")
    broker = make_broker(extra=(*files, *rules), acl=f"user agent\ntopic readwrite {STATUS}\n")
    link = link_to(broker.port, tls=True, ca_file=ca, cert_file=tmp_path / "agent.crt", key_file=tmp_path / "agent.key")
    eventually(link.connected.is_set)
    settle(link, eventually)
    assert link.problems() == []  # it writes its status by the right of its certificate's name
    stranger = link_to(broker.port, tls=True, ca_file=ca, client_id="other")
    eventually(lambda: stranger.problem)
    assert "does the broker want a certificate" in stranger.problem


def make_certificates(folder):
    """An authority, a server certificate for 127.0.0.1, and one of the agent's (agent.crt, agent.key)."""

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *curve, "-days", "2", "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.crt")
    openssl("req", *curve, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    signing = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl("x509", "-req", "-in", "server.csr", *signing, "-out", "server.crt")
    openssl("req", *curve, "-subj", "/CN=agent", "-keyout", "agent.key", "-out", "agent.csr")
    openssl("x509", "-req", "-in", "agent.csr", *signing[:-2], "-out", "agent.crt")
    return folder / "ca.crt", folder / "server.crt", folder / "server.key"


def test_tls_files_that_are_none_are_named(link_to, tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.pem"):
        link_to(1, tls=True, ca_file=tmp_path / "nothing.pem", start=False)


@pytest.fixture
def amqtt_port():
    """A broker that speaks MQTT 3.1.1 only, in a thread of its own."""
    amqtt_broker = pytest.importorskip("amqtt.broker")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {}},
    }
    ready, end = threading.Event(), []

    async def serve():
        finish = asyncio.Event()
        end.append((asyncio.get_running_loop(), finish))
        broker = amqtt_broker.Broker(config)
        await broker.start()
        ready.set()
        await finish.wait()
        await broker.shutdown()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(30)
    yield port
    loop, finish = end[0]
    loop.call_soon_threadsafe(finish.set)
    thread.join()


def test_falls_back_to_mqtt_3_where_the_broker_speaks_no_5(amqtt_port, link_to, eventually, monkeypatch):
    monkeypatch.setattr("edge_agent.mqtt.FIRST_PATIENCE_S", 0.5)
    link = link_to(amqtt_port)
    eventually(link.connected.is_set)
    assert not link.is_mqtt5
    link.publish("in/echo", json.dumps({"a": 1}), retain=True, lifetime_s=60)
    assert link.get(20).payload == b'{"a": 1}'
    link.stop()
    assert not link.connected.is_set()


@pytest.fixture
def old_broker_port():
    """A broker that closes the connection at a version it does not know, and welcomes MQTT 3.1.1."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection = server.accept()[0]
                if connection.recv(100)[8:9] != b"\x04":
                    connection.close()
                else:
                    connection.sendall(b"\x20\x02\x00\x00")
                    open_ones.append(connection)

    open_ones = []
    thread = threading.Thread(target=serve)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    thread.join()
    for one in (server, *open_ones):
        one.close()


def test_falls_back_to_mqtt_3_where_the_broker_closes_at_5(old_broker_port, link_to, eventually, monkeypatch):
    monkeypatch.setattr("edge_agent.mqtt.FIRST_PATIENCE_S", 0.2)
    link = link_to(old_broker_port)
    eventually(link.connected.is_set)
    assert not link.is_mqtt5
