"""A real broker on a free port, with an endless queue: Mosquitto where there is one, else the demo's."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.broker import embedded_broker
from edge_agent.contract.errors import ServiceError


@contextmanager
def broker(folder: Path) -> Iterator[tuple[str, int]]:
    """Name and port of a running broker; its files lie in `folder`."""
    executable = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if executable is None:
        with embedded_broker(folder / "broker.log") as embedded:
            yield "amqtt", embedded.port
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous true", "max_queued_messages 0", "user root", "log_dest none"]
    (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
    process = subprocess.Popen([executable, "-c", str(folder / "mosquitto.conf")])
    try:
        _wait_for(port)
        yield "Mosquitto", port
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(port: int) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    raise ServiceError("Mosquitto did not start within 10 s")
