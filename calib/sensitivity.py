"""Sensitivity of the keypoints to quantising one block of the network at a time.

The unit is 1 - OKS of the quantised network's joints, with the float network's joints as ground truth. So it needs no
labels, and a wrist may move less than a hip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from ..runtime.bundle.contract import Contract
from ..runtime.pose.decode import decode
from ..runtime.pose.heads import Outputs
from .calibrated import Calibrated
from .graph import Graph
from .macs import by_node
from .observers import Range
from .placement import place
from .qdq import quantize

_BODY = 0.53  # share of a box that is person: COCO's rule for data sets without segmentation
_BATCH = 8
_SIGMA = 0.05  # of joints that have none


@dataclass(frozen=True)
class Block:
    """Neighbouring nodes that are measured, and kept in float, together.

    Attributes:
        name: the common prefix of their names.
        nodes: names of the layers and Adds.
        macs: share of the network's multiply-accumulates.
        loss: mean 1 - OKS when this block alone is quantised.
    """

    name: str
    nodes: tuple[str, ...]
    macs: float
    loss: float


def block_sensitivity(
    model: onnx.ModelProto,
    calibrated: Calibrated | Mapping[str, Range],
    crops: NDArray[np.uint8],
    contract: Contract,
    *,
    unsigned: bool = True,
    progress: Callable[[int, int], None] | None = None,
    threads: int = 0,
) -> list[Block]:
    """Quantise one block at a time and measure how its joints differ.

    Args:
        model: the float32 graph with uint8 crops as input.
        calibrated: what calibration found.
        crops: `(N, H, W, 3)` uint8 BGR; 16 to 32 are enough to rank blocks.
        contract: decode rule and OKS sigmas.
        unsigned: as for `qdq.quantize`.
        progress: called with (blocks done, number of blocks).
        threads: of the network; 0 uses all cores.

    Returns:
        The blocks in the order of the network.

    Raises:
        CalibrationError: as for `qdq.quantize`.
    """
    graph = Graph(model)
    placed = place(graph)
    macs = {name: count or 0 for name, count in by_node(graph.model).items()}
    total = sum(macs.values())
    inside = set(placed.layers) | {n.name for n in graph.nodes if n.op_type == "Add"}
    members: dict[str, list[str]] = {}
    for node in graph.nodes:
        if node.name in inside:
            members.setdefault(node.name.rpartition(".")[0] or node.name, []).append(node.name)
    groups = {name: nodes for name, nodes in members.items() if any(n in placed.layers for n in nodes)}
    reference = infer(graph.model, crops, threads)
    blocks = []
    for done, (name, nodes) in enumerate(groups.items()):
        others = inside.difference(nodes)
        only_this = quantize(graph.model, calibrated, float_nodes=others, unsigned=unsigned).model
        loss = keypoint_loss(infer(only_this, crops, threads), reference, contract)
        blocks.append(Block(name, tuple(nodes), sum(macs.get(n, 0) for n in nodes) / max(total, 1), loss))
        if progress is not None:
            progress(done + 1, len(groups))
    return blocks


def keypoint_loss(outputs: Outputs, reference: Outputs, contract: Contract) -> float:
    """Mean 1 - OKS of the joints in a network's outputs against those in `reference`, 0 to 1.

    Joints without sigmas all get the same one: the loss ranks blocks, and nothing is judged by it.
    A joint is weighted by its score in the reference: where the float network sees nothing, a moved peak is no loss.
    """
    c = contract
    ours, theirs = (decode(given, c) for given in (outputs, reference))
    unit = np.array([c.width / c.heatmap_width, c.height / c.heatmap_height])
    squared = (((ours[0] - theirs[0]) * unit) ** 2).sum(axis=2)
    area = c.width * c.height / (c.enlarge[0] * c.enlarge[1] * c.padding**2) * _BODY
    loss = 1 - np.exp(-squared / (2 * area * (2 * np.array(c.sigmas or _SIGMA)) ** 2))
    weight = np.clip(theirs[1], 0, 1).astype(np.float64)
    return float((loss * weight).sum() / weight.sum()) if weight.sum() > 0 else float(loss.mean())


def infer(model: onnx.ModelProto, crops: NDArray[Any], threads: int = 0) -> Outputs:
    """Outputs of a graph in ONNX Runtime, exactly as the graph says: no optimisation that rounds elsewhere."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # The extended optimisations turn Q/DQ around a layer into integer kernels, which take a second form of the bias.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    runs = [session.run(None, {name: crops[i : i + _BATCH]}) for i in range(0, len(crops), _BATCH)]
    return tuple(np.concatenate(parts) for parts in zip(*runs, strict=True))
