"""The demo's person detector as an ONNX file, in YOLOX's layout.

    python -m posert.export.demo.detector --output demo_detector.onnx --precision int8

Pictures `images (N, 3, 256, 320)` float32, BGR 0..255, at the top left of a grey border, to `output (N, 1680, 6)`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import InputError
from ...runtime.registry import unknown_name
from ...runtime.system.files import atomic_write
from .letterbox import HEIGHT, WIDTH, letterbox
from .people import render

if TYPE_CHECKING:
    import onnx

    from .detector_network import Detector

PRECISIONS = ("fp32", "int8")
_WEIGHTS = Path(__file__).with_name("demo_detector.safetensors")
_CALIBRATION = 64  # generated pictures, of the split `calib`
_TOLERANCE = 1e-4  # strides and probabilities; sums of a convolution in another order


def network(weights: Path = _WEIGHTS) -> Detector:
    """The trained network, in evaluation mode."""
    # torch takes seconds to load.
    from safetensors.torch import load_file

    from .detector_network import Detector

    trained = Detector()
    # Counters of batches are of no use after training and not in the file.
    counters = {key: value for key, value in trained.state_dict().items() if key.endswith("num_batches_tracked")}
    trained.load_state_dict(counters | {key: value.float() for key, value in load_file(weights).items()})
    return trained.eval()


def graph(precision: str = "fp32", weights: Path = _WEIGHTS) -> onnx.ModelProto:
    """The trained network as an ONNX graph.

    Raises:
        InputError: `precision` is not of PRECISIONS.
        ExportError: the graph does not compute what the network computes.
    """
    if precision not in PRECISIONS:
        raise InputError(unknown_name("precision", precision, PRECISIONS))
    model = _exported(network(weights))
    return quantized(model) if precision == "int8" else model


def write(path: str | os.PathLike[str], precision: str = "fp32") -> Path:
    """Write the detector to an ONNX file and return its path. Errors as `graph`."""
    path = Path(path)
    model = graph(precision)
    with atomic_write(path) as file:
        file.write(model.SerializeToString())
    return path


def _exported(trained: Detector) -> onnx.ModelProto:
    import onnx
    import onnxruntime
    import torch

    from ..graph.reference import ExportError
    from ..graph.to_onnx import OPSET, quiet, tidy

    with quiet():
        program = torch.onnx.export(
            trained,
            (torch.zeros(2, 3, HEIGHT, WIDTH),),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["output"],
            dynamic_shapes=({0: torch.export.Dim("N")},),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    tidy(model, OPSET)
    data = model.SerializeToString()
    onnx.checker.check_model(data, full_check=True)
    images = np.concatenate(list(_pictures(2)))
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = trained(torch.from_numpy(images)).numpy()
    error = float(np.abs(session.run(None, {"images": images})[0] - expected).max())
    if not error < _TOLERANCE:
        raise ExportError(
            f"the detector's ONNX graph differs from PyTorch by {error:g}; expected at most {_TOLERANCE:g}"
        )
    return onnx.load_from_string(data)


def quantized(model: onnx.ModelProto) -> onnx.ModelProto:
    """The float32 graph in int8, in the way of the pose networks' for CPUs."""
    from ...calib import calibrate, quantize

    return quantize(model, calibrate(model, list(_pictures(_CALIBRATION))), unsigned=True).model


def _pictures(count: int) -> Iterator[NDArray[np.float32]]:
    """Generated pictures `(1, 3, 256, 320)`, as the graph takes them."""
    for index in range(count):
        filled, _ = letterbox(render("calib", index)[0])
        yield np.ascontiguousarray(filled.transpose(2, 0, 1)[None], np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the demo's person detector as an ONNX file.")
    parser.add_argument("--output", type=Path, required=True, help=".onnx file")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    args = parser.parse_args()
    print(write(args.output, args.precision))


if __name__ == "__main__":
    main()
