"""kill -9 at random moments while 28 sensors report: what the agent had closed is there, once, and it goes on at once."""

from __future__ import annotations

import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress

from benchmarks.mosquitto import Mosquitto
from benchmarks.soak.clocked import MadeUpClock
from benchmarks.soak.home import HOUSE, POWER_W, START, Ear, Sensors, await_online, house, remember
from benchmarks.soak.passing import GRACE_S, RATE, Passing
from benchmarks.soak.process import READY_S, AgentProcess
from benchmarks.soak.row import Row
from edge_agent.contract.schema import HouseSpec
from edge_agent.contract.series import Series
from edge_agent.history import History
from edge_agent.reading import Reading
from edge_agent.steps import StepBuilder

TITLE = "kill -9 at random moments while 28 sensors report"
KILLS = 500
LONGEST_LIFE_S = 5.0
DEAD_S = 0.6
"""Longest time between a kill and the next start."""
EARLY_S, AIM_S = 0.05, (0.0, 0.4)
"""Every other kill is aimed: it falls into this time, which begins so much before a step can be closed."""
REST_S = 2.0
"""At the end, with nothing more to come."""
WANTED_RAW_S = 1.0
WANTED_FORECAST_S = 5.0


@dataclass
class _Life:
    """One run of the agent, on the monotonic clock."""

    start: float
    end: float = float("inf")


@dataclass
class _Diary:
    """What happened, on the monotonic clock."""

    lives: list[_Life]
    due: dict[int, float]
    """When the step that ends at an origin (unix s) could be closed."""


def prove(*, quick: bool, progress: Progress) -> list[Row]:
    """500 kills."""
    kills = 5 if quick else KILLS
    with tempfile.TemporaryDirectory(prefix="hearthcast-soak-") as work:
        return run(Path(work), kills=kills, history_days=9 if quick else 60, progress=progress)


def run(folder: Path, *, kills: int, history_days: int, progress: Progress, seed: int = 9) -> list[Row]:
    """Kill the agent `kills` times over a history of `history_days`."""
    spec, dice = house(), random.Random(seed)
    remember(folder / "history.db", days=history_days)
    broker = Mosquitto(folder, extra=["max_queued_messages 0"]).start()
    clock = MadeUpClock.create(folder / "clock.json", start=START + GRACE_S, rate=RATE)
    agent = AgentProcess(folder, HOUSE, broker.port, clock=clock)
    try:
        with Sensors(spec, broker.port, now=clock.true, start=START) as sensors, Ear(spec.site, broker.port) as ear:
            life = _Living(agent, Passing(clock, sensors), ear, broker.port)
            life.begin()
            for number in progress.track(range(kills), description="kill -9"):
                life.kill(dice, is_aimed=number % 2 == 1)
            life.end()
    finally:
        agent.kill()
        broker.stop()
    return _rows(folder / "history.db", life.diary, sensors, ear)


class _Living:
    """The agent lives and dies while time passes."""

    def __init__(self, agent: AgentProcess, passing: Passing, ear: Ear, port: int) -> None:
        self.agent, self.passing, self.ear, self.port = agent, passing, ear, port
        self.diary = _Diary([], passing.due)

    def begin(self) -> None:
        """First start; the session at the broker exists from here on."""
        self._start(wait=True)
        await_online(self.passing.sensors.spec.site, self.port)
        self.passing.seconds(2.0)

    def kill(self, dice: random.Random, *, is_aimed: bool) -> None:
        """Let it live for a while, kill it, and start it again."""
        if is_aimed:
            self._await_ready()
            self.passing.until_close(early_s=EARLY_S)
            self.passing.seconds(dice.uniform(*AIM_S))
        else:
            self.passing.seconds(dice.uniform(0.0, LONGEST_LIFE_S))
        self.agent.kill()
        self.diary.lives[-1].end = time.monotonic()
        self.passing.seconds(dice.uniform(0.0, DEAD_S))
        self._start(wait=False)

    def _await_ready(self) -> None:
        """Until it is at work: on a busy machine that takes longer than a random life lasts."""
        topic, since, end = f"forecast/{self.passing.sensors.spec.targets[0].name}", self.diary.lives[-1].start, time.monotonic() + READY_S
        while not self.ear.on(topic, since=since) and time.monotonic() < end:
            self.passing.seconds(0.05)

    def end(self) -> None:
        """Let it take what the broker has kept, close two more steps, and stop in good order."""
        self._await_ready()
        self.passing.steps(2)
        self.passing.seconds(5.0)
        self.passing.sensors.settle()
        time.sleep(REST_S)
        self.agent.stop()
        self.diary.lives[-1].end = time.monotonic()

    def _start(self, *, wait: bool) -> None:
        self.diary.lives.append(_Life(time.monotonic()))
        self.agent.start(wait=wait)


def _rows(path: Path, diary: _Diary, sensors: Sensors, ear: Ear) -> list[Row]:
    spec, kills = sensors.spec, len(diary.lives) - 1
    with History(path) as history:
        last = history.last_closed()
        assert last is not None
        stored = history.readings_since(START)
        steps = history.series(spec.features, START + spec.step_s, last + spec.step_s, spec.step_s)
        (beyond,) = history.rows("SELECT count(*) FROM steps WHERE time > ? OR time % ? != 0", last, spec.step_s)[0]
    missing = int(np.isnan(steps.values).sum())
    # what a counter showed at the end of the last step is guessed until the next one closes
    energy = steps.values[:-1, [s.feature.kind == "energy" for s in spec.sensors]]
    wrong = np.abs(energy - POWER_W * spec.step_s / 3600) > 1e-3
    others = _differing(steps, stored, spec)
    lost = _lost(diary, sensors, stored)
    waits = _waits(diary, [(heard.at, heard.json()["origin"]) for heard in ear.on(f"forecast/{spec.targets[0].name}")])
    n = steps.values.size
    return [
        Row("kills", str(kills), f"{kills}, {len(steps.values)} steps of {len(spec.sensors)} sensors closed meanwhile", kills >= 1),
        Row("closed steps lost", "0", f"{missing} of {n}", missing == 0),
        Row("energy counted twice or not at all", "0 steps", f"{int(wrong.sum())} of {energy.size}", not bool(wrong.any())),
        Row("steps that are not what their readings say", "0", f"{others} of {n}; {beyond} where none should be", others == beyond == 0),
        Row(
            "raw readings lost, longest before a kill",
            f"<= {WANTED_RAW_S:g} s",
            f"{max(lost, default=0):.2f} s; {len(lost)} of {sum(len(s.readings) for s in sensors.sent)}",
            max(lost, default=0.0) <= WANTED_RAW_S,
        ),
        Row(
            "next forecast after its step's end, or the agent's start",
            f"<= {WANTED_FORECAST_S:g} s",
            f"{max(waits):.1f} s at most, median {np.median(waits):.1f} s",
            float(max(waits)) <= WANTED_FORECAST_S,
        ),
    ]


def _differing(steps: Series, stored: list[Reading], spec: HouseSpec) -> int:
    """How many of the closed steps are not those that a builder that nobody killed makes of the same readings."""
    builder, expected = StepBuilder(spec, grace_s=GRACE_S), dict[tuple[int, str], float]()
    builder.close_until(START + GRACE_S)
    for reading in [*sorted(stored, key=lambda r: r.time), None]:
        for step in builder.close_until(steps.end + builder.grace_s if reading is None else reading.time):
            expected |= {(step.time, name): value for name, value in step.values.items()}
            expected |= {(revision.time, revision.sensor): revision.value for revision in step.revisions}
        if reading is not None:
            builder.add(reading)
    wanted = np.array([[expected.get((int(time), f.name), np.nan) for f in spec.features] for time in steps.times])
    return int((~np.isclose(wanted, steps.values, rtol=1e-9, atol=1e-9, equal_nan=True)).sum())


def _lost(diary: _Diary, sensors: Sensors, stored: list[Reading]) -> list[float]:
    """For each reading that was sent and is not on the disk, how long before the next kill it came; the broker keeps what comes to a dead agent."""
    ends = np.array([life.end for life in diary.lives])
    kept = {(reading.sensor, reading.value) for reading in stored}  # no value is sent twice
    lost = [sent.at for sent in sensors.sent for reading in sent.readings if (reading.sensor, reading.value) not in kept]
    return [float(ends[np.searchsorted(ends, at)] - at) for at in lost]


def _waits(diary: _Diary, forecasts: list[tuple[float, str]]) -> list[float]:
    """For each step, the longest time that one living agent took to forecast from its end; kills end a wait."""
    times = np.array([at for at, _ in forecasts])
    origins = np.array([np.datetime64(origin.removesuffix("Z"), "s").astype(int) for _, origin in forecasts])
    waits = []
    for origin, due in diary.due.items():
        fit = times[(origins >= origin) & (times >= due - 1)]
        came = fit[0] if len(fit) else float("inf")
        alive = [min(life.end, came) - max(life.start, due) for life in diary.lives if life.end > due and life.start < came]
        waits.append(float(max(alive, default=0.0)))
    return waits
