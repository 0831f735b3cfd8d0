"""An ONNX file as the source of truth, where there is no PyTorch model to compare with."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ...runtime.bundle.contract import Contract
from ...runtime.pose.heads import Outputs
from .from_onnx import ForeignGraph
from .reference import check_shapes
from .to_onnx import with_crops


class OnnxReference:
    """A foreign graph in ONNX Runtime; the same as `Reference` to a build.

    Attributes:
        backend: how the gate's first row calls it.
        contract: of the network.
        model: the plain graph, whose input is normalised images.
        size: of the weights, bytes.
    """

    backend = "onnx"

    def __init__(self, graph: ForeignGraph, contract: Contract) -> None:
        self.contract, self.model = contract, graph.model
        self.size = sum(tensor.ByteSize() for tensor in graph.model.graph.initializer)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        data = with_crops(graph.model, contract).SerializeToString()
        self._session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"], enable_fallback=0)

    def infer(self, crops: NDArray[np.uint8]) -> Outputs:
        """From arrays to arrays, as a backend's session (`backends.Session`)."""
        return tuple(self._session.run(None, {"crops": crops}))

    def with_contract(self, contract: Contract) -> OnnxReference:
        """The same network behind another normalisation."""
        return OnnxReference(ForeignGraph(self.model, ()), contract)

    def check_output(self) -> None:
        """See `Reference.check_output`."""
        check_shapes(self.infer(np.zeros((1, self.contract.height, self.contract.width, 3), np.uint8)), self.contract)
