"""What a monitoring system is told: the text, and the thread that hands it out."""

import contextlib
import re
import socket
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.config import read_settings
from edge_agent.metrics import Metric
from edge_agent.scrape import PATIENCE_S, scraped

SAMPLE = re.compile(r'^[a-z_]+(\{[a-z]+="[^"\n]*"(,[a-z]+="[^"\n]*")*\})? -?[0-9.e+-]+$')


def ask(address, request=b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", timeout_s=10):
    with socket.socket(socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX) as client:
        client.settimeout(timeout_s)
        client.connect(address)
        client.sendall(request)
        answer = b""
        while part := client.recv(65_536):
            answer += part
    head, _, body = answer.decode().partition("\r\n\r\n")
    return head, body


@pytest.fixture
def settings(tmp_path):
    return replace(read_settings(None, environment={}), metrics_socket=tmp_path / "metrics.sock")


@pytest.fixture
def where(settings):
    return str(settings.metrics_socket)


def test_labels_are_escaped():
    metric = Metric("m", "gauge", "about", {(("a", 'x"\\\n'),): 1.5, (): float("inf")})
    assert str(metric) == 'm{a="x\\"\\\\\\n"} 1.5\nm inf\n'


def test_a_socket_is_for_owner_and_group_alone_and_gone_afterwards(settings, where):
    with scraped(settings, lambda: "up 1\n") as problem:
        assert problem is None
        assert stat.S_IMODE(settings.metrics_socket.stat().st_mode) == 0o660
        head, body = ask(where)
    assert head.startswith("HTTP/1.1 200 OK")
    assert body == "up 1\n"
    assert not settings.metrics_socket.exists()


def test_nothing_is_opened_unless_the_settings_say_so(settings, tmp_path):
    before = threading.active_count()
    with scraped(replace(settings, metrics_socket=None), lambda: "") as problem:
        assert problem is None
        assert threading.active_count() == before
    assert list(tmp_path.iterdir()) == []


def test_a_port_is_open_on_loopback_alone(settings):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with scraped(replace(settings, metrics_socket=None, metrics_port=port), lambda: "up 1\n"):
        assert ask(("127.0.0.1", port))[1] == "up 1\n"
        table = Path("/proc/net/tcp").read_text().splitlines()
        local = [line.split()[1] for line in table if line.split()[3] == "0A"]
    assert [address for address in local if address.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", "405"),
        (b"GET /metrics?x=1 HTTP/1.0\n\n", "200"),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", "200"),
    ],
)
def test_other_requests_are_answered_too(settings, where, request_, status):
    with scraped(settings, lambda: "up 1\n"):
        head, body = ask(where, request_)
    assert head.split()[1] == status
    assert (body == "") == request_.startswith(b"HEAD")


@pytest.mark.parametrize("request_", [b"", b"GET", b"\xff" * 20_000, b"A: b\r\n" * 5_000])
def test_a_hostile_client_has_its_time_and_then_the_next_one_its_turn(settings, where, request_):
    with scraped(settings, lambda: "up 1\n"), socket.socket(socket.AF_UNIX) as hostile:
        hostile.connect(where)
        threading.Thread(target=_send_all, args=(hostile, request_)).start()
        assert ask(where)[1] == "up 1\n"


def _send_all(client, data):
    with contextlib.suppress(OSError):
        client.sendall(data)


def test_one_byte_at_a_time_does_not_buy_more_time(settings, where):
    with scraped(settings, lambda: "up 1\n"), socket.socket(socket.AF_UNIX) as slow:
        slow.connect(where)
        begin, sent = time.monotonic(), 0
        with contextlib.suppress(OSError):
            while time.monotonic() - begin < 20 * PATIENCE_S:
                slow.sendall(b"G")
                sent += 1
                time.sleep(0.05)
    assert sent < 19 * PATIENCE_S / 0.05  # it was hung up on


def test_what_cannot_be_told_is_logged_and_the_next_one_is_answered(settings, where, caplog):
    answers = iter([None, "up 1\n"])
    with scraped(settings, lambda: next(answers)):
        assert ask(where) == ("", "")
        assert ask(where)[1] == "up 1\n"
    assert len(caplog.records) == 1


def test_a_socket_that_a_killed_agent_left_is_replaced_and_one_in_use_is_not(settings, where):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(where)
    with scraped(settings, lambda: "first 1\n") as first, scraped(settings, lambda: "second 1\n") as second:
        assert first is None
        assert "another program answers there" in second
        assert ask(where)[1] == "first 1\n"


def test_a_file_in_the_way_is_a_problem_and_stays(settings):
    settings.metrics_socket.write_text("precious")
    with scraped(settings, lambda: "") as problem:
        assert "name another place under [metrics]" in problem
    assert settings.metrics_socket.read_text() == "precious"
