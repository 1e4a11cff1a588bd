"""The backtest beside the bare ONNX Runtime: graph stage, whole run, whole command, and memory by number of homes."""

from __future__ import annotations

import csv
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import material
from benchmarks.section import Claim, Section, run_group
from benchmarks.timing import interleaved
from edge_agent.contract.bundle import Bundle, read_shipped_bundle
from edge_agent.contract.features import ModelInputs
from edge_agent.contract.localtime import DAY_S
from edge_agent.contract.schema import parse_house
from edge_agent.contract.series import Series
from edge_agent.forecaster import Model
from trainer.workers import Job, cards

WANTED_SHARE = 0.80
STEPS_S = (600, 1800, 3600)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
N_HOMES, N_DAYS, N_ORIGINS = 12, 150, 60 * 24
COMMAND_HOMES = (3, 90)
CORES = len(os.sched_getaffinity(0))


def measure(quick: bool) -> list[Section]:
    """The bare runtime by batch size, then backtests of made-up homes beside it, in turns."""
    bundle = read_shipped_bundle()
    if bundle is None:
        raise SystemExit("error: no bundle ships in this checkout")
    by_batch, best = batch_section(bundle, rounds=3 if quick else 15)
    homes = 3 if quick else N_HOMES
    runs = [run_at(bundle, step_s, best=best, n_homes=homes, rounds=1 if quick else 5) for step_s in STEPS_S]
    return [by_batch, runs_section(runs, best, homes), command_section(COMMAND_HOMES if not quick else (2, 4))]


def jobs(step_s: int, n_homes: int) -> list[Job]:
    """Homes with made-up habits, hourly origins over the last 60 days."""
    out = []
    for number in range(n_homes):
        house = parse_house(
            f'site = "home{number}"\ntime_zone = "Europe/Berlin"\nstep = {step_s}\n'
            'targets = [{ name = "energy", sensor = "mains" }]\nsensors = [{ name = "mains", role = "energy", column = "wh" }]\n',
            source="benchmark",
        )
        values = habits(number, step_s)
        start = material.START // DAY_S * DAY_S
        origins = start + N_DAYS * DAY_S - DAY_S - 3600 * np.arange(N_ORIGINS, dtype=np.int64)[::-1]
        out.append(Job(house, "energy", True, Series(start, step_s, house.features, values[:, None]), origins))
    return out


def habits(number: int, step_s: int) -> np.ndarray[Any, Any]:
    """Wh of each step for N_DAYS: two meals a day, and dice."""
    dice = np.random.default_rng(number)
    hour = np.arange(N_DAYS * DAY_S // step_s) * step_s / 3600 % 24
    level = 150 + 400 * np.exp(-((hour - 7.5) ** 2) / 2) + 900 * np.exp(-((hour - 18.5) ** 2) / 5)
    return level * dice.gamma(1.5, 1 / 1.5, hour.size) * step_s / 3600


def inputs_at(bundle: Bundle, step_s: int, count: int) -> ModelInputs:
    """What the graph reads at `count` origins of one home."""
    home = jobs(step_s, 1)[0].home(Model(bundle))
    return home.forecaster.builder(home.series).inputs(home.origins[:count])


def bare(model: Model, inputs: ModelInputs, batch: int) -> Callable[[], None]:
    """The runtime alone over all of `inputs`."""
    feeds = [{name: array[i : i + batch] for name, array in inputs.arrays.items()} for i in range(0, len(inputs.origins), batch)]

    def run() -> None:
        for feed in feeds:
            model.session.run(model.output_names, feed)

    return run


def batch_section(bundle: Bundle, *, rounds: int) -> tuple[Section, dict[int, int]]:
    """Microseconds a forecast by batch size, and the best batch size by number of threads."""
    inputs = inputs_at(bundle, 1800, 1024)
    threads = sorted({1, CORES})
    models = {n: Model(bundle, threads=n) for n in threads}
    times = interleaved({(n, b): bare(models[n], inputs, b) for n in threads for b in BATCHES}, rounds=rounds)  # type: ignore[misc]
    us = {key: 1e6 * statistics.median(seconds) / 1024 for key, seconds in times.items()}
    best = {n: min(BATCHES, key=lambda b, n=n: us[n, b]) for n in threads}  # type: ignore[misc]
    rows = [[f"{n} thread{'s' if n > 1 else ''}", *(f"{us[n, b]:.0f}" for b in BATCHES), str(best[n])] for n in threads]
    text = "`session.run` alone, 1,024 forecasts of the shipped model at steps of 30 minutes: µs a forecast by batch size, medians of turns."
    return Section("Bare ONNX Runtime by batch size", text, ["batch", *map(str, BATCHES), "best"], rows), best


@dataclass
class Runs:
    """Forecasts a second at one step."""

    step_s: int
    bare: float
    graph: float
    """While the graph of a whole run was running."""
    whole: float
    bare_all: float
    """All cores."""
    whole_all: float
    cpu_us: float
    """CPU time of an origin of the whole run in one process."""
    graph_us: float
    """Of these the graph's."""


def run_at(bundle: Bundle, step_s: int, *, best: dict[int, int], n_homes: int, rounds: int) -> Runs:
    """Bare runtime and backtests in turns."""
    todo = jobs(step_s, n_homes)
    count = sum(len(job.origins) for job in todo)
    inputs = inputs_at(bundle, step_s, N_ORIGINS)
    graph = GraphClock()

    def whole(n_workers: int) -> None:
        for _ in cards(iter(todo), bundle, archive=None, n_workers=n_workers, on_progress=lambda *_: None):
            pass

    def timed() -> None:
        with graph:
            whole(1)

    calls: dict[str, Callable[[], object]] = {
        "bare": bare(Model(bundle), inputs, best[1]),
        "bare_all": bare(Model(bundle, threads=CORES), inputs, best[CORES]),
        "whole": timed,
        "whole_all": lambda: whole(CORES),
    }
    seconds = {name: statistics.median(found) for name, found in interleaved(calls, rounds=rounds).items()}
    each = {"bare": N_ORIGINS, "bare_all": N_ORIGINS}
    rates = {name: each.get(name, count) / value for name, value in seconds.items()}
    calls_made = len(graph.wall)
    return Runs(
        step_s,
        rates["bare"],
        graph.forecasts / sum(graph.wall),
        rates["whole"],
        rates["bare_all"],
        rates["whole_all"],
        1e6 * sum(graph.process) / (count * len(graph.process)),
        1e6 * sum(graph.thread) / graph.forecasts if calls_made else float("nan"),
    )


class GraphClock:
    """Times every run of a graph while it is entered, and the process."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.thread: list[float] = []
        self.process: list[float] = []
        self.forecasts = 0

    def __enter__(self) -> None:
        self._run, self._began = Model.run, time.process_time()
        clock, run = self, self._run

        def timed(model: Model, inputs: ModelInputs) -> Any:
            wall, thread = time.perf_counter(), time.thread_time()
            out = run(model, inputs)
            clock.wall.append(time.perf_counter() - wall)
            clock.thread.append(time.thread_time() - thread)
            clock.forecasts += len(inputs.origins)
            return out

        Model.run = timed  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        Model.run = self._run  # type: ignore[method-assign]
        self.process.append(time.process_time() - self._began)


def runs_section(runs: list[Runs], best: dict[int, int], n_homes: int) -> Section:
    """The table of all steps, and the claims."""
    columns = ["", *(f"{run.step_s // 60} min" for run in runs)]

    def row(name: str, of: Callable[[Runs], str]) -> list[str]:
        return [name, *map(of, runs)]

    rows = [
        row(f"bare runtime, 1 thread, batch {best[1]}: forecasts/s", lambda r: f"{r.bare:,.0f}"),
        row("- graph stage of the run in one process", lambda r: f"{r.graph / r.bare:.2f}"),
        row("- whole run in one process", lambda r: f"{r.whole / r.bare:.2f}"),
        row(f"bare runtime, {CORES} threads, batch {best[CORES]}: forecasts/s", lambda r: f"{r.bare_all:,.0f}"),
        row(f"- whole run, {CORES} processes, their start included", lambda r: f"{r.whole_all / r.bare_all:.2f}"),
        row("CPU time of the whole run, µs an origin", lambda r: f"{r.cpu_us:.0f}"),
        row("- of these in the graph", lambda r: f"{r.graph_us:.0f}"),
        row("- graph's share: the ratio that one core alone can reach", lambda r: f"{r.graph_us / r.cpu_us:.2f}"),
    ]
    text = (
        f"`hearthcast-train backtest` over {n_homes} made-up homes, {N_ORIGINS} hourly origins each, shipped model: features, climatology, graph, "
        "calibration, five baselines and all scores; tables in memory. Shares of the bare runtime's rate, in turns. One process runs the graph in "
        f"one thread and all else in another, so it needs two cores; many homes run in a process a core, here {CORES}."
    )
    claims = []
    for name, share in (
        ("in one process, beside 1 thread", lambda r: r.whole / r.bare),
        ("on all cores, beside as many threads", lambda r: r.whole_all / r.bare_all),
    ):
        least = min(runs, key=share)
        shown = ", ".join(f"{share(run):.0%} at {run.step_s // 60} min" for run in runs)
        claims.append(
            Claim(f"whole backtest {name}, of `session.run` at its best batch", f">= {WANTED_SHARE:.0%}", shown, share(least) >= WANTED_SHARE)
        )
    return Section("Backtest beside the bare runtime", text, columns, rows, claims)


def command_section(sizes: tuple[int, ...]) -> Section:
    """The command as a user runs it, from start to exit, for few and many homes."""
    folder = material.BUILD / "backtest"
    folder.mkdir(parents=True, exist_ok=True)
    house, table = write_street(folder, max(sizes))
    rows = []
    for count in sizes:
        some = folder / f"{count}.toml"
        some.write_text(house(count), encoding="utf-8")
        command = [sys.executable, "-m", "trainer", "backtest", "--house", str(some), "--data", str(table), "--all-targets", "--every", "3h"]
        command += ["--json", str(folder / "scores.json"), "--html", str(folder / "report.html"), "--workers", "1"]
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"error: {' '.join(command)} failed")
        seconds, origins = time.monotonic() - began, count * N_ORIGINS // 3
        rows.append(
            [f"{count} homes", f"{origins:,}", f"{seconds:.1f}", f"{usage.ru_utime + usage.ru_stime:.1f}", f"{usage.ru_maxrss * 1024 / 1e6:.0f}"]
        )
    text = (
        f"`hearthcast-train backtest --all-targets --json --html` in one process, from start to exit: a table of {max(sizes)} meters at 30 minutes, "
        f"{N_DAYS} days, an origin every three hours. Of each home sums and three days are kept; the table is read whole."
    )
    return Section("The backtest command", text, ["", "origins", "s", "CPU s", "peak MB"], rows)


def write_street(folder: Path, count: int) -> tuple[Callable[[int], str], Path]:
    """A table of `count` meters, and what writes a house.toml for some of them."""
    step_s, table = 1800, folder / "street.csv"
    start = material.START // DAY_S * DAY_S
    columns = [habits(number, step_s) for number in range(count)]
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["time", *(f"m{number}" for number in range(count))])
        for row, values in enumerate(zip(*columns, strict=True)):
            writer.writerow([datetime.fromtimestamp(start + row * step_s, UTC).isoformat(), *(f"{value:.1f}" for value in values)])

    def house(some: int) -> str:
        parts = ['site = "street"', 'time_zone = "Etc/UTC"', "step = 1800", 'table_clock = "utc"']
        for number in range(some):
            parts += ["[[targets]]", f'name = "m{number}"', f'sensor = "m{number}"', "[[sensors]]", f'name = "m{number}"', 'role = "energy"']
            parts += [f'column = "m{number}"']
        return "\n".join(parts) + "\n"

    return house, table


if __name__ == "__main__":
    sys.exit(run_group(measure, one_thread=True))
