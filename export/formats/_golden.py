"""The golden crops for a graph that is written: what goes in, the joints that must come out, and how near."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.backends import load_backend
from ...runtime.bundle.archive import Bundle
from ...runtime.bundle.contract import Contract
from ...runtime.pose.decode import decode, px_per_cell
from ...runtime.pose.heads import Outputs
from ._graph import HEATMAPS, KEYPOINTS, Wanted, make_graph

if TYPE_CHECKING:
    import onnx

_FLOOR = {"fp32": 0.1, "fp16": 0.5, "int8": 0.5}
"""Cells of the map that joints may move by at least: another library adds in another order, which moves fp32 by far
less, and lets a rule with steps of a quarter cell go the other way in the narrower ones."""
_SLACK = 2  # times what was measured in ONNX Runtime
_DECODED = 0.05
"""Px of the crop by which the graph's joints may differ from the runtime's: they differ by less than 0.001, unless a
Newton step has hardly any curvature to divide by."""


def make_golden(bundle: Bundle, wanted: Wanted, model: onnx.ModelProto) -> dict[str, Any]:
    """Arrays of a golden file, of M crops.

    `input`: what the graph takes. `keypoints`: the joints of the PyTorch model `(M, K, 3)`, px of the crop and score.
    `sure`: those that it is sure of `(M, K)`, a peak of at least half of the person's highest. `tolerance`: px of the
    crop by which the graph's may be off. For graphs that give heatmaps also `outputs_0`, ...: those of the PyTorch
    model, and `error`, the relative L2 error that they may have.

    Raises ExportError: in ONNX Runtime the graph does not give the joints that the runtime decodes.
    """
    from ..graph.inputs import input_of
    from ..graph.reference import ExportError

    golden, c = bundle.golden(), bundle.contract
    xy, score = joints(golden.outputs, c)
    sure = (score >= 0.5 * score.max(axis=1, keepdims=True)) & (score > 0)
    given = input_of(golden.crops, c, wanted.input)
    found = _run(model, wanted, given)
    plain = found
    if wanted.output == KEYPOINTS:
        plain = _run(make_graph(bundle, Wanted(wanted.artifact, wanted.input, HEATMAPS)), wanted, given)
        seen, outside = found[0][..., :2], joints(plain, c)[0]
        worst = float(np.abs(seen - outside)[sure].max(initial=0))
        if not worst <= _DECODED:
            raise ExportError(
                f"the graph's joints are {worst:.3g} px of the crop from those that posert decodes: please report it"
            )
    moved = np.linalg.norm(joints(plain, c)[0] - xy, axis=2)[sure].max(initial=0)
    cell = max(c.width / c.heatmap_width, c.height / c.heatmap_height)
    tolerance = max(_SLACK * float(moved), _FLOOR[wanted.artifact.precision] * cell)
    arrays: dict[str, Any] = {
        "input": given,
        "keypoints": np.concatenate([xy, score[..., None]], axis=2).astype(np.float32),
        "sure": sure,
        "tolerance": np.float64(tolerance),
    }
    if wanted.output != KEYPOINTS:
        from ...runtime.accuracy.golden import relative_error

        error = max(_SLACK * relative_error(plain, golden.outputs), 1e-4)
        arrays |= {f"outputs_{i}": output for i, output in enumerate(golden.outputs)} | {"error": np.float64(error)}
    return arrays


def _run(model: onnx.ModelProto, wanted: Wanted, given: NDArray[Any]) -> Outputs:
    return load_backend("onnxruntime").open(model.SerializeToString(), wanted.artifact.name).infer(given)


def joints(outputs: Outputs, contract: Contract) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """x and y in px of the crop `(M, K, 2)`, and scores, by the runtime's decode rule."""
    xy, score = decode(outputs, contract)
    return xy.astype(np.float64) * px_per_cell(contract), score
