"""The input of a foreign ONNX graph: of which layout and type it is, and whether the graph normalises by itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...runtime.bundle.contract import Contract
from ...runtime.errors import InputError
from .misfit import input_line

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
_AFFINE = ("Sub", "Div", "Mul", "Add", "BatchNormalization")
_PASSED = ("Cast", "Transpose", "Identity", "Gather", "Slice", "Squeeze", "Unsqueeze")
_NODES = 12  # as many as a normalisation has at most
_UNIT = 1 / 255  # a std for which (p / 255 - 0) / std is p


def normal_input(path: Path, model: onnx.ModelProto, contract: Contract, notes: list[str]) -> None:
    """Turn the input into one of normalised images `(N, 3, H, W)`, where it takes another layout or whole numbers."""
    inputs = model.graph.input
    if len(inputs) != 1:
        raise InputError(f"{path} has the inputs {', '.join(i.name for i in inputs)}; expected one, of images")
    value = inputs[0]
    dims = [d.dim_value or None for d in value.type.tensor_type.shape.dim]
    c = contract
    layouts = {"NCHW": (None, 3, c.height, c.width), "NHWC": (None, c.height, c.width, 3)}
    fits = [name for name, size in layouts.items() if len(dims) == 4 and _agree(dims[1:], size[1:])]
    if not fits:
        shown = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        raise InputError(
            f"{path} takes {value.name} {shown}; the contract's crops are (N, 3, {c.height}, {c.width}): "
            + input_line(c, dims)
        )
    kind = value.type.tensor_type.elem_type
    own = _own_normalisation(model, value.name)
    if kind not in (*_FLOATS, TensorProto.UINT8):
        raise InputError(
            f"{path} takes {value.name} of type {TensorProto.DataType.Name(kind)}; expected float or uint8"
        )
    steps: list[tuple[str, dict[str, Any]]] = []
    if kind == TensorProto.UINT8:
        if any(c.mean) or not np.allclose(c.std, 1 / 255, rtol=1e-6):
            raise InputError(
                f"{path} takes uint8, so it normalises by itself; say so in the contract: mean: [0, 0, 0] and "
                f"std: [{1 / 255!r}, {1 / 255!r}, {1 / 255!r}]"
            )
        steps.append(("Cast", {"to": TensorProto.UINT8}))
        notes.append("the network normalises by itself")
    elif own is not None:
        _check_normalised_once(path, c, *own)
        notes.append("the network normalises by itself")
    if fits[0] == "NHWC":
        steps.append(("Transpose", {"perm": [0, 2, 3, 1]}))
        notes.append("the network takes images as (N, H, W, 3)")
    source = value.name
    for operator, attributes in steps:
        result = f"{value.name}.{operator.lower()}"
        model.graph.node.insert(0, helper.make_node(operator, [source], [result], **attributes))
        for node in list(model.graph.node)[1:]:
            node.input[:] = [result if name == source and node.output[0] != source else name for name in node.input]
    value.type.tensor_type.elem_type = TensorProto.FLOAT


def _agree(dims: Iterable[int | None], expected: Iterable[int | None]) -> bool:
    return all(None in (seen, wanted) or seen == wanted for seen, wanted in zip(dims, expected, strict=True))


def _own_normalisation(model: onnx.ModelProto, name: str) -> tuple[str, float] | None:
    """The node that subtracts or scales per channel before any other layer, and the largest of its constants."""
    constants = {t.name: t for t in model.graph.initializer}
    constants |= {
        n.output[0]: a.t for n in model.graph.node if n.op_type == "Constant" for a in n.attribute if a.t.dims
    }
    found: tuple[str, float] | None = None
    for _ in range(_NODES):
        readers = [node for node in model.graph.node if name in node.input]
        if len(readers) != 1 or readers[0].op_type not in (*_AFFINE, *_PASSED):
            return found
        node = readers[0]
        values = [numpy_helper.to_array(constants[i]) for i in node.input if i in constants]
        if node.op_type in _AFFINE and any(v.size == 3 for v in values):
            largest = max(float(np.abs(v).max()) for v in values if v.size == 3)
            found = found or (node.name or node.output[0], largest)
        name = node.output[0]
    return found


def _check_normalised_once(path: Path, contract: Contract, node: str, largest: float) -> None:
    """Refuse a contract that normalises images of a network which does it by itself."""
    std = _UNIT if largest > 10 else 1.0  # means of 0..255 or of 0..1
    if any(contract.mean) or not np.allclose(contract.std, contract.std[0]) or (std < 1 and contract.std[0] > 0.1):
        raise InputError(
            f"{path} normalises by itself (node {node!r}), and the contract does too; say so in a contract.yaml with "
            f"--contract: mean: [0, 0, 0] and std: [{std!r}, {std!r}, {std!r}] (posert contract shows the other lines)"
        )
