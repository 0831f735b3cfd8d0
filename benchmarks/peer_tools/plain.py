"""What users write themselves: a library's session and, around it, the pipeline with OpenCV and numpy.

The pipeline is straightforward, neither slowed down nor tuned: one `warpAffine` and one normalisation per person, the
people of a frame as one batch, the peak of each map moved by a quarter cell towards its higher neighbour. The rules are
MMPose's, so the keypoints must be those of the reference.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from .adapter import Adapter, Boxes, Image, Inputs, Joints, UnavailableError, described

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def openvino(inputs: Inputs) -> Adapter:
    """Compiled for latency, in the option `precision`: "fp32" or "bf16"."""
    import openvino as ov

    core, precision = ov.Core(), inputs["precision"]
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise UnavailableError("this CPU does not compute in bf16")
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision]}
    compiled = core.compile_model(inputs["onnx"], "CPU", hints)
    tool, threads = f"OpenVINO {ov.__version__.split('-')[0]}", compiled.get_property("INFERENCE_NUM_THREADS")
    return _by_hand(inputs, lambda images: compiled(images)[0], tool, precision, threads)


def onnxruntime(inputs: Inputs) -> Adapter:
    """With default settings."""
    import onnxruntime as ort

    session = ort.InferenceSession(inputs["onnx"], providers=["CPUExecutionProvider"])
    return _by_hand(inputs, lambda images: session.run(None, {"images": images})[0], f"ONNX Runtime {ort.__version__}")


def pytorch(inputs: Inputs) -> Adapter:
    """Eager mode."""
    import torch

    from ...export.archs import build_arch

    network = build_arch(inputs["arch"], inputs["keypoints"])
    network.load_state_dict(torch.load(inputs["weights"]))
    network.eval()

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            heatmaps: NDArray[np.float32] = network(torch.from_numpy(images)).numpy()
        return heatmaps

    return _by_hand(inputs, run, f"PyTorch {torch.__version__}", threads=torch.get_num_threads())


def _by_hand(
    inputs: Inputs, network: Network, tool: str, precision: str = "fp32", threads: int | str = "default"
) -> Adapter:
    how = described(
        tool, "argmax and a quarter offset", "OpenCV and numpy, by hand", precision=precision, threads=threads
    )
    return Adapter(pipeline(inputs, network), how)


def pipeline(inputs: Inputs, network: Network) -> Callable[[Image, Boxes], Joints]:
    """Frame and boxes to joints around a network, images `(N, 3, H, W)` float32 to heatmaps `(N, K, h, w)`.

    Raises UnavailableError: the model needs other rules than these.
    """
    if inputs["decode"] != "default" or inputs["udp"]:
        rule = inputs["decode"]
        raise UnavailableError(f"the hand-written pipeline decodes with the quarter offset; this model needs {rule}")
    width, height = inputs["width"], inputs["height"]
    mean, std = np.array(inputs["mean"], np.float32), np.array(inputs["std"], np.float32)

    def call(frame: Image, boxes: Boxes) -> Joints:
        images, centers, sizes = [], [], []
        for x1, y1, x2, y2 in boxes:
            w, h = x2 - x1, y2 - y1
            if w > h * width / height:
                h = w * height / width
            else:
                w = h * width / height
            center = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
            size = np.array([w, h]) * inputs["padding"]
            factor = width / size[0]
            matrix = np.array(
                [[factor, 0, width / 2 - factor * center[0]], [0, factor, height / 2 - factor * center[1]]]
            )
            image = cv2.warpAffine(frame, matrix, (width, height), flags=cv2.INTER_LINEAR)
            if inputs["model_color"] == "RGB":
                image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            images.append(((image.astype(np.float32) - mean) / std).transpose(2, 0, 1))
            centers.append(center)
            sizes.append(size)
        maps = network(np.ascontiguousarray(images, np.float32))
        n, k, h, w = maps.shape
        flat = maps.reshape(n, k, -1)
        best, score = flat.argmax(axis=2), flat.max(axis=2)
        xy = np.stack([best % w, best // w], axis=2).astype(np.float32)
        for i in range(n):
            for j in range(k):
                x, y = int(xy[i, j, 0]), int(xy[i, j, 1])
                if 1 < x < w - 1 and 1 < y < h - 1:
                    m = maps[i, j]
                    xy[i, j] += 0.25 * np.sign([m[y, x + 1] - m[y, x - 1], m[y + 1, x] - m[y - 1, x]])
        scale = np.array(sizes)[:, None] / [w, h]
        return xy * scale + np.array(centers)[:, None] - np.array(sizes)[:, None] / 2, score

    return call
