"""What the backtest's benchmark counts."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.backtesting import N_ORIGINS, GraphClock, bare, inputs_at, jobs
from edge_agent.contract.bundle import read_bundle
from edge_agent.forecaster import Model
from trainer.workers import cards


@pytest.fixture(scope="module")
def bundle():
    return read_bundle(Path(__file__).parents[1] / "fixtures" / "tiny", allow_unsigned=True)


def test_the_bare_run_forecasts_every_origin_once(bundle):
    model, rows = Model(bundle), []

    class Session:
        def run(self, _, feed):
            rows.append(len(feed["context"]))

    model.session = Session()
    bare(model, inputs_at(bundle, 3600, 10), 4)()
    assert rows == [4, 4, 2]


def test_the_clock_counts_the_graphs_runs_and_is_gone_afterwards(bundle):
    run, clock = Model.run, GraphClock()
    with clock:
        (card,) = cards(iter(jobs(3600, 1)), bundle, archive=None, n_workers=1, on_progress=lambda *_: None)
    assert Model.run is run
    assert clock.forecasts == N_ORIGINS == card.n_origins
    assert 0 < sum(clock.thread) <= clock.process[0] + 0.01
    assert np.isfinite(card.days.actual).all()
