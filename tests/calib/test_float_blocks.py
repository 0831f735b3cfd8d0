"""Ranges that are collected once serve every set of float blocks that the search may try, on the published networks."""

from __future__ import annotations

import numpy as np
import pytest

from posert.calib.graph import Graph
from posert.calib.placement import place
from posert.export.archs import build_arch
from posert.export.catalog import rows
from posert.export.graph.reference import Reference
from posert.export.graph.to_onnx import to_onnx, with_crops

# Deeper or wider twins of others, with the same operators in the same patterns; they passed when this was written.
TWINS = (
    "hrnet_w32",
    "hrnet_w48",
    "pose_resnet_101",
    "pose_resnet_152",
    "mspn_50_1",
    "mspn_50_3",
    "mspn_50_4",
    "hourglass_8",
    "hourglass_52",
)
TRIES = 20


@pytest.mark.slow
@pytest.mark.parametrize("arch", sorted({row.arch for row in rows().values()} - set(TWINS)))
def test_every_tensor_that_a_choice_needs_is_collected(arch: str) -> None:
    """A residual Add whose convolution is in float quantises its other branch, whose range must be known by then."""
    contract = next(row for row in rows().values() if row.arch == arch).contract()
    network = build_arch(arch, len(contract.keypoints)).eval()
    graph = Graph(with_crops(to_onnx(Reference(network, contract)), contract))
    placement = place(graph)
    known = set(placement.tensors)
    inside = [*placement.layers, *(n.name for n in graph.nodes if n.op_type == "Add")]
    blocks: dict[str, list[str]] = {}
    for name in inside:
        blocks.setdefault(name.rpartition(".")[0] or name, []).append(name)
    rng = np.random.default_rng(0)
    choices = list(blocks.values())
    for _ in range(TRIES):
        some = rng.permutation(len(blocks))[: rng.integers(1, len(blocks))]
        choices.append([name for i in some for name in list(blocks.values())[i]])
    for in_float in choices:
        if set(placement.layers) <= set(in_float):
            continue  # nothing would be int8
        needed = {name for group in place(graph, in_float).scale_groups for name in group}
        assert needed <= known, (in_float[:3], sorted(needed - known)[:3])
