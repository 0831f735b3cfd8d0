"""Decode rules as ONNX nodes: a graph that gives keypoints. One file each, named as the rule in `pose.heads`.

The nodes are plain operators of opset 17 and later, in float32, without control flow, so that every runtime and
TensorRT take them. They compute what `posert.runtime.pose.decode` computes in float64, which moves joints by less than
0.001 px of the crop, except where two cells are equal up to rounding and where a Newton step has hardly any curvature
to divide by.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.checker import ValidationError
from onnx.shape_inference import InferenceError

from ...runtime.bundle.archive import output_names
from ...runtime.bundle.contract import Contract
from ...runtime.errors import InputError
from ...runtime.pose.decode import px_per_cell
from ...runtime.pose.heads import HEADS, head
from ...runtime.registry import Registry
from ._nodes import Nodes

__all__ = ["OUTPUT", "RULES", "GraphRule", "check_rule", "with_keypoints"]

_FIRST_OPSET = 17
OUTPUT = "keypoints"
"""The graph's output: `(N, K, 3)` float32, x and y in px of the crop, and score."""


@dataclass(frozen=True)
class GraphRule:
    """The graph form of a decode rule.

    Attributes:
        name: of the rule.
        decode: from the names of the network's outputs, for N crops, to those of x, y (cells of the map) and score,
            `(N, K, 1)` float32 each. The nodes are added to the first argument.
    """

    name: str
    decode: Callable[[Nodes, tuple[str, ...], Contract], tuple[str, str, str]]


RULES = Registry("decode rule with a graph form", __name__, "RULE", "posert.decoding", GraphRule, InputError)


def check_rule(contract: Contract) -> GraphRule:
    """The graph form of a contract's decode rule.

    Raises InputError: it has none, or its Gaussian is wider than the map.
    """
    if contract.decode not in RULES.names():
        raise InputError(
            f"the decode rule {contract.decode!r} has no graph form, so this network can give its outputs only: leave "
            f"--output-kind keypoints out. Rules with one: {', '.join(RULES.names())}"
        )
    # A padded border mirrors the map once.
    if HEADS.load(contract.decode).blurs and max(contract.kernel, contract.kernel_y) >= min(
        contract.heatmap_width, contract.heatmap_height
    ):
        raise InputError(f"a Gaussian of {contract.kernel} cells is wider than the map: this rule has no graph form")
    return RULES.load(contract.decode)


def with_keypoints(model: onnx.ModelProto, contract: Contract) -> onnx.ModelProto:
    """A graph that gives `keypoints` in place of the network's outputs.

    x and y are px of the crop, where (0, 0) is the centre of the first pixel, and score is that of the rule. A joint
    whose map has no value above zero is one cell left of and above the first.

    Args:
        model: its outputs are those that the contract's decode rule reads.

    Raises:
        InputError: the rule has no graph form, or the graph has other outputs or an older opset.
    """
    rule, c = check_rule(contract), contract
    names = tuple(output_names(len(head(c.decode).shapes(c))))
    seen = tuple(value.name for value in model.graph.output)
    if seen != names:
        raise InputError(f"the graph gives {', '.join(seen)}; the rule {c.decode!r} reads {', '.join(names)}")
    decoded = copy.deepcopy(model)
    graph = decoded.graph
    opset = next(entry.version for entry in decoded.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < _FIRST_OPSET:
        raise InputError(f"the graph has opset {opset}, the nodes of a decode rule need {_FIRST_OPSET} or later")
    nodes = Nodes(opset)
    x, y, score = rule.decode(nodes, names, c)
    across, down = px_per_cell(c)
    parts = (nodes("Mul", x, np.float32(across)), nodes("Mul", y, np.float32(down)), score)
    nodes("Concat", *parts, axis=2, output=OUTPUT)
    graph.node.extend(nodes.nodes)
    graph.initializer.extend(nodes.constants)
    del graph.output[:], graph.value_info[:]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", len(c.keypoints), 3]))
    try:
        onnx.checker.check_model(decoded, full_check=True)
    except (ValidationError, InferenceError) as error:  # of a graph that anybody may have written
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"the graph's outputs do not fit the rule {c.decode!r}: {reason}") from error
    return decoded
