"""Ready-made MQTT messages, written to a broker over a bare socket: the publisher must cost next to nothing, and may send what no library would."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterable
from typing import Final, Self

CONNECT: Final = 0x10
PUBLISH: Final = 0x30
PIECE: Final = 256 * 1024
"""Bytes written at once."""


class Flood:
    """A publisher (MQTT 3.1.1). The broker reads no faster than it likes, so that `send` takes as long as that."""

    def __init__(self, port: int, *, name: str = "flood") -> None:
        """Connect to the broker on this port of loopback."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=600)
        about = b"\x00\x04MQTT\x04\x02\x00\x00" + _text(name.encode())
        self._socket.sendall(bytes([CONNECT]) + _length(len(about)) + about)
        answer = self._socket.recv(4)
        if answer != b"\x20\x02\x00\x00":
            raise ConnectionError(f"the broker answered {answer!r}")
        self.acknowledged = 0
        """Of the messages at QoS 1."""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.sendall(b"\xe0\x00")
        self._reader.join(60)
        self._socket.close()

    def send(self, packets: Iterable[bytes]) -> None:
        """Write what `publish` made."""
        piece = bytearray()
        for packet in packets:
            piece += packet
            if len(piece) >= PIECE:
                self._socket.sendall(piece)
                piece.clear()
        self._socket.sendall(piece)

    def _read(self) -> None:
        """Take the acknowledgements, four bytes each, out of the broker's way, until it hangs up."""
        n_bytes = 0
        with contextlib.suppress(OSError):
            while part := self._socket.recv(65_536):
                n_bytes += len(part)
                self.acknowledged = n_bytes // 4


def publish(topic: str | bytes, payload: bytes, *, number: int = 0, retain: bool = False) -> bytes:
    """One PUBLISH packet; at QoS 1 with a `number` from 1 to 65535, at QoS 0 without one."""
    body = _text(topic.encode() if isinstance(topic, str) else topic) + (number.to_bytes(2, "big") if number else b"") + payload
    return bytes([PUBLISH | (2 if number else 0) | retain]) + _length(len(body)) + body


def _text(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _length(n: int) -> bytes:
    """MQTT's variable byte integer."""
    data = bytearray()
    while True:
        n, seven = divmod(n, 128)
        data.append(seven | (128 if n else 0))
        if not n:
            return bytes(data)
