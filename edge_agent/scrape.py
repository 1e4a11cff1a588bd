"""A thread that answers `GET /metrics` on a Unix socket or on loopback, one client at a time.

No http.server: it bounds neither how long a client may take nor, with threads, how many there are. Here a client has a second, and then the next
one its turn; clients that come again and again get ten answers a second, so that they cost the loop nothing that it would notice.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from edge_agent.config import Settings
from edge_agent.contract.errors import ServiceError
from edge_agent.metrics import CONTENT_TYPE

log = logging.getLogger(__name__)

PATIENCE_S: Final = 1.0
"""For a whole request and its answer."""
PAUSE_S: Final = 0.1
"""Between two clients."""
MOST_WAITING: Final = 8
LONGEST_REQUEST: Final = 8192
SOCKET_MODE: Final = 0o660
LOOPBACK: Final = "127.0.0.1"


@contextlib.contextmanager
def scraped(settings: Settings, text: Callable[[], str]) -> Iterator[str | None]:
    """Answer with `text()` meanwhile, where the settings say so; gives why nobody is answered, in words, where that cannot be."""
    if settings.metrics_socket is None and settings.metrics_port is None:
        yield None
        return
    try:
        listener = _listen_on_path(settings.metrics_socket) if settings.metrics_socket else _listen_on_port(settings.metrics_port or 0)
    except (OSError, ServiceError) as err:  # forecasts do not depend on it
        where = settings.metrics_socket or f"{LOOPBACK}:{settings.metrics_port}"
        problem = f"metrics cannot be served on {where} ({err}): name another place under [metrics] in agent.toml"
        log.warning("%s", problem)
        yield problem
        return
    closing = threading.Event()
    threading.Thread(target=_serve, args=(listener, text, closing), name="metrics", daemon=True).start()
    try:
        yield None
    finally:
        closing.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
        listener.close()
        if settings.metrics_socket is not None:
            settings.metrics_socket.unlink(missing_ok=True)


def _listen_on_port(port: int) -> socket.socket:
    return socket.create_server((LOOPBACK, port), backlog=MOST_WAITING)


def _listen_on_path(path: Path) -> socket.socket:
    """A socket for owner and group, in the place of one that a killed agent left."""
    if path.is_socket():
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(PATIENCE_S)
            if probe.connect_ex(str(path)) == 0:
                raise ServiceError("another program answers there")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        path.chmod(SOCKET_MODE)  # before anybody can connect
        listener.listen(MOST_WAITING)
    except OSError:
        listener.close()
        raise
    return listener


def _serve(listener: socket.socket, text: Callable[[], str], closing: threading.Event) -> None:
    while not closing.is_set():
        try:
            client, _ = listener.accept()
            with client:
                _answer(client, text)
        except OSError:
            pass  # a client that went away or took too long; or no descriptor is left
        except Exception as err:
            log.warning("metrics cannot be told: %r", err, exc_info=True)
        closing.wait(PAUSE_S)


def _answer(client: socket.socket, text: Callable[[], str]) -> None:
    end = time.monotonic() + PATIENCE_S
    request = b""
    while b"\r\n\r\n" not in request and b"\n\n" not in request:
        client.settimeout(max(end - time.monotonic(), 0.001))
        part = client.recv(4096)
        if not part:
            return
        request += part
        if len(request) > LONGEST_REQUEST or time.monotonic() > end:
            return
    method, _, rest = request.partition(b"\r\n")[0].partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    if path != b"/metrics":
        reply = _reply("404 Not Found", "text/plain", "metrics are at /metrics\n")
    elif method not in (b"GET", b"HEAD"):
        reply = _reply("405 Method Not Allowed", "text/plain", "GET is expected\n")
    else:
        reply = _reply("200 OK", CONTENT_TYPE, text())
    client.settimeout(max(end - time.monotonic(), 0.001))
    client.sendall(reply.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if method == b"HEAD" else reply)


def _reply(status: str, content_type: str, body: str) -> bytes:
    data = body.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    return head.encode("ascii") + data
