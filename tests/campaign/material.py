"""What the parts damage: a small real network in a bundle, frames, and what they give when nothing is damaged."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from posert.runtime.bundle.archive import Artifact, Golden, describe, write_bundle
from posert.runtime.bundle.contract import Contract
from posert.runtime.datasets import dataset
from posert.runtime.pose.keypoints import Keypoints
from posert.tests.contracts import contract_of

BOXES = [[12.0, 8.0, 60.0, 90.0], [40.0, 20.0, 90.0, 99.0]]


def contract() -> Contract:
    """COCO's joints on crops of 48x64 px."""
    return contract_of("coco", 48, 64)


def network() -> onnx.ModelProto:
    """Two convolutions with random weights, from crops to maps; milliseconds to compile."""
    rng = np.random.default_rng(0)
    weights = {
        "mean": np.full((1, 1, 1, 3), 118, np.float32),
        "scale": np.full((1, 1, 1, 3), 1 / 58, np.float32),
        "w1": rng.normal(0, 0.2, (8, 3, 3, 3)).astype(np.float32),
        "b1": rng.normal(0, 0.1, 8).astype(np.float32),
        "w2": rng.normal(0, 0.1, (17, 8, 3, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["crops"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["float", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["images"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["images", "w1", "b1"], ["c1"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["heatmaps"], strides=[2, 2], pads=[1, 1, 1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("crops", TensorProto.UINT8, ["N", 64, 48, 3])],
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, ["N", 17, 16, 12])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def plain_network() -> onnx.ModelProto:
    """The same convolutions as a network of one's own has them: from normalised images `(N, 3, 64, 48)` to maps."""
    model = network()
    graph = model.graph
    del graph.node[:4], graph.input[:]
    graph.input.append(helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 64, 48]))
    kept = [weight for weight in graph.initializer if weight.name not in ("mean", "scale")]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return model


def torchscript() -> bytes:
    """The same network as a traced module."""
    import torch

    arrays = {w.name: torch.from_numpy(numpy_helper.to_array(w).copy()) for w in network().graph.initializer}

    class Small(torch.nn.Module):
        def forward(self, crops: torch.Tensor) -> torch.Tensor:
            images = ((crops.float() - arrays["mean"]) * arrays["scale"]).permute(0, 3, 1, 2)
            first = torch.relu(torch.conv2d(images, arrays["w1"], arrays["b1"], 2, 1))
            return torch.conv2d(first, arrays["w2"], None, 2, 1)

    stream = io.BytesIO()
    torch.jit.save(torch.jit.trace(Small().eval(), torch.zeros(1, 64, 48, 3, dtype=torch.uint8)), stream)
    return stream.getvalue()


def write(path: Path, graph: bytes, script: bytes | None = None) -> Path:
    """A bundle of them, with golden results from ONNX Runtime."""
    import onnxruntime as ort

    c = contract()
    crops = np.random.default_rng(1).integers(0, 256, (2, c.height, c.width, 3), np.uint8)
    (maps,) = ort.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, {"crops": crops})
    graphs = {"fp32": (Artifact("fp32", "onnx", "fp32.onnx", precision="fp32", opset=19, **describe(graph)), graph)}
    if script is not None:
        held = Artifact("torchscript", "torchscript", "torchscript.pt", precision="fp32", **describe(script))
        graphs["torchscript"] = (held, script)
    return write_bundle(
        path,
        name="small-coco-64x48",
        model={"arch": "small", "dataset": "coco", "weights": "random"},
        contract=c,
        graphs=graphs,
        golden=Golden(crops, (maps,)),
        calibration=None,
        accuracy={"verdict": "unproven", "rows": []},
        versions={"onnxruntime": ort.__version__},
    )


def bundle(folder: Path, script: bool = False) -> Path:
    """The bundle, written once into a folder."""
    path = folder / ("script.pose" if script else "small.pose")
    if not path.exists():
        write(path, network().SerializeToString(), torchscript() if script else None)
    return path


def frame(seed: int = 0, width: int = 100, height: int = 110) -> NDArray[np.uint8]:
    """A smooth picture `(height, width, 3)` uint8."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def same(a: Keypoints, b: Keypoints) -> bool:
    """Bit for bit."""
    return all(np.array_equal(x, y) for x, y in ((a.xy, b.xy), (a.score, b.score), (a.boxes, b.boxes)))


def labels_and_results(name: str) -> dict[str, Any]:
    """Valid "annotations" and "results" of a data set: four people in three pictures of 100x110 px."""
    which, rng = dataset(name), np.random.default_rng(0)
    more = {"crowdIndex": 0.3, "ignore_regions_x": [[0, 1, 1]], "ignore_regions_y": [[0, 0, 1]]}
    images = [{"id": i, "file_name": f"{i}.png", "width": 100, "height": 110, **more} for i in range(3)]
    annotations, results = [], []
    for i in range(4):
        joints = {field: rng.uniform(1, 80, (count, 3)).ravel().tolist() for field, count in which.fields}
        common = {"image_id": i % 3, "category_id": 1, **joints}
        counts = {"num_keypoints": 5, "area": 1000.0, "iscrowd": 0}
        annotations.append({"id": i + 1, **common, "bbox": [1, 2, 30, 40], "bbox_head": [1, 2, 9, 9], **counts})
        scores = {"score": 0.5, "foot_score": 0.4, "scores": [0.5] * len(which.keypoints)}
        results.append({**common, **scores, "bbox": [1, 2, 30, 40]})
    categories = [{"id": 1, "name": "person", "keypoints": list(which.keypoints)}]
    return {"annotations": {"images": images, "annotations": annotations, "categories": categories}, "results": results}
