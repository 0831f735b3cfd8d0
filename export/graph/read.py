"""An ONNX graph that anybody may have written."""

from __future__ import annotations

import onnx
from google.protobuf.message import DecodeError
from onnx.checker import ValidationError
from onnx.shape_inference import InferenceError

from ...runtime.errors import InputError

_INVALID = (ValidationError, InferenceError, DecodeError, ValueError, RuntimeError, TypeError)


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
    if not model.graph.input or not model.graph.output:
        seen = f"{len(model.graph.input)} inputs and {len(model.graph.output)} outputs"
        raise InputError(f"{name}: the graph has {seen}, expected one or more of each")
    return model
