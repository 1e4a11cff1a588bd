"""Fixtures of the agent's tests."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_agent.contract import signing
from edge_agent.contract.bundle import read_bundle, write_bundle
from edge_agent.contract.calibration import identity
from edge_agent.forecaster import Model, golden_run


@pytest.fixture(scope="session")
def tiny_bundle():
    """A signed bundle that forecasts `energy` of any house; see tests/fixtures/make_tiny_bundle.py."""
    return Path(__file__).parents[1] / "fixtures" / "tiny"


@pytest.fixture(scope="session")
def signing_key(tmp_path_factory):
    """A private key; its public half lies beside it."""
    path = tmp_path_factory.mktemp("keys") / "workstation.key"
    signing.create_key(path)
    return path


@pytest.fixture(scope="session")
def trusted(signing_key):
    """What an agent trusts whose owner has accepted `signing_key`."""
    return signing.trusted_keys((signing_key.parent,))


def echo(plan, factor, *, before=(), constants=None):
    """A graph that answers with its anchor times `factor`, or times the output "factor" of the nodes in `before`."""
    shapes = plan.input_shapes() | {"future": ("horizon", len(plan.future)), "anchor": ("horizon", 10)}
    nodes = [
        *before,
        helper.make_node("Mul", ["anchor", "factor"], ["scaled"]),
        helper.make_node("Split", ["scaled", "parts"], ["quantiles", "last"], axis=2),
        helper.make_node("Squeeze", ["last", "axis"], ["mean"]),
    ]
    known = {"parts": np.array([9, 1]), "axis": np.array([2]), **(constants or {}), **({} if before else {"factor": np.float32(factor)})}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]) for name, shape in shapes.items()]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", *s]) for n, s in (("quantiles", ("horizon", 9)), ("mean", ("horizon",)))]
    graph = helper.make_graph(nodes, "echo", inputs, outputs, [numpy_helper.from_array(np.asarray(v), n) for n, v in known.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.fixture
def make_bundle(tmp_path, tiny_bundle, signing_key):
    """Writes bundles that forecast the climatology times `factor`: `make_bundle("a.tar", factor=1.1, created_at="…", before=hostile_nodes)`."""

    def make(name, *, factor=1.0, sign_key=signing_key, before=(), constants=None, has_golden=True, **changes):
        bundle = read_bundle(tiny_bundle, allow_unsigned=True)
        model = echo(bundle.manifest.plan, factor, before=before, constants=constants)
        bundle = replace(
            bundle, model=model, manifest=replace(bundle.manifest, calibration=identity(bundle.manifest.plan.quantile_levels), **changes)
        )
        quantiles, mean = bundle.golden.quantiles, bundle.golden.mean
        if has_golden:  # else it is too dangerous to run
            quantiles, mean = golden_run(Model(bundle), bundle.golden)
        golden = replace(bundle.golden, quantiles=quantiles, mean=mean)
        write_bundle(tmp_path / name, bundle.manifest, model=model, golden=golden, sign_key=sign_key)
        return tmp_path / name

    return make
