"""Small graphs written node by node, so that the tests say exactly what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


class Net:
    """Writes a graph; every method adds one node and returns the name of its output."""

    def __init__(
        self,
        seed: int = 0,
        size: int = 32,
        crops: bool = True,
        mean: Sequence[float] = (120, 120, 120),
        factor: Sequence[float] = (1 / 60, 1 / 60, 1 / 60),
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.size = size
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        if crops:
            self.input = helper.make_tensor_value_info("crops", TensorProto.UINT8, ["N", size, size, 3])
            x = self.add("Cast", ["crops"], to=TensorProto.FLOAT)
            x = self.add("Sub", [x, self.constant(np.float32(mean).reshape(1, 1, 1, 3))])
            x = self.add("Mul", [x, self.constant(np.float32(factor).reshape(1, 1, 1, 3))])
            self.x = self.add("Transpose", [x], perm=[0, 3, 1, 2])
        else:
            self.input = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, size, size])
            self.x = "images"

    def constant(self, values: NDArray[Any], name: str | None = None) -> str:
        name = name or f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(values, name))
        return name

    def add(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = f"{op.lower()}{sum(n.op_type == op for n in self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [f"{name}.out"], name=name, **attributes))
        return f"{name}.out"

    def conv(
        self, x: str, cin: int, cout: int, kernel: int = 3, stride: int = 1, weights: NDArray[Any] | None = None
    ) -> str:
        if weights is None:
            spread = (2 / (cin * kernel**2)) ** 0.5
            weights = (self.rng.standard_normal((cout, cin, kernel, kernel)) * spread).astype(np.float32)
        bias = (self.rng.standard_normal(cout) * 0.1).astype(np.float32)
        inputs = [x, self.constant(weights), self.constant(bias)]
        return self.add("Conv", inputs, pads=[kernel // 2] * 4, strides=[stride] * 2, kernel_shape=[kernel] * 2)

    def deconv(self, x: str, cin: int, cout: int) -> str:
        weights = (self.rng.standard_normal((cin, cout, 4, 4)) * (0.5 / cin) ** 0.5).astype(np.float32)
        inputs = [x, self.constant(weights), self.constant(np.zeros(cout, np.float32))]
        return self.add("ConvTranspose", inputs, pads=[1] * 4, strides=[2] * 2, kernel_shape=[4] * 2)

    def relu(self, x: str) -> str:
        return self.add("Relu", [x])

    def resize(self, x: str, mode: str = "nearest") -> str:
        attributes = {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
        if mode == "linear":
            attributes = {"coordinate_transformation_mode": "half_pixel"}
        return self.add("Resize", [x, "", self.constant(np.array([1, 1, 2, 2], np.float32))], mode=mode, **attributes)

    def model(self, output: str, opset: int = 19, channels: int | str = "K") -> onnx.ModelProto:
        for node in self.nodes:
            node.output[:] = ["heatmaps" if o == output else o for o in node.output]
            node.input[:] = ["heatmaps" if i == output else i for i in node.input]
        heatmaps = helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, ["N", channels, "h", "w"])
        graph = helper.make_graph(self.nodes, "net", [self.input], [heatmaps], self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
        onnx.checker.check_model(model, full_check=True)
        return model


def _residual(net: Net) -> str:
    x = net.relu(net.conv(net.x, 3, 16))
    y = net.conv(net.relu(net.conv(x, 16, 16)), 16, 16)
    x = net.relu(net.add("Add", [y, x]))
    # the shortcut is a convolution too, and comes first
    y = net.conv(net.relu(net.conv(x, 16, 32, stride=2)), 32, 32)
    shortcut = net.conv(x, 16, 32, kernel=1, stride=2)
    return net.conv(net.relu(net.add("Add", [shortcut, y])), 32, 17, kernel=1)


def _exchange(net: Net) -> str:
    high = net.relu(net.conv(net.x, 3, 16))
    low = net.relu(net.conv(high, 16, 32, stride=2))
    up = net.resize(net.conv(low, 32, 16, kernel=1))
    down = net.conv(high, 16, 32, stride=2)
    fused_high = net.relu(net.add("Add", [high, up]))
    fused_low = net.relu(net.add("Add", [down, low]))
    up = net.resize(net.conv(fused_low, 32, 16, kernel=1))
    return net.conv(net.relu(net.add("Add", [fused_high, up])), 16, 17, kernel=1)


def _deconv(net: Net) -> str:
    x = net.relu(net.conv(net.x, 3, 16, kernel=7, stride=2))
    x = net.add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    x = net.relu(net.conv(x, 16, 32))
    x = net.relu(net.deconv(x, 32, 24))
    return net.conv(net.relu(net.deconv(x, 24, 24)), 24, 17, kernel=1)


def _concat(net: Net) -> str:
    x = net.relu(net.conv(net.x, 3, 16))
    half = net.relu(net.conv(x, 16, 16, stride=2))
    joined = net.add("Concat", [x, net.resize(half)], axis=1)
    return net.conv(net.relu(net.conv(joined, 32, 16)), 16, 17, kernel=1)


KINDS = {"residual": _residual, "exchange": _exchange, "deconv": _deconv, "concat": _concat}


@pytest.fixture
def net() -> type[Net]:
    return Net


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def build() -> Any:
    """build(kind, opset=19, **net) -> a model of that kind."""

    def make(kind: str, opset: int = 19, **options: Any) -> onnx.ModelProto:
        net = Net(**options)
        return net.model(KINDS[kind](net), opset)

    return make


@pytest.fixture
def crops() -> NDArray[np.uint8]:
    """(12, 32, 32, 3): blurred noise, so that neighbouring pixels agree as in pictures."""
    small = np.random.default_rng(7).integers(0, 256, (12, 8, 8, 3), np.uint8)
    return small.repeat(4, axis=1).repeat(4, axis=2)


@pytest.fixture
def run() -> Any:
    """run(model, crops) -> heatmaps, by ONNX Runtime without graph optimisation: what the graph says, literally."""

    def infer(model: onnx.ModelProto, batch: NDArray[Any]) -> NDArray[np.float32]:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {model.graph.input[0].name: batch})[0])

    return infer
