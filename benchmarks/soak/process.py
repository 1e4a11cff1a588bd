"""The agent as a process of its own: started, ready, killed, stopped."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.section import ONE_THREAD
from benchmarks.soak.clocked import VARIABLE, MadeUpClock

ROOT = Path(__file__).resolve().parents[2]
READY_S = 60.0
"""An agent that is not ready by then never will be."""


class AgentProcess:
    """`hearthcast-agent run`, again and again over the same state folder; its log is `agent.log` in `folder`."""

    def __init__(self, folder: Path, house: Path, port: int, *, clock: MadeUpClock | None = None, flags: Sequence[str] = ()) -> None:
        """Know what to run; nothing is started.

        Args:
            folder: for the log.
            house: house.toml.
            port: of the broker on loopback.
            clock: by which clock it goes; None: the machine's.
            flags: further ones; `--state-dir` is `folder` where they do not give another.
        """
        program = [str(Path(sys.executable).with_name("hearthcast-agent"))] if clock is None else [sys.executable, "-m", "benchmarks.soak.clocked"]
        state = [] if "--state-dir" in flags else ["--state-dir", str(folder)]
        self.command = [*program, "run", "--house", str(house), "--broker", f"127.0.0.1:{port}", *state, *flags]
        self.folder, self.clock, self.log = folder, clock, folder / "agent.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        """On the monotonic clock."""

    def start(self, *, wait: bool = True) -> float:
        """Start it; returns the seconds until it said that it is ready, unless it shall not `wait`.

        Raises:
            RuntimeError: it ended, or was not ready in time.
        """
        # a socket's path may have 107 bytes, which a folder of tests can exceed
        with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            address = Path(short) / "notify"
            notify.bind(str(address))
            notify.settimeout(0.2)
            environment = os.environ | ONE_THREAD | {"XDG_CONFIG_HOME": str(self.folder / "config"), "PYTHONPATH": str(ROOT)}
            if self.clock is not None:
                environment[VARIABLE] = str(self.clock.path)
            if wait:
                environment["NOTIFY_SOCKET"] = str(address)
            self.started_at = time.monotonic()
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(self.command, cwd=ROOT, env=environment, stdout=log, stderr=log)
            return self._wait_until_ready(notify) if wait else 0.0  # nobody reads the socket later: what is sent there then is dropped

    def _wait_until_ready(self, notify: socket.socket) -> float:
        while time.monotonic() - self.started_at < READY_S and self.is_alive:
            try:
                if b"READY=1" in notify.recv(4096):
                    return time.monotonic() - self.started_at
            except TimeoutError:
                continue
        raise RuntimeError(f"the agent is not ready: see its log\n{self.log_text()[-3000:]}")

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """`kill -9`."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        """SIGTERM; returns its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)

    def log_text(self) -> str:
        """What it wrote to standard error, in all its lives."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
