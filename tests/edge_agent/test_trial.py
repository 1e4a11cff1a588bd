"""A new model is tried in a process of its own, which it may take down."""

import sys

import numpy as np
import pytest
from onnx import helper

from edge_agent import trial
from edge_agent.contract.bundle import MODEL, open_bundle, read_files
from edge_agent.contract.errors import BundleError
from edge_agent.trial import try_out

HOUSE = """
site = "home"
time_zone = "Europe/Berlin"
step = 3600
targets = [{name = "energy", sensor = "meter"}, {name = "warmth", sensor = "room"}]
sensors = [
  {name = "meter", role = "energy", topic = "z/meter", field = "energy", topic_unit = "kWh"},
  {name = "room", role = "indoor_temperature", topic = "z/room", field = "temperature"},
]
"""


def tried(path, *, house=HOUSE, target="energy"):
    files = read_files(path)
    return try_out(open_bundle(path, files, allow_unsigned=True), files, house_text=house, target=target)


def test_an_honest_model_is_measured(tiny_bundle):
    found = tried(tiny_bundle)
    assert 0 < found.seconds < trial.MOST_SECONDS
    assert 0 < found.growth_mb < trial.MOST_GROWTH_MB


def test_any_step_of_the_house_is_tried(tiny_bundle):
    assert tried(tiny_bundle, house=HOUSE.replace("3600", "600")).seconds > 0


@pytest.mark.parametrize(
    ("house", "target", "problem"),
    [
        (HOUSE, "warmth", "tiny: target 'warmth' of house 'home' is indoor_temperature, the model forecasts energy"),
        (HOUSE, "enery", "tiny: .*no target 'enery'"),
    ],
)
def test_a_model_for_another_target_is_named(tiny_bundle, house, target, problem):
    with pytest.raises(BundleError, match=problem):
        tried(tiny_bundle, house=house, target=target)


def zeros(count):
    """Nodes that sum up `count` zeros and add one: harmless but for the memory."""
    nodes = [
        helper.make_node("ConstantOfShape", ["count"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["sum", "one"], ["factor"]),
    ]
    return {"before": nodes, "constants": {"count": np.array([count]), "one": np.float32(1)}, "has_golden": False}


def test_a_graph_that_wants_ten_billion_numbers_is_named(make_bundle):
    with pytest.raises(BundleError, match=r"hostile: model\.onnx (cannot be loaded|fails) .*(alloc|memory)"):
        tried(make_bundle("hostile", **zeros(10**10)))


def test_a_graph_that_takes_more_memory_than_a_gateway_has_is_named(make_bundle, monkeypatch):
    monkeypatch.setattr(trial, "MOST_GROWTH_MB", 2.0)
    with pytest.raises(BundleError, match=r"hostile: the model takes \d+ MB and .* s a forecast, a gateway has 2 MB"):
        tried(make_bundle("hostile", factor=1.0))


def test_a_swapped_graph_is_named(make_bundle, tiny_bundle):
    files = read_files(tiny_bundle)
    bundle = open_bundle(tiny_bundle, files, allow_unsigned=True)
    other = read_files(make_bundle("other"))[MODEL]
    with pytest.raises(BundleError, match=r"tiny: model\.onnx does not match the manifest's sha256"):
        try_out(bundle, {**files, MODEL: other}, house_text=HOUSE, target="energy")


def test_a_graph_that_breaks_on_an_unusual_history_is_named(make_bundle):
    """1 where the first daily mean is known, else a negative number of zeros."""
    nodes = [
        helper.make_node("IsNaN", ["daily"], ["unknown"]),
        helper.make_node("Cast", ["unknown"], ["count"], to=7),
        helper.make_node("ReduceMax", ["count"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "minus"], ["size"]),
        helper.make_node("Reshape", ["size", "flat"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["sum", "one"], ["factor"]),
    ]
    constants = {"minus": np.array(-7), "flat": np.array([1]), "one": np.float32(1)}
    with pytest.raises(BundleError, match=r"hostile: model\.onnx fails"):
        tried(make_bundle("hostile", before=nodes, constants=constants))


def test_a_model_that_does_not_answer_is_named(tiny_bundle, monkeypatch):
    monkeypatch.setattr(trial, "TIMEOUT_S", 0.01)
    with pytest.raises(BundleError, match=r"tiny: the model did not answer within 0\.01 s"):
        tried(tiny_bundle)


def test_a_model_that_takes_the_process_down_is_named(tiny_bundle, monkeypatch, tmp_path):
    crash = tmp_path / "python"
    crash.write_text(f"#!{sys.executable}\nimport os\nos.kill(os.getpid(), 11)\n")
    crash.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crash))
    with pytest.raises(BundleError, match=r"took the process down that tried it out \(signal 11\)"):
        tried(tiny_bundle)


def test_too_slow_a_model_is_named(monkeypatch, tiny_bundle):
    monkeypatch.setattr(trial, "MOST_SECONDS", 1e-6)
    with pytest.raises(BundleError, match="train a smaller one"):
        tried(tiny_bundle)
