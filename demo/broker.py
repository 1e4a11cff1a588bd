"""An MQTT 3.1.1 broker in a process of its own, for machines without one: amqtt on a free port of the loopback interface."""

from __future__ import annotations

import asyncio
import logging
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker

from edge_agent.contract.errors import ServiceError

HOST: Final = "127.0.0.1"
READY: Final = "listening on "
START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True)
class EmbeddedBroker:
    """A running broker process."""

    host: str
    port: int
    process: subprocess.Popen[str]

    def stop(self) -> int:
        """Ask the broker to stop, wait, and return its exit code: 0 after a clean stop."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()


def start_broker(log: Path) -> EmbeddedBroker:
    """Start a broker that accepts connections when this returns; its warnings go to `log`.

    Raises:
        ServiceError: it did not start.
    """
    with log.open("a", encoding="utf-8") as stderr:
        # a session of its own: Ctrl-C ends the demo, which stops the agent before the broker
        process = subprocess.Popen(
            [sys.executable, "-m", "demo.broker"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], START_TIMEOUT_S)
    line = process.stdout.readline() if readable else ""
    if not line.startswith(READY):
        process.kill()
        process.wait()
        process.stdout.close()
        raise ServiceError(f"the embedded broker did not start within {START_TIMEOUT_S:g} s: see {log}, or name your own with --broker HOST:PORT")
    host, _, port = line.removeprefix(READY).strip().rpartition(":")
    return EmbeddedBroker(host, int(port), process)


@contextmanager
def embedded_broker(log: Path) -> Iterator[EmbeddedBroker]:
    """A broker for the length of a `with` block; raises as `start_broker`."""
    broker = start_broker(log)
    try:
        yield broker
    finally:
        broker.stop()


async def serve() -> None:
    """Run the broker until SIGTERM or SIGINT; print where it listens."""
    plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    broker = Broker({"listeners": {"default": {"type": "external", "bind": HOST}}, "plugins": plugins})

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await broker.external_connected(StreamReaderAdapter(reader), StreamWriterAdapter(writer), "default")

    await broker.start()
    server = await asyncio.start_server(connected, HOST, 0)  # our own listener: amqtt's does not tell which free port it got
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print(f"{READY}{HOST}:{server.sockets[0].getsockname()[1]}", flush=True)
    await stop.wait()
    server.close()
    await broker.shutdown()


def main() -> int:
    """Run the broker as `python -m demo.broker`."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(serve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
