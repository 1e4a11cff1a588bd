import io
import math

from rich.console import Console

from trainer.display import TrainingDisplay, counting
from trainer.loop import Epoch


def shown(told, **options):
    console = Console(file=io.StringIO(), width=120, **options)
    with TrainingDisplay(console, epochs=3, windows=100) as display:
        told(display)
    return console.file.getvalue()


def test_each_epoch_gets_one_line_where_there_is_no_terminal():
    def told(display):
        display.epoch(Epoch(0, math.nan, 0.5, 0.001, 0.0, 0.0), 0)
        display.batch(1, 50, 0.4)
        display.batch(1, 100, 0.3)
        display.epoch(Epoch(1, 0.3, 0.45, 0.001, 812.4, 1.0), 1)
        display.epoch(Epoch(2, 0.2, 0.47, 0.001, 812.4, 1.0), 1)

    assert shown(told).splitlines() == [
        "untrained  validation 0.5000  (as without a model)",
        "epoch 1/3  loss 0.3000  validation 0.4500  best  812 windows/s",
        "epoch 2/3  loss 0.2000  validation 0.4700  best is 1  812 windows/s",
    ]


def test_the_bar_shows_epoch_rate_loss_and_progress():
    def told(display):
        display.batch(2, 50, 0.4321)
        display.batch(2, 75, 0.4311)
        display.bar.refresh()

    last = shown(told, force_terminal=True, color_system=None)
    for part in ("epoch 2/3", "75/100", "loss 0.4311", "windows/s", "left"):
        assert part in last


def test_the_rate_is_counted_from_the_first_batchs_end(monkeypatch):
    clock = iter([100.0, 102.0])  # compiling took until 100; 50 more windows in 2 s
    monkeypatch.setattr("trainer.display.time.perf_counter", lambda: next(clock))
    console = Console(file=io.StringIO())
    display = TrainingDisplay(console, epochs=3, windows=100)
    display.batch(1, 50, 0.4)
    display.batch(1, 100, 0.4)
    assert display.bar.tasks[0].fields["rate"] == 25.0


def test_counting_adds_up():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with counting(console, "climatology", 10) as advance:
        advance(4)
        advance(6)
    assert "10/10" in console.file.getvalue()
