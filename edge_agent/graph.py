"""What a model.onnx may hold, read without the onnx library: checked before ONNX Runtime sees it.

An honest export has one graph of plain operators with its weights inside. A hostile one may name files to read as weights, or loop for ever in a
subgraph or function. Field numbers: onnx/onnx.proto3; wire format: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from edge_agent.contract.errors import BundleError

DOMAINS: Final = ("", "ai.onnx", "com.microsoft")
"""Operator sets that ONNX Runtime itself brings."""
_VARINT, _EIGHT_BYTES, _TEXT, _FOUR_BYTES = 0, 1, 2, 5
"""Wire types; groups (3, 4) are not written by anybody any more."""
_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSORS, _ATTRIBUTE_SUBGRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14


def check_graph(model: bytes) -> None:
    """See that the model is one plain graph with its weights inside.

    Raises:
        BundleError: it refers to other files, has subgraphs (loops, branches), functions or foreign operators, or is no ONNX model.
    """
    graphs = 0
    try:
        for field, value in _fields(memoryview(model)):
            if field == _MODEL_GRAPH:
                graphs += 1
                _check_graph(_message(value))
            elif field in (_MODEL_TRAINING, _MODEL_FUNCTIONS):
                raise BundleError("holds functions of its own or a training graph")
    except (ValueError, IndexError) as err:
        raise BundleError(f"is no ONNX model ({err or 'damaged'})") from err
    if graphs != 1:
        raise BundleError(f"is no ONNX model (it holds {graphs} graphs)")


def _check_graph(graph: memoryview) -> None:
    for field, value in _fields(graph):
        if field == _GRAPH_NODE:
            _check_node(_message(value))
        elif field == _GRAPH_INITIALIZER:
            _check_tensor(_message(value))
        elif field == _GRAPH_SPARSE:
            raise BundleError("holds sparse weights")


def _check_node(node: memoryview) -> None:
    operator, domain = "?", ""
    for field, value in _fields(node):
        if field == _NODE_OPERATOR:
            operator = str(_message(value), "utf-8")
        elif field == _NODE_DOMAIN:
            domain = str(_message(value), "utf-8")
        elif field == _NODE_ATTRIBUTE:
            _check_attribute(_message(value))
    if domain not in DOMAINS:
        raise BundleError(f"needs an operator from elsewhere, {domain}.{operator}")


def _check_attribute(attribute: memoryview) -> None:
    for field, value in _fields(attribute):
        if field in _ATTRIBUTE_SUBGRAPHS:
            raise BundleError("holds a graph within the graph, such as a loop, which may never end")
        if field in _ATTRIBUTE_SPARSE:
            raise BundleError("holds sparse weights")
        if field in _ATTRIBUTE_TENSORS:
            _check_tensor(_message(value))


def _check_tensor(tensor: memoryview) -> None:
    for field, value in _fields(tensor):
        if field == _TENSOR_EXTERNAL or (field == _TENSOR_LOCATION and value != 0):
            raise BundleError("takes weights from another file: a bundle holds all of them in model.onnx")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number stands where a message is expected")  # noqa: TRY004  handled as damage, like the others
    return value


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field: an integer, or the bytes of a text, message or packed list.

    Raises:
        ValueError, IndexError: not of protobuf's form.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        if key >= 2**32:
            raise ValueError(f"field number {key >> 3}")
        wire = key & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if wire == _TEXT:
            size, at = _varint(message, at)
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if wire == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(message):
            raise ValueError("truncated")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The number that begins at `at`, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than ten bytes")
