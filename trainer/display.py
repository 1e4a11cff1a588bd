"""What a person sees while a model is trained: one bar for the epoch under way, one line for each that is done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from trainer.loop import Epoch  # loads Keras, which reading houses need not wait for


class TrainingDisplay:
    """The training loop's display on a terminal; elsewhere only the lines are written."""

    def __init__(self, console: Console, *, epochs: int, windows: int) -> None:
        self.console, self.epochs, self.windows = console, epochs, windows
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.0f} windows/s  loss {task.fields[loss]:.4f}  left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("training", total=windows, epoch=0, epochs=epochs, rate=0.0, loss=math.nan, visible=False)
        self.started = (0, 0.0, 0)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def batch(self, epoch: int, done: int, loss: float) -> None:
        """`done` windows of this epoch are through."""
        number, at, before = self.started
        now = time.perf_counter()
        if number != epoch:  # the first batch of an epoch may hold compilation: the rate is counted from its end
            self.bar.reset(self.task, total=self.windows, visible=True)
            self.started, rate = (epoch, now, done), 0.0
        else:
            rate = (done - before) / max(now - at, 1e-9)
        self.bar.update(self.task, completed=done, epoch=epoch, loss=loss, rate=rate)

    def epoch(self, row: Epoch, best: int) -> None:
        """An epoch is complete."""
        if row.epoch == 0:
            self.console.print(f"untrained  validation {row.validation_loss:.4f}  (as without a model)", soft_wrap=True)
            return
        mark = "  [bold]best[/]" if best == row.epoch else f"  best is {best}"
        losses, rate = f"loss {row.loss:.4f}  validation {row.validation_loss:.4f}", f"{row.samples_per_s:.0f} windows/s"
        self.console.print(f"epoch {row.epoch}/{self.epochs}  {losses}{mark}  {rate}", soft_wrap=True)


@contextmanager
def counting(console: Console, text: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar for `total` things; call what this yields with the number just done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(text, total=total)
        yield lambda done: progress.advance(task, done)
