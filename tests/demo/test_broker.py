import socket

import pytest
from paho.mqtt import publish, subscribe

from demo import broker as broker_module
from demo.broker import embedded_broker, start_broker
from edge_agent.contract.errors import ServiceError


def test_broker_accepts_connections_as_soon_as_it_is_there(tmp_path):
    with embedded_broker(tmp_path / "broker.log") as broker, socket.create_connection((broker.host, broker.port), 5):
        assert broker.host == "127.0.0.1"


def test_retained_message_waits_for_its_reader(tmp_path):
    with embedded_broker(tmp_path / "broker.log") as broker:
        publish.single("house/forecast", "42", qos=1, retain=True, hostname=broker.host, port=broker.port)
        message = subscribe.simple("house/forecast", hostname=broker.host, port=broker.port)
    assert (message.payload, message.retain) == (b"42", True)


def test_stopped_broker_leaves_in_good_order_and_is_gone(tmp_path):
    broker = start_broker(tmp_path / "broker.log")
    assert broker.stop() == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((broker.host, broker.port), 5)


def test_broker_stops_with_clients_connected(tmp_path):
    broker = start_broker(tmp_path / "broker.log")
    with socket.create_connection((broker.host, broker.port), 5):
        assert broker.stop() == 0


def test_two_brokers_do_not_share_a_port(tmp_path):
    with embedded_broker(tmp_path / "one.log") as one, embedded_broker(tmp_path / "two.log") as two:
        assert one.port != two.port


def test_broker_that_cannot_start_is_reported_with_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(broker_module.sys, "executable", "/bin/false")
    with pytest.raises(ServiceError, match=r"broker\.log"):
        start_broker(tmp_path / "broker.log")
