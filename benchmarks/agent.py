"""The agent as a process: from its start to READY, and its peak memory, with 28 sensors, 57 days of history, a broker and a bundle."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import numpy as np

from benchmarks import material
from benchmarks.broker import broker
from benchmarks.installing import EDGE, edge_environment
from benchmarks.section import Claim, Section, run_group
from benchmarks.timing import peak_mb, vm_hwm_mb
from demo.replay import Connection, messages
from edge_agent.contract.localtime import DAY_S
from edge_agent.contract.series import Series
from edge_agent.history import History

WANTED_READY_S = 0.6
WANTED_MB = 80.0
HISTORY_DAYS = 60
READY_TIMEOUT_S = 30.0
BARE, IMPORTS, TENSORFLOW = "floor: a bare Python", "floor: its libraries imported", "importing TensorFlow, for comparison"


def measure(quick: bool) -> list[Section]:
    """Start the agent again and again, and let it forecast two days of messages."""
    edge_environment()
    rounds = 2 if quick else 15
    whole = material.series()
    split = whole.end - 2 * DAY_S
    with tempfile.TemporaryDirectory(prefix="hearthcast-bench-") as work, broker(Path(work)) as (name, port):
        states = {preset: _state(Path(work) / preset, whole.between(split - HISTORY_DAYS * DAY_S, split)) for preset in material.PRESETS}
        empty = Path(work) / "empty"
        times: dict[str, list[float]] = {}
        memory: dict[str, list[float]] = {}
        for _ in range(rounds):
            for what, code in ((BARE, "pass"), (IMPORTS, "import numpy, onnxruntime, paho.mqtt.client, sqlite3")):
                _add(times, memory, what, *_python(EDGE, code))
            for preset, state in states.items():
                _add(times, memory, f"agent, `{preset}` bundle", *_start(preset, port, state))
            _add(times, memory, "agent, `seed` bundle, no history yet", *_start("seed", port, empty))
        _add(times, memory, TENSORFLOW, *_python(Path(sys.prefix), "import tensorflow"))
        busy = {preset: _forecasting_mb(preset, port, state, whole.between(split, split + DAY_S)) for preset, state in states.items()}
    return [_start_section(times, name), _memory_section(memory, busy)]


def _start_section(times: dict[str, list[float]], broker_name: str) -> Section:
    agent = f"agent, `{material.PRESETS[0]}` bundle"
    ready = statistics.median(times[agent])
    rows = [[what, f"{statistics.median(t):.2f}", f"{max(t):.2f}", f"{statistics.median(t) / ready:.2f}"] for what, t in times.items()]
    text = (
        f"From the start of the process to READY=1 on NOTIFY_SOCKET (bundle and signature verified, golden sample run, broker connected), in an "
        f"environment with the extra `edge` alone; broker: {broker_name}; started in turns."
    )
    claims = [Claim("agent ready", f"<= {WANTED_READY_S} s", f"{ready:.2f} s", ready <= WANTED_READY_S)]
    return Section("Agent start-up", text, ["", "median s", "longest s", "ratio"], rows, claims)


def _memory_section(memory: dict[str, list[float]], busy: dict[str, float]) -> Section:
    peaks = {what: max(m) for what, m in memory.items()}
    peaks |= {f"agent, `{preset}` bundle, after a day of messages and 144 forecasts": mb for preset, mb in busy.items()}
    rows = [[what, f"{mb:.1f}", f"{mb * 1e6 / 2**20:.1f}"] for what, mb in peaks.items()]
    claims = [
        Claim(f"agent with `{preset}` bundle, peak memory", f"< {WANTED_MB:.0f} MB", f"{mb:.1f} MB ({mb * 1e6 / 2**20:.1f} MiB)", mb < WANTED_MB)
        for preset, mb in busy.items()
    ]
    text = f"Peak resident memory (VmHWM): 28 sensors, {HISTORY_DAYS} days of history loaded, a forecast at every step."
    return Section("Agent memory", text, ["", "MB", "MiB"], rows, claims)


def _add(times: dict[str, list[float]], memory: dict[str, list[float]], what: str, seconds: float, peak_mb: float) -> None:
    times.setdefault(what, []).append(seconds)
    memory.setdefault(what, []).append(peak_mb)


def _state(folder: Path, series: Series) -> Path:
    """A state folder that holds `series` as history."""
    with History(folder / "history.db") as history:
        history.bind(material.house())
        history.import_series(series)
    return folder


def _python(environment: Path, code: str) -> tuple[float, float]:
    """Seconds and peak MB of a Python process."""
    report = f"{code}\nprint(open('/proc/self/status').read())"
    start = time.perf_counter()
    done = subprocess.run(
        [str(environment / "bin" / "python"), "-c", report], env=_environment(), cwd="/", capture_output=True, text=True, check=True
    )
    return time.perf_counter() - start, peak_mb(done.stdout)


def _start(preset: str, port: int, state: Path) -> tuple[float, float]:
    """Seconds to READY and peak MB by then."""
    with _agent(preset, port, state) as (process, seconds):
        return seconds, vm_hwm_mb(process.pid)


def _forecasting_mb(preset: str, port: int, state: Path, day: Series) -> float:
    """Peak MB after `day` of messages with a forecast at every step."""
    house, heard = material.house(), []
    with _agent(preset, port, state) as (process, _), Connection("127.0.0.1", port) as connection:
        connection.listen(f"hearthcast/{house.site}/forecast/{house.targets[0].name}", heard.append, retained=False)
        for unix_s, group in groupby(messages(day, house), key=lambda message: message.time):
            for message in group:
                connection.publish(message.topic, message.payload)
            if unix_s > day.start + house.step_s:  # as in life: a step's messages, a forecast, the next step's
                origin = np.datetime_as_string(np.datetime64((unix_s - 1) // house.step_s * house.step_s, "s"))
                connection.wait(lambda: bool(heard) and origin in heard[-1], what=f"forecast from {origin}")  # noqa: B023  used at once
        return vm_hwm_mb(process.pid)


@contextmanager
def _agent(preset: str, port: int, state: Path) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """A ready agent and the seconds it took."""
    with tempfile.TemporaryDirectory(prefix="hearthcast-bench-") as work, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(f"{work}/notify")
        notify.settimeout(READY_TIMEOUT_S)
        command = [str(EDGE / "bin" / "hearthcast-agent"), "run", "--house", str(material.HOUSE), "--bundle", str(material.bundle_folder(preset))]
        command += ["--replay-clock", "--broker", f"127.0.0.1:{port}", "--state-dir", str(state), "--log-level", "error"]
        start = time.perf_counter()
        process = subprocess.Popen(command, env=_environment() | {"NOTIFY_SOCKET": f"{work}/notify"})
        try:
            while b"READY=1" not in notify.recv(4096):
                pass
            seconds = time.perf_counter() - start
            notify.close()  # nobody would read on, and a full socket stops whoever writes to it
            yield process, seconds
        finally:
            process.terminate()
            process.wait(20)


def _environment() -> dict[str, str]:
    """Without this process's own settings, and with those that the systemd unit sets."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return kept | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "XDG_CONFIG_HOME": str(material.CONFIG), "TF_CPP_MIN_LOG_LEVEL": "3"}


if __name__ == "__main__":
    sys.exit(run_group(measure))
