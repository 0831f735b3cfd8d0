"""An ONNX graph that anybody may have written."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from google.protobuf.message import DecodeError
from onnx.checker import ValidationError
from onnx.shape_inference import InferenceError

from ...runtime.errors import InputError

_INVALID = (ValidationError, InferenceError, DecodeError, ValueError, RuntimeError, TypeError)
_LARGEST = 2**31 - 1  # size of one axis


def read_graph(data: bytes, name: str) -> onnx.ModelProto:
    """The graph, which ONNX's checker passes and which has an input and an output.

    Args:
        data: the file's bytes.
        name: of the file, for messages.

    Raises InputError: it is none.
    """
    try:
        onnx.checker.check_model(data, full_check=True)
        model = onnx.load_from_string(data)
    except _INVALID as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{name}: no valid ONNX graph: {reason or type(error).__name__}") from error
    check_names(model, name)
    for value in (*model.graph.input, *model.graph.output):
        sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if max(sizes, default=0) > _LARGEST:  # the checker's own inference of shapes gives up on them
            raise InputError(f"{name}: {value.name!r} has the sizes {sizes}, expected none above {_LARGEST}")
    if not model.graph.input or not model.graph.output:
        seen = f"{len(model.graph.input)} inputs and {len(model.graph.output)} outputs"
        raise InputError(f"{name}: the graph has {seen}, expected one or more of each")
    return model


def check_names(model: onnx.ModelProto, name: str) -> None:
    """Raise InputError if a name in a graph is not UTF-8: Protocol Buffers reads it as bytes, which nobody expects."""
    for text in _names(model.graph):
        if not isinstance(text, str):
            raise InputError(f"{name}: no valid ONNX graph: the name {text!r} is not UTF-8")


def _names(graph: onnx.GraphProto) -> Iterator[str | bytes]:
    yield graph.name
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        yield value.name
    for node in graph.node:
        yield from (node.name, node.domain, node.op_type, *node.input, *node.output)
        for attribute in node.attribute:
            yield attribute.name
            yield from _names(attribute.g)
