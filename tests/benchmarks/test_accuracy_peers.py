"""Other people's methods, for real: run on a made-up home, none of them looks past an origin. Needs their environment (`make accuracy` makes it)."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks.accuracy.cases import thinned
from benchmarks.accuracy.houses import ROOT
from benchmarks.accuracy.material import prepare
from benchmarks.accuracy.scoring import figures_of
from benchmarks.accuracy.suite import peers
from benchmarks.accuracy.yardsticks import CLIMATOLOGY, Yardstick

pytestmark = pytest.mark.slow
TINY = {"rows": 3000, "trees": 20, "past": 2, "steps": 3, "windows": 16}
LABELS = [peer.label for peer in peers(Path(), Path(), ())]


@pytest.fixture(scope="module")
def python():
    path = Path(os.environ.get("HEARTHCAST_PEERS", ROOT / ".venv-peers" / "bin" / "python"))
    if not path.is_file():
        pytest.skip("needs the environment of benchmarks/accuracy/peers.txt: make .venv-peers/.installed")
    return path


@pytest.fixture(scope="module")
def prepared(houston_like, tmp_path_factory):
    return prepare((houston_like,), tmp_path_factory.mktemp("build"), download=False, console=Console(quiet=True))["houston"]


def of(label, python, folder, training=()):
    peer = next(peer for peer in peers(python, folder, training) if peer.label == label)
    return replace(peer, settings={name: TINY.get(name, value) for name, value in peer.settings.items()})


@pytest.mark.parametrize("label", LABELS)
def test_a_peer_forecasts_and_looks_at_nothing_after_its_origin(label, python, prepared, tmp_path):
    (case,) = prepared.cases()
    few = thinned(case, 4)
    one = replace(few, origins=few.origins[:1], actual=few.actual[:1])
    values = case.series.values.copy()
    values[case.series.times >= one.origins[0]] = 1e4
    method = of(label, python, tmp_path)
    known, blind = method.predict(one), method.predict(replace(one, series=replace(case.series, values=values)))
    np.testing.assert_allclose(known.quantiles, blind.quantiles, rtol=1e-5)
    assert (np.diff(known.quantiles, axis=2) >= 0).all()
    assert figures_of(known, {CLIMATOLOGY: Yardstick(CLIMATOLOGY).predict(case)})["crps_skill"] > -1


@pytest.mark.parametrize("model", ["NHITS", "LSTM"])
def test_a_neural_peer_learns_from_other_homes_alone(model, python, prepared, tmp_path):
    (case,) = prepared.cases()
    one = thinned(case, 1)
    method = of(f"{model} of neuralforecast, zero-shot", python, tmp_path, (prepared,))
    first = method.predict(one)
    assert len(list(tmp_path.iterdir())) == 1
    np.testing.assert_allclose(method.predict(one).quantiles, first.quantiles, rtol=1e-3, atol=0.01)
