"""What the service manager is told, over a real notification socket."""

import socket

import pytest

from edge_agent.systemd import Notifier


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """systemd's end of the socket: all that was said so far, on demand."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "20000000")

        def heard():
            said = []
            while True:
                try:
                    said += ear.recv(4096).decode().splitlines()
                except BlockingIOError:
                    return said

        yield heard


@pytest.fixture
def notifier(manager):
    """A notifier that is closed at the end."""
    notifier = Notifier()
    yield notifier
    notifier._watchdog._socket.close()


def test_ready_with_a_status(manager, notifier):
    notifier.ready("waiting")
    assert manager() == ["READY=1", "STATUS=waiting"]


def test_the_watchdog_is_fed_at_half_its_time(manager, notifier):
    for now in (100.0, 105.0, 109.9, 110.0, 119.0, 121.0):
        notifier.alive(now)
    assert manager() == ["WATCHDOG=1"] * 3


def test_stopping_is_said(manager, notifier):
    notifier.stopping()
    assert manager() == ["STATUS=stopping", "STOPPING=1"]


def test_nothing_happens_without_systemd(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notifier = Notifier()
    notifier.ready("waiting")
    notifier.alive(1.0)
    notifier.stopping()


def test_a_manager_that_is_gone_is_no_reason_to_stop(tmp_path, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    notifier = Notifier()
    notifier.ready("waiting")
    notifier._watchdog._socket.close()
