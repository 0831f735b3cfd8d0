"""Multiply-adds of graphs against torch's own counter, and against sums by hand."""

from __future__ import annotations

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from posert.calib.macs import by_node, of_graph
from posert.export.graph.macs import of_network
from posert.export.graph.reference import Reference
from posert.export.graph.to_onnx import to_onnx
from posert.runtime.bundle.contract import Contract

CONTRACT = Contract("coco", ("a", "b", "c"), (), (), (0.1,) * 3, 24, 32, 12, 16)


class Attention(nn.Module):
    """Patches, one transformer layer and a deconvolution, as in ViTPose, but small."""

    def __init__(self, keypoints: int = 3, width: int = 16) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.layer = nn.TransformerEncoderLayer(width, 2, 32, batch_first=True)
        self.head = nn.ConvTranspose2d(width, keypoints, 4, stride=2, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.patches(images)
        tokens = self.layer(x.flatten(2).transpose(1, 2))
        return self.head(tokens.transpose(1, 2).reshape(x.shape))


def test_attention_is_counted_as_torch_counts_it() -> None:
    model = to_onnx(Reference(Attention(), CONTRACT))
    assert {"MatMul", "Gemm", "Conv", "ConvTranspose"} <= {node.op_type for node in model.graph.node}
    with torch.device("meta"):
        expected = of_network(Attention().eval(), CONTRACT.height, CONTRACT.width)
    assert of_graph(model) == expected > 0


def graph(*nodes: onnx.NodeProto, **shapes: list[int | str]) -> onnx.ModelProto:
    """A graph with inputs of these shapes; each node writes the output `y`."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    return helper.make_model(helper.make_graph(list(nodes), "test", inputs, [output]))


@pytest.mark.parametrize(
    ("node", "shapes", "expected"),
    [
        (helper.make_node("Conv", ["a", "b"], ["y"], "n", group=2), {"a": ["N", 4, 5, 6], "b": [8, 2, 3, 3]}, 144 * 12),
        (helper.make_node("ConvTranspose", ["a", "b"], ["y"], "n"), {"a": ["N", 4, 5, 6], "b": [4, 2, 3, 3]}, 72 * 30),
        (helper.make_node("MatMul", ["a", "b"], ["y"], "n"), {"a": ["N", 5, 7], "b": [7, 3]}, 5 * 7 * 3),
        (helper.make_node("Gemm", ["a", "b"], ["y"], "n", transA=1), {"a": [7, 5], "b": [7, 3]}, 5 * 7 * 3),
        (
            helper.make_node("Einsum", ["a", "b"], ["y"], "n", equation="bhqd,bhkd->bhqk"),
            {"a": ["N", 2, 5, 4], "b": ["N", 2, 7, 4]},
            2 * 5 * 7 * 4,
        ),
        # one that is not counted, an ellipsis, and a size that nobody knows
        (helper.make_node("MatMulInteger", ["a", "b"], ["y"], "n"), {"a": [5, 7], "b": [7, 3]}, None),
        (
            helper.make_node("Einsum", ["a", "b"], ["y"], "n", equation="...d,kd->...k"),
            {"a": ["N", 5, 4], "b": [7, 4]},
            None,
        ),
        (helper.make_node("MatMul", ["a", "b"], ["y"], "n"), {"a": ["N", "L", 7], "b": [7, 3]}, None),
    ],
    ids=lambda value: value.op_type if isinstance(value, onnx.NodeProto) else "",
)
def test_each_operator(node: onnx.NodeProto, shapes: dict[str, list[int | str]], expected: int | None) -> None:
    model = graph(node, **shapes)
    assert by_node(model) == {"n": expected} and of_graph(model) == expected


def test_other_operators_multiply_nothing() -> None:
    assert of_graph(graph(helper.make_node("Add", ["a", "a"], ["y"], "n"), a=[2, 3])) == 0
