"""Child processes of the demo: programs that run to their end before the user's eyes, and the agent, which runs beside it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from edge_agent.contract.errors import ServiceError

STOP_TIMEOUT_S: Final = 15.0


def run_program(module: str, arguments: Sequence[object], *, log: Path, environment: Mapping[str, str]) -> None:
    """Run `python -m module …` to its end; what it writes goes to the terminal, bars and all, and to `log`.

    Raises:
        ServiceError: it failed; the message names the program and its log.
    """
    process, output = _start_visible(module, arguments, environment)
    try:
        with log.open("ab") as file:
            _copy(output, file)
        code = process.wait()
    finally:
        if process.poll() is None:  # Ctrl-C here: the program has a session of its own and did not see it
            process.terminate()
            process.wait()
        os.close(output)
    if code != 0:
        raise ServiceError(f"python -m {module} {arguments[0]} … ended with exit code {code}: its whole output is in {log}")


def _start_visible(module: str, arguments: Sequence[object], environment: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], int]:
    """The process, and a file descriptor to read what it writes from: a terminal's where we write to one, else a pipe's."""
    reader, writer = _terminal_like_ours() if sys.stdout.isatty() else os.pipe()
    command = [sys.executable, "-m", module, *map(str, arguments)]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, env={**os.environ, **environment}, start_new_session=True
        )
    finally:
        os.close(writer)
    return process, reader


def _terminal_like_ours() -> tuple[int, int]:
    """Both ends of a terminal as large as the one we write to."""
    reader, writer = pty.openpty()
    size = os.get_terminal_size(sys.stdout.fileno())
    termios.tcsetwinsize(writer, (size.lines, size.columns))
    return reader, writer


def _copy(output: int, log: BinaryIO) -> None:
    """Copy everything from the file descriptor `output` to standard output and `log`."""
    with suppress(OSError):  # a terminal whose last writer has gone reads as an input/output error
        while data := os.read(output, 4096):
            log.write(data)
            log.flush()
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


class Agent:
    """`hearthcast-agent run` as a process of its own."""

    def __init__(self, arguments: Sequence[object], *, log: Path, environment: Mapping[str, str]) -> None:
        """Start it; its output goes to `log`."""
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "edge_agent", "run", *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    def check(self) -> None:
        """See that it still runs.

        Raises:
            ServiceError: it has ended.
        """
        code = self.process.poll()
        if code is not None:
            last = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise ServiceError(f"the agent ended with exit code {code} ({''.join(last) or 'it wrote nothing'}): see {self.log}")

    def stop(self) -> None:
        """Ask it to stop, and wait; harmless when it has ended already.

        Raises:
            ServiceError: it did not stop, or not in good order.
        """
        if self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            code = self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise ServiceError(f"the agent did not stop within {STOP_TIMEOUT_S:g} s and was killed: see {self.log}") from None
        if code != 0:
            raise ServiceError(f"the agent stopped with exit code {code}: see {self.log}")
