"""A real broker on a free port, with an endless queue: Mosquitto where there is one, else the demo's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.mosquitto import Mosquitto, executable
from demo.broker import embedded_broker


@contextmanager
def broker(folder: Path) -> Iterator[tuple[str, int]]:
    """Name and port of a running broker; its files lie in `folder`."""
    if executable() is None:
        with embedded_broker(folder / "broker.log") as embedded:
            yield "amqtt", embedded.port
        return
    mosquitto = Mosquitto(folder, extra=["max_queued_messages 0"]).start()
    try:
        yield "Mosquitto", mosquitto.port
    finally:
        mosquitto.stop()
