"""Nodes of an ONNX graph, one call each."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Operand = str | NDArray[Any] | np.generic

_AXES_AS_INPUT = 18  # the opset from which ReduceMax and ReduceMin take their axes as an input


class Nodes:
    """Nodes and constants that are added to a graph; a call adds a node and returns its output's name."""

    def __init__(self, opset: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._opset = opset
        self._names: dict[tuple[Any, ...], str] = {}

    def __call__(self, operator: str, *inputs: Operand, output: str = "", **attributes: Any) -> str:
        """Add a node; arrays among the inputs become constants."""
        name = f"decode.{operator.lower()}_{len(self.nodes)}"
        result = output or f"{name}.out"
        read = [one if isinstance(one, str) else self._constant(np.asarray(one)) for one in inputs]
        self.nodes.append(helper.make_node(operator, read, [result], name, **attributes))
        return result

    def reduce(self, operator: str, value: str, axis: int) -> str:
        """ReduceMax or ReduceMin along an axis, which stays with size 1."""
        if self._opset < _AXES_AS_INPUT:
            return self(operator, value, axes=[axis], keepdims=1)
        return self(operator, value, np.array([axis], np.int64), keepdims=1)

    def _constant(self, array: NDArray[Any]) -> str:
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._names:
            self._names[key] = f"decode.constant_{len(self._names)}"
            self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), self._names[key]))
        return self._names[key]
