"""What the system and the agent itself tell of a running agent."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self

CONFIGURATION = '[metrics]\nsocket = "metrics.sock"\n'
"""An agent.toml by which `Figures.metrics` can ask."""


@dataclass(frozen=True)
class Thread:
    """One thread's life so far."""

    name: str
    cpu_s: float
    wakeups: int
    """How often it has waited for something and gone on."""


@dataclass(frozen=True)
class Figures:
    """Of a process."""

    pid: int

    @property
    def resident_mb(self) -> float:
        """Resident memory in MB (10^6 bytes)."""
        return self._status_kb("VmRSS") * 1024 / 1e6

    @property
    def peak_mb(self) -> float:
        """The most resident memory so far in MB."""
        return self._status_kb("VmHWM") * 1024 / 1e6

    @property
    def cpu_s(self) -> float:
        """Time on a processor, of all threads."""
        return _cpu_s(Path(f"/proc/{self.pid}"))

    def threads(self) -> dict[int, Thread]:
        """All threads by id."""
        found = {}
        for folder in Path(f"/proc/{self.pid}/task").iterdir():
            lines = (folder / "status").read_text(encoding="utf-8").splitlines()
            fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
            found[int(folder.name)] = Thread(fields["Name"], _cpu_s(folder), int(fields["voluntary_ctxt_switches"]))
        return found

    def pin(self, core: int) -> Self:
        """Let it run on one core alone, where the machine has several."""
        for thread in self.threads():
            os.sched_setaffinity(thread, {core})
        return self

    def _status_kb(self, key: str) -> int:
        text = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{key}:"))


def _cpu_s(folder: Path) -> float:
    """User and system time of a process or thread, from its `stat`; see proc(5)."""
    fields = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def metrics(folder: Path) -> dict[str, float]:
    """What the agent whose `CONFIGURATION` lies in `folder` tells, by name and labels."""
    text = ""
    while not text:  # an agent at work may take more than the second that a client has
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(folder / "metrics.sock"))
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            text = b"".join(iter(lambda: client.recv(65_536), b"")).decode().partition("\r\n\r\n")[2]
    samples = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in samples}
