"""A line between an agent and its broker that can go dead without a word: nothing is closed, nothing comes through."""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import Self

PACE_S = 0.02


@dataclass(eq=False)
class _Pair:
    """One connection, and the one to the broker that belongs to it."""

    client: socket.socket
    broker: socket.socket
    is_dead: bool = False

    def close(self) -> None:
        """Reset both, as the kernel of a program that died would."""
        for end in (self.client, self.broker):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()


class Proxy:
    """Hands everything on between loopback's port `port` and the broker's."""

    def __init__(self, broker_port: int) -> None:
        self.broker_port = broker_port
        self.is_silent = False
        """Nothing goes on, either way. What is under way then goes on afterwards."""
        self.is_hole = False
        """As that, but what was connected before or meanwhile stays dead for ever."""
        self.connections = 0
        """How many were made."""
        self._pairs: list[_Pair] = []
        self._is_open = True
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [self._spawn(self._accept)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_open = False
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()
        for pair in self._pairs:
            pair.close()

    def orphan(self) -> None:
        """What is connected now stays dead for ever; new connections work."""
        for pair in self._pairs:
            pair.is_dead = True

    def _spawn(self, work: object, *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        thread.start()
        return thread

    def _accept(self) -> None:
        while self._is_open:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(self._spawn(self._serve, client))

    def _serve(self, client: socket.socket) -> None:
        while self.is_silent and self._is_open and not self.is_hole:
            time.sleep(PACE_S)
        try:
            broker = socket.create_connection(("127.0.0.1", self.broker_port), 5)
        except OSError:
            client.close()
            return
        pair = _Pair(client, broker, is_dead=self.is_hole)
        self.connections += 1
        self._pairs.append(pair)
        self._pump(pair)

    def _pump(self, pair: _Pair) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(pair.client, selectors.EVENT_READ, pair.broker)
            ready.register(pair.broker, selectors.EVENT_READ, pair.client)
            while self._is_open and not pair.is_dead:
                if self.is_hole:
                    pair.is_dead = True
                elif self.is_silent:
                    time.sleep(PACE_S)
                elif not all(_pass_on(key.fileobj, key.data) for key, _ in ready.select(PACE_S)):
                    self._pairs.remove(pair)
                    pair.close()
                    return


def _pass_on(source: object, sink: socket.socket) -> bool:
    """Hand on what came; False at the end."""
    assert isinstance(source, socket.socket)
    try:
        data = source.recv(65_536)
        sink.sendall(data)
    except OSError:
        return False
    return bool(data)
