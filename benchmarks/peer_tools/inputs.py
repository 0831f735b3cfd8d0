"""What every tool is given: one frame, its boxes, and the same weights in the formats that the tools read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from ...export.archs import build_arch
from ...export.catalog import row
from ...export.graph.reference import Reference
from ...export.graph.to_onnx import to_onnx
from ...export.weights.load import load_weights
from ...runtime.bench.scene import crowd
from ...runtime.bundle.archive import Bundle
from ...runtime.bundle.contract import Contract
from ...runtime.errors import PosertError
from ...runtime.estimator import PoseEstimator
from ...runtime.pose.keypoints import Keypoints
from ...runtime.selection import Selection
from .adapter import Inputs

PEOPLE = 25  # on whom keypoints are compared
SDK_BATCHES = (1, 16)  # one by one, as MMDeploy's exporter writes it, and batches
# mmdeploy-runtime contains ONNX Runtime 1.15, which crashes on the operator set of bundles.
_OPSET, _IR = 17, 8


def prepare(bundle: Path, weights: str | None, folder: Path, people: int) -> tuple[Inputs, Keypoints]:
    """Write all that the tools read into a folder; the inputs of adapters, and the PyTorch reference's keypoints.

    `weights` is the file that the bundle was built from, if any; `people` the most that are timed. Raises PosertError:
    the bundle cannot be used, or its weights cannot be found.
    """
    with Bundle(bundle) as opened:
        model, c = opened.manifest["model"], opened.contract
    if "id" not in model:
        raise PosertError(f"{bundle} was not built from a row of the catalog, so its PyTorch network is unknown")
    source = weights or model["checkpoint"]["source"]
    if source == "file":
        raise PosertError(f"{bundle} was built from a file of weights, which other tools need too: give --weights FILE")
    catalog_row = row(model["id"])
    network = build_arch(catalog_row.arch, catalog_row.keypoints)
    load_weights(catalog_row, network, source)
    reference = Reference(network, c)
    torch.save(network.state_dict(), folder / "weights.pth")
    plain = to_onnx(reference, _OPSET)
    onnx.save(plain, folder / "plain.onnx")
    for batch in SDK_BATCHES:
        write_sdk_folder(plain, c, folder / f"sdk-{batch}", batch)
    frame, boxes = crowd(max(people, PEOPLE))
    np.save(folder / "frame.npy", frame)
    np.save(folder / "boxes.npy", boxes)
    pose = PoseEstimator.from_session(c, reference, Selection("pytorch", "fp32", "the reference"))
    inputs: Inputs = {name: getattr(c, name) for name in ("width", "height", "model_color", "padding", "udp", "decode")}
    inputs |= {
        "folder": str(folder),
        "bundle": str(bundle.absolute()),
        "onnx": str(folder / "plain.onnx"),
        "weights": str(folder / "weights.pth"),
        "sdk": str(folder / "sdk"),
        "row": catalog_row.id,
        "arch": catalog_row.arch,
        "keypoints": len(c.keypoints),
        "mean": [255 * m for m in c.mean],
        "std": [255 * s for s in c.std],
        "sigmas": list(c.sigmas),
    }
    return inputs, pose(frame, boxes[:PEOPLE])


def write_sdk_folder(plain: onnx.ModelProto, contract: Contract, folder: Path, batch: int) -> None:
    """The folder from which MMDeploy's SDK runs a model, `batch` people at a time, laid out as by its exporter."""
    c, net, size = contract, "topdownposeestimator", [contract.width, contract.height]
    folder.mkdir()
    graph = onnx.ModelProto()
    graph.CopyFrom(plain)
    graph.ir_version = _IR
    names = {"images": "input", "heatmaps": "output"}  # which the SDK's own modules expect
    for node in graph.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*graph.graph.input, *graph.graph.output):
        value.name = names[value.name]
    onnx.save(graph, folder / "end2end.onnx")
    mean, std = [255 * m for m in c.mean], [255 * s for s in c.std]
    meta_keys = ["center", "scale", "bbox_score", "img_shape", "ori_shape"]
    transforms = [
        {"type": "LoadImageFromFile"},
        {"type": "TopDownGetBboxCenterScale", "padding": c.padding, "image_size": size},
        {"type": "TopDownAffine", "image_size": size, "use_udp": c.udp},
        {"type": "Normalize", "mean": mean, "std": std, "to_rgb": c.model_color == "RGB"},
        {"type": "ImageToTensor", "keys": ["img"]},
        {"type": "Collect", "keys": ["img"], "meta_keys": meta_keys},
    ]

    def task(name: str, module: str, inputs: list[str], output: str, **more: Any) -> dict[str, Any]:
        return {"type": "Task", "name": name, "module": module, "input": inputs, "output": [output], **more}

    decoder = {"component": "TopdownHeatmapBaseHeadDecode", "params": _decoding(c)}
    tasks = [
        task("Preprocess", "Transform", ["img"], "prepared", transforms=transforms),
        task(net, "Net", ["prepared"], "maps", is_batched=True, input_map={"img": "input"}, output_map={}),
        task("postprocess", "mmpose", ["prepared", "maps"], "joints", **decoder),
    ]
    runtime = {"backend": "onnxruntime", "precision": "FP32", "batch_size": batch, "dynamic_shape": True}
    model = {"name": net, "net": "end2end.onnx", "weights": "", **runtime}
    files: dict[str, Any] = {
        "deploy.json": {"version": "1.3.1", "task": "PoseDetection", "models": [model], "customs": []},
        "detail.json": {"version": "1.3.1", "codebase": {"task": "PoseDetection", "codebase": "mmpose"}},
        "pipeline.json": {"pipeline": {"input": ["img"], "output": ["joints"], "tasks": tasks}},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=1))


def _decoding(c: Contract) -> dict[str, Any]:
    """The decode rule as test settings of MMPose 0.x."""
    if c.decode in ("udp", "udp_combined"):
        target = {"udp": "GaussianHeatMap", "udp_combined": "CombinedTarget"}[c.decode]
        return {"flip_test": False, "use_udp": True, "target_type": target, "modulate_kernel": c.kernel}
    rule = {"none": "null", "megvii_original": "megvii"}.get(c.decode, c.decode)
    return {"flip_test": False, "post_process": rule, "modulate_kernel": c.kernel}
