"""What a model.onnx may hold, against real hostile models."""

import contextlib

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_agent.contract.errors import BundleError
from edge_agent.graph import check_graph


def value(name, shape=(4,), kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes, *, initializers=(), opsets=(("", 17),), **changes):
    graph = helper.make_graph(nodes, "g", [value("x")], [value("y")], list(initializers), **changes)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*o) for o in opsets], ir_version=8)


def plain():
    return model([helper.make_node("Add", ["x", "w"], ["y"])], initializers=[numpy_helper.from_array(np.ones(4, np.float32), "w")])


def external(location):
    """Weights that lie in a file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, text in (("location", location), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=text)
    return tensor


def endless():
    """A loop whose condition stays true."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["state"], ["next"])],
        "body",
        [value("i", (), TensorProto.INT64), value("go", (), TensorProto.BOOL), value("state")],
        [value("go_on", (), TensorProto.BOOL), value("next")],
    )
    initializers = [numpy_helper.from_array(np.array(2**62), "many"), numpy_helper.from_array(np.array(True), "true")]
    return model([helper.make_node("Loop", ["many", "true", "x"], ["y"], body=body)], initializers=initializers)


def branch():
    one = helper.make_graph([helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones(4, np.float32)))], "one", [], [value("c")])
    condition = numpy_helper.from_array(np.array(True), "true")
    return model([helper.make_node("If", ["true"], ["y"], then_branch=one, else_branch=one)], initializers=[condition])


def with_function():
    function = helper.make_function("local", "F", ["a"], ["b"], [helper.make_node("Identity", ["a"], ["b"])], [helper.make_opsetid("", 17)])
    found = model([helper.make_node("F", ["x"], ["y"], domain="local")], opsets=(("", 17), ("local", 1)))
    found.functions.append(function)
    return found


def sparse():
    return helper.make_sparse_tensor(numpy_helper.from_array(np.ones(1, np.float32), "w"), numpy_helper.from_array(np.array([0]), "i"), [4])


def in_an_attribute():
    return model([helper.make_node("Constant", [], ["w"], value=external("w.bin")), helper.make_node("Add", ["x", "w"], ["y"])])


def twice():
    return plain().SerializeToString() + plain().SerializeToString()


def test_an_exported_graph_is_let_through(tiny_bundle):
    check_graph((tiny_bundle / "model.onnx").read_bytes())
    check_graph(plain().SerializeToString())


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (lambda: model([helper.make_node("Add", ["x", "w"], ["y"])], initializers=[external("/etc/passwd")]), "weights from another file"),
        (lambda: model([helper.make_node("Add", ["x", "w"], ["y"])], initializers=[external("../../secret")]), "weights from another file"),
        # ONNX Runtime's own mark for "these bytes lie in memory, at the address that is the offset"
        (lambda: model([helper.make_node("Add", ["x", "w"], ["y"])], initializers=[external("*/_ORT_MEM_ADDR_/*")]), "weights from another file"),
        (in_an_attribute, "weights from another file"),
        (endless, "a graph within the graph, such as a loop, which may never end"),
        (branch, "a graph within the graph"),
        (with_function, r"functions of its own|an operator from elsewhere, local\.F"),
        (lambda: model([helper.make_node("Evil", ["x"], ["y"], domain="evil")], opsets=(("evil", 1),)), r"an operator from elsewhere, evil\.Evil"),
        (lambda: model([helper.make_node("Add", ["x", "w"], ["y"])], sparse_initializer=[sparse()]), "sparse weights"),
        (lambda: model([helper.make_node("Constant", [], ["y"], sparse_value=sparse())]), "sparse weights"),
        (twice, "is no ONNX model .it holds 2 graphs"),
        (onnx.ModelProto, "it holds 0 graphs"),
        (lambda: b"\x3a\x05abc", "is no ONNX model .truncated"),
        (lambda: b"\x38\x01", "a number stands where a message is expected"),
        (lambda: b"\x3b", "is no ONNX model .wire type 3"),
        (lambda: b"\xff" * 11, "a number of more than ten bytes"),
        (lambda: b"\xff\xff\xff\xff\xff\x01\x00", "field number"),
        (lambda: b"\x18\x00\x00\x00ORTM", "is no ONNX model"),
    ],
)
def test_what_no_export_holds_is_refused(made, problem):
    found = made()
    with pytest.raises(BundleError, match=problem):
        check_graph(found if isinstance(found, bytes) else found.SerializeToString())


@settings(max_examples=300)
@given(st.integers(0, 10**6), st.integers(0, 255), st.booleans())
def test_damage_is_let_through_or_named_and_never_a_crash(place, byte, cut):
    data = bytearray(endless().SerializeToString())
    place %= len(data)
    data[place] = byte
    with contextlib.suppress(BundleError):
        check_graph(bytes(data[:place] if cut else data))
