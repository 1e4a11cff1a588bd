"""Tries a new model in a process of its own, within limits, before anything relies on it.

A graph may be made to eat memory, to take for ever or to crash the library that runs it: here it takes nothing along. The bundle comes over a pipe,
so that the process needs no files; started by root, it goes on as nobody.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from edge_agent.contract import archive
from edge_agent.contract.bundle import SIGNATURE, Bundle, open_bundle
from edge_agent.contract.errors import BundleError, HearthcastError
from edge_agent.contract.schema import HouseSpec, parse_house

TIMEOUT_S: Final = 120.0
"""On a slow gateway, loading the libraries takes 5 s of it."""
ADDRESS_SPACE: Final = 512 * 2**20
"""The base model's trial takes 143 MB, 63 of them real."""
MOST_GROWTH_MB: Final = 64.0
"""The service's unit allows 192 MB: 48 for the agent, and this for each of two models."""
MOST_SECONDS: Final = 5.0
"""For one forecast; the watchdog waits 30 s."""
NOBODY: Final = 65_534


@dataclass(frozen=True)
class Trial:
    """What one forecast of the model takes on this machine."""

    seconds: float
    growth_mb: float
    """Memory that the model added to the process."""


def try_out(bundle: Bundle, files: Mapping[str, bytes], *, house_text: str, target: str) -> Trial:
    """Run a bundle's golden sample, then forecasts for this house.

    Args:
        bundle: for its name in messages.
        files: the bundle's, by name.
        house_text: house.toml.
        target: the house's target that the model is to forecast.

    Raises:
        BundleError: another result than when it was exported, more time or memory than a gateway has, or a model that does not fit the house.
    """
    head = json.dumps({"path": str(bundle.path), "house": house_text, "target": target}).encode()
    request = head + b"\n" + archive.pack({name: content for name, content in files.items() if name != SIGNATURE})
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "edge_agent.trial"], input=request, capture_output=True, timeout=TIMEOUT_S, check=False, env=environment
        )
    except subprocess.TimeoutExpired as err:
        raise BundleError(f"{bundle.path}: the model did not answer within {TIMEOUT_S:g} s: refused; export it again") from err
    except OSError as err:
        raise BundleError(f"{bundle.path}: the model cannot be tried out ({err.strerror}): nothing was installed; free some memory") from err
    return _verdict(bundle.path, done)


def _verdict(path: Path, done: subprocess.CompletedProcess[bytes]) -> Trial:
    try:
        answer = json.loads(done.stdout)
    except ValueError as err:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise BundleError(f"{path}: the model took the process down that tried it out ({how}) {said}: refused; export it again") from err
    if "error" in answer:
        raise BundleError(answer["error"])
    trial = Trial(**answer)
    if trial.growth_mb > MOST_GROWTH_MB or trial.seconds > MOST_SECONDS:
        takes = f"{trial.growth_mb:.0f} MB and {trial.seconds:.2g} s a forecast"
        raise BundleError(f"{path}: the model takes {takes}, a gateway has {MOST_GROWTH_MB:g} MB and {MOST_SECONDS:g} s: train a smaller one")
    return trial


def main() -> None:
    """The process: a request on standard input, an answer on standard output."""
    limits = {"RLIMIT_AS": ADDRESS_SPACE, "RLIMIT_CPU": int(TIMEOUT_S), "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0}
    for name, limit in limits.items():
        resource.setrlimit(getattr(resource, name), (limit, limit))
    os.nice(10)
    head = json.loads(sys.stdin.buffer.readline())
    try:
        answer = _answer(head, sys.stdin.buffer)
    except BundleError as err:
        answer = {"error": str(err)}
    except HearthcastError as err:
        answer = {"error": f"{head['path']}: {err}"}
    except MemoryError:
        answer = {"error": f"{head['path']}: the model needs more than {ADDRESS_SPACE >> 20} MiB of address space: train a smaller one"}
    sys.stdout.write(json.dumps(answer))


def _answer(head: dict[str, str], request: IO[bytes]) -> dict[str, Any]:
    import edge_agent.forecaster  # noqa: F401  now, because nobody may be unable to read its files

    house = parse_house(head["house"], source="house.toml")
    bundle = open_bundle(Path(head["path"]), archive.read(request), allow_unsigned=True)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    return _measured(bundle, house, head["target"])


def _measured(bundle: Bundle, house: HouseSpec, target: str) -> dict[str, Any]:
    from edge_agent.forecaster import Forecaster, Model

    before = _peak_mb()
    model = Model(bundle)
    model.check_golden()
    forecaster = Forecaster(house, model, target=target)
    slowest = max(_forecast_seconds(forecaster, kind) for kind in HISTORIES)
    return {"seconds": slowest, "growth_mb": _peak_mb() - before}


HISTORIES: Final = ("usual", "unknown", "zero", "huge")
"""What a model must answer, or refuse in good order: not only its own golden sample."""


def _forecast_seconds(forecaster: Any, kind: str) -> float:
    """Seconds that a forecast from a made-up history takes.

    Raises:
        BundleError: the model breaks.
    """
    import numpy as np

    from edge_agent.contract.series import Series

    step_s = forecaster.house.step_s
    n_steps = forecaster.history_s // step_s
    usual = np.repeat(20.0 + 10.0 * np.sin(np.arange(n_steps) / 7.0)[:, None], len(forecaster.features), axis=1)
    values = {"usual": usual, "unknown": np.where(np.arange(n_steps)[:, None] == 0, usual, np.nan), "zero": 0 * usual, "huge": 1e9 * usual}[kind]
    series = Series(step_s * 3_000_000, step_s, forecaster.features, values)
    begun = time.perf_counter()
    builder = forecaster.builder(series, first_origin=series.end)
    quantiles, mean = forecaster.batch(builder, np.array([series.end], np.int64))
    if kind == "usual" and not (np.isfinite(quantiles).all() and np.isfinite(mean).all()):
        raise BundleError("the model's forecast from a usual history is not finite: export it again")
    return time.perf_counter() - begun


def _peak_mb() -> float:
    """Most memory this program has had; not getrusage's, which begins with that of whoever started it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main()
