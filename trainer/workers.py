"""Score cards of many homes, on all cores: each worker process takes a few homes at a time, and only the cards come back."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract.bundle import Bundle
from edge_agent.contract.errors import DataError, HearthcastError
from edge_agent.contract.schema import HouseSpec
from edge_agent.contract.series import Series
from edge_agent.forecaster import Forecaster, Model
from trainer.archive import Archive
from trainer.rolling import Home, Weather, forecasts
from trainer.scorecard import Account, Card

Ints = npt.NDArray[np.int64]
OnProgress = Callable[[int, float], None]

ORIGINS_A_TASK: Final = 4096
"""Small homes go to a worker together: they share the graph's batches."""
TASKS_AHEAD: Final = 2
"""Tasks a worker that are read before their turn: tables are read while others are forecast, and memory stays bounded."""


@dataclass(frozen=True, eq=False)
class Job:
    """One home to test, as it travels to a worker."""

    house: HouseSpec
    target: str
    is_modelled: bool
    """Whether the model forecasts it; else the climatology does."""
    series: Series
    origins: Ints
    weather: Weather | None = None

    @property
    def name(self) -> str:
        """Site and target."""
        return f"{self.house.site}:{self.target}"

    def home(self, model: Model | None) -> Home:
        """The home, bound to the model."""
        return Home(Forecaster(self.house, model if self.is_modelled else None, target=self.target), self.series, self.origins, self.weather)


@dataclass(frozen=True)
class Skipped:
    """A home that cannot be scored."""

    name: str
    reason: str


def cards(jobs: Iterable[Job], bundle: Bundle | None, *, archive: Path | None, n_workers: int, on_progress: OnProgress) -> Iterator[Card | Skipped]:
    """One card for each job, in their order.

    Args:
        jobs: read one by one, as there is room for them.
        bundle: of the jobs that are modelled.
        archive: folder for every home's forecasts, `SITE-TARGET.npz`; None: not kept.
        n_workers: processes; 1: this one.
        on_progress: told what is just done, in origins and in homes (parts of one too).

    Raises:
        BundleError: the graph fails.
        ConfigError: the archive cannot be written.
        HearthcastError: a worker was killed.
    """
    if n_workers == 1:
        model = Model(bundle) if bundle is not None else None
        yield from _cards(jobs, model, archive, on_progress)
        return
    stop = get_context("spawn").Event()
    pool = ProcessPoolExecutor(n_workers, get_context("spawn"), initializer=_begin, initargs=(bundle, archive, stop))
    try:
        running: deque[Future[list[Card | Skipped]]] = deque()
        for task in _tasks(jobs):
            running.append(pool.submit(_work, task))
            running[-1].add_done_callback(partial(_tell, on_progress, sum(len(job.origins) for job in task), len(task)))
            if len(running) > TASKS_AHEAD * n_workers:
                yield from running.popleft().result()
        while running:
            yield from running.popleft().result()
    except BrokenProcessPool:
        raise HearthcastError("a worker was ended from outside, perhaps because memory ran out: try fewer with --workers") from None
    finally:  # also after Ctrl-C: each worker ends after the block it is at
        stop.set()
        pool.shutdown(cancel_futures=True)


def _tell(on_progress: OnProgress, n_origins: int, n_homes: int, done: Future[list[Card | Skipped]]) -> None:
    if not done.cancelled() and done.exception() is None:
        on_progress(n_origins, n_homes)


def _tasks(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    task: list[Job] = []
    for job in jobs:
        task.append(job)
        if sum(len(one.origins) for one in task) >= ORIGINS_A_TASK:
            yield task
            task = []
    if task:
        yield task


def _cards(jobs: Iterable[Job], model: Model | None, archive: Path | None, on_progress: OnProgress) -> Iterator[Card | Skipped]:
    account, kept = None, None
    for part in forecasts(job.home(model) for job in jobs):
        if account is None:
            account, kept = Account(part.home), Archive(part.home) if archive is not None else None
        account.add(part)
        if kept is not None:
            kept.add(part)
        on_progress(len(part.grades), len(part.grades) / len(part.home.origins))
        if part.is_last:
            card, account = _card(account), None
            if kept is not None and archive is not None and isinstance(card, Card):
                kept.write(archive)
            yield card


def _card(account: Account) -> Card | Skipped:
    try:
        return account.card()
    except DataError as err:
        return Skipped(account.home.name, str(err))


class _Worker:
    """What a worker process holds."""

    model: Model | None
    archive: Path | None
    stop: Event


def _begin(bundle: Bundle | None, archive: Path | None, stop: Event) -> None:
    """Start of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal's processes; the first one tells the others
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _Worker.model, _Worker.archive, _Worker.stop = Model(bundle) if bundle is not None else None, archive, stop


def _leave_with_parent() -> None:
    """A parent that was killed cannot tell anybody."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(jobs: list[Job]) -> list[Card | Skipped]:
    def check(*_: float) -> None:
        if _Worker.stop.is_set():
            raise DataError("interrupted")

    return list(_cards(jobs, _Worker.model, _Worker.archive, check))
