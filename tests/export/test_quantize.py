from dataclasses import replace

import numpy as np
import pytest

from edge_agent.forecaster import Model
from export.assemble import bundle_in_memory, manifest_of
from export.quantize import int8_graph, judge, pinball
from export.run_folder import read_run


@pytest.fixture
def run(anchored_run):
    return read_run(anchored_run)


@pytest.fixture
def full(converted, run):
    return Model(bundle_in_memory(manifest_of(run, converted, "tiny"), converted.graph.SerializeToString(), run))


class Shifted:
    """The float32 model with a forecast that is wrong by some Wh."""

    def __init__(self, model, by):
        self.model, self.by = model, by

    def run(self, inputs):
        quantiles, mean = self.model.run(inputs)
        return quantiles + self.by, mean + self.by


def test_pinball_of_a_hand_worked_case(run):
    plan = replace(run.plan, quantile_levels=(0.1, 0.5, 0.9))
    quantiles, actual = np.array([[[1.0, 2.5, 3.0], [1.0, 2.5, 3.0]]]), np.array([[2.0, np.nan]])
    assert pinball(quantiles, actual, plan) == pytest.approx((0.1 * 1.0 + 0.5 * 0.5 + 0.1 * 1.0) / 3)


def test_int8_graph_runs_on_the_agents_code_and_is_near(full, converted, run):
    small = Model(replace(full.bundle, model=int8_graph(converted.graph)))
    inputs = run.samples[0].inputs(run.plan, run.samples[0].origins[-1:])
    (quantiles, _), (expected, _) = small.run(inputs), full.run(inputs)
    assert not np.array_equal(quantiles, expected)
    assert np.abs(quantiles - expected).max() < 0.05 * expected.max()


def test_graph_that_loses_more_than_allowed_is_refused(full, run):
    verdict = judge(full, Shifted(full, 50.0), run)
    assert not verdict.kept
    assert "loss is allowed" in verdict.text


def test_graph_that_is_hardly_faster_is_refused(full, run, monkeypatch):
    monkeypatch.setattr("export.quantize.speed_ratio", lambda *_: 0.97)
    verdict = judge(full, full, run)
    assert not verdict.kept
    assert "hardly faster" in verdict.text


def test_graph_that_loses_nothing_and_is_faster_is_kept(full, run, monkeypatch):
    monkeypatch.setattr("export.quantize.speed_ratio", lambda *_: 0.5)
    verdict = judge(full, full, run)
    assert verdict.kept
    assert verdict.text == "kept: loss +0.000%, time x 0.50 on 30 real windows"


def test_too_few_known_outcomes_judge_nothing(full, run):
    few = replace(run, samples=(replace(run.samples[0], origins=run.samples[0].origins[:3]),))
    assert judge(full, full, few).text.startswith("refused: the run holds 3 windows")
