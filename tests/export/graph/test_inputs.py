"""Graphs of a bundle that take other inputs: what they compute stays the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from posert.calib.fp16 import to_fp16
from posert.calib.observers import Range
from posert.calib.qdq import quantize
from posert.export.graph.inputs import INPUTS, input_of, with_input
from posert.export.graph.reference import ExportError, Reference, random_crops
from posert.export.graph.to_onnx import run, to_onnx, with_crops
from posert.runtime.bundle.contract import Contract

CONTRACT = Contract("two", ("a", "b"), (), (), (), width=24, height=32, heatmap_width=6, heatmap_height=8)


class Tiny(nn.Module):
    """Begins with a convolution, into which a swap of colours can be folded, or with a ReLU, into which it cannot."""

    def __init__(self, convolution: bool) -> None:
        super().__init__()
        self.front = nn.Identity() if convolution else nn.ReLU()
        self.first, self.last = nn.Conv2d(3, 32, 3, 2, 1), nn.Conv2d(32, 2, 3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(self.front(x))))


@pytest.fixture(scope="module", params=[True, False], ids=["folded", "gathered"])
def plain(request: pytest.FixtureRequest) -> onnx.ModelProto:
    torch.manual_seed(0)
    return to_onnx(Reference(Tiny(request.param), CONTRACT))


def precisions(bundled: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    names = {name for node in bundled.graph.node for name in (*node.input, *node.output)}
    int8 = quantize(bundled, {name: Range(-4.0, 4.0) for name in names}).model
    return {"fp32": bundled, "fp16": to_fp16(bundled), "int8": int8}


@pytest.mark.parametrize("color", ["RGB", "BGR"])
def test_the_same_joints_from_any_input(plain: onnx.ModelProto, color: str) -> None:
    contract = replace(CONTRACT, model_color=color, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    crops = random_crops(contract, 3)
    for name, bundled in precisions(with_crops(plain, contract)).items():
        (expected,) = run(bundled, {"crops": crops}, optimised=False)
        for kind in INPUTS:
            graph = with_input(bundled, contract, kind)
            (value,) = graph.graph.input
            (seen,) = run(graph, {value.name: input_of(crops, contract, kind)}, optimised=False)
            if kind == "normalised":  # (p / 255 - mean) / std rounds otherwise than (p - 255 mean) / (255 std)
                atol = {"fp32": 1e-5, "fp16": 1e-2, "int8": 5e-2}[name]  # int8: one step of the input's 256
                np.testing.assert_allclose(seen, expected, atol=atol)
                assert [d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim] == ["N", 3, 32, 24]
            else:
                np.testing.assert_array_equal(seen, expected)
            front = [n.name for n in graph.graph.node if n.name.startswith("normalise.")]
            assert kind == "uint8" or "normalise.transpose" not in front


@pytest.mark.parametrize("color", ["RGB", "BGR"])
def test_normalised_images_give_the_plain_graph_back(plain: onnx.ModelProto, color: str) -> None:
    contract = replace(CONTRACT, model_color=color)
    back = with_input(with_crops(plain, contract), contract, "normalised")
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 24)).astype(np.float32)
    np.testing.assert_array_equal(run(back, {"images": images}), run(plain, {"images": images}))
    with pytest.raises(ExportError, match="rebuild the bundle"):
        with_input(plain, contract, "normalised")
