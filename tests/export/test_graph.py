import make_tiny_bundle as tiny
import onnx
import pytest

from edge_agent.contract.errors import ExportError
from export.graph import check


@pytest.fixture
def graph(converted):
    """A copy of a good graph, to spoil."""
    copy = onnx.ModelProto()
    copy.CopyFrom(converted.graph)
    return copy


def refused(graph, converted, complaints=()):
    with pytest.raises(ExportError) as caught:
        check(graph, converted.twin, tiny.tiny_plan(), list(complaints))
    return str(caught.value)


def test_good_graph_passes(graph, converted):
    check(graph, converted.twin, tiny.tiny_plan(), [])


def test_captured_tensor_that_became_an_input_is_refused(graph, converted):
    graph.graph.input.append(onnx.helper.make_tensor_value_info("tiny/norm/Sub/y:0", onnx.TensorProto.FLOAT, [1, 5]))
    assert "tiny/norm/Sub/y:0 float32[1,5]" in refused(graph, converted)


def test_double_precision_input_is_refused(graph, converted):
    graph.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    assert "float64" in refused(graph, converted)


def test_fixed_batch_is_refused(graph, converted):
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    assert "[1,24,5]" in refused(graph, converted)


def test_operator_that_onnx_does_not_know_is_named_with_what_tf2onnx_said(graph, converted):
    graph.graph.node[0].op_type = "CudnnRNNV3"
    said = refused(graph, converted, ["Tensorflow op [lstm: CudnnRNNV3] is not supported"])
    assert "CudnnRNNV3 (Tensorflow op" in said


def test_operator_of_a_private_domain_is_refused(graph, converted):
    graph.graph.node[0].domain = "com.example"
    assert "operators that ONNX does not know" in refused(graph, converted)


def test_loop_is_refused(graph, converted):
    graph.graph.node[0].op_type = "Loop"
    assert "1 fused LSTM nodes for 1 LSTM layers, and Loop" in refused(graph, converted)


def test_unfused_lstm_is_refused(graph, converted):
    lstm = next(node for node in graph.graph.node if node.op_type == "LSTM")
    graph.graph.node.remove(lstm)
    assert "0 fused LSTM nodes for 1 LSTM layers" in refused(graph, converted)


def test_invalid_graph_is_refused(graph, converted):
    graph.graph.node[0].input[0] = "nowhere"
    assert "not valid ONNX" in refused(graph, converted)
