"""What all contenders are given: one frame, its boxes, and one set of weights in the forms that they take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import ArrayLike

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
from ...runtime.selection import Choice
from .worker import Given

PEOPLE = 25
"""On whom keypoints are compared."""
SDK_BATCHES = (1, 16)
"""One by one, as MMDeploy's exporter writes it, and as many people at a time as we take."""
# mmdeploy-runtime holds ONNX Runtime 1.15, which crashes on the operator set that bundles have.
_OPSET, _IR = 17, 8


def prepare(bundle: Path, weights: str | None, folder: Path, people: int) -> tuple[Given, Keypoints]:
    """Write everything that the contenders read into a folder.

    Args:
        bundle: a `.pose` file.
        weights: where its weights are from, if it was built from a file; see `posert build --weights`.
        folder: to write into.
        people: the most that are timed.

    Returns:
        what each contender's `open` is given, and the keypoints of the PyTorch reference.

    Raises:
        PosertError: the bundle cannot be used, or its weights are not there.
    """
    with Bundle(bundle) as opened:
        model, c = opened.manifest["model"], opened.contract
    if "id" not in model:
        raise PosertError(f"{bundle} was not built from a row of the catalog, so its network cannot be built anew")
    source = weights or model["checkpoint"]["source"]
    if source == "file":
        raise PosertError(f"{bundle} was built from a file: name it with --weights, for peers need the weights too")
    catalog_row = row(model["id"])
    network = build_arch(catalog_row.arch, catalog_row.keypoints)
    load_weights(catalog_row, network, source)
    reference = Reference(network, c)
    torch.save(network.state_dict(), folder / "weights.pth")
    plain = to_onnx(reference, _OPSET)
    onnx.save(plain, folder / "plain.onnx")
    for batch in SDK_BATCHES:
        sdk(plain, c, folder / f"sdk-{batch}", batch)
    frame, boxes = crowd(max(people, PEOPLE))
    np.save(folder / "frame.npy", frame)
    np.save(folder / "boxes.npy", boxes)
    pose = PoseEstimator.from_session(c, reference, Choice("pytorch", "fp32", "the reference"))
    given: Given = {
        "folder": str(folder),
        "bundle": str(bundle.absolute()),
        "onnx": str(folder / "plain.onnx"),
        "weights": str(folder / "weights.pth"),
        "sdk": str(folder / "sdk"),
        "row": catalog_row.id,
        "arch": catalog_row.arch,
        "keypoints": len(c.keypoints),
        "width": c.width,
        "height": c.height,
        "mean": [255 * m for m in c.mean],
        "std": [255 * s for s in c.std],
        "model_color": c.model_color,
        "padding": c.padding,
        "udp": c.udp,
        "decode": c.decode,
        "sigmas": list(c.sigmas),
    }
    return given, pose(frame, boxes[:PEOPLE])


def sdk(plain: onnx.ModelProto, contract: Contract, folder: Path, batch: int) -> None:
    """The directory from which MMDeploy's SDK runs a model, `batch` people at a time, as its exporter lays it out."""
    c = contract
    folder.mkdir()
    graph = onnx.ModelProto()
    graph.CopyFrom(plain)
    graph.ir_version = _IR
    names = {"images": "input", "heatmaps": "output"}  # by which the SDK's own modules ask
    for node in graph.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*graph.graph.input, *graph.graph.output):
        value.name = names[value.name]
    onnx.save(graph, folder / "end2end.onnx")
    size = [c.width, c.height]
    transforms = [
        {"type": "LoadImageFromFile"},
        {"type": "TopDownGetBboxCenterScale", "padding": c.padding, "image_size": size},
        {"type": "TopDownAffine", "image_size": size, "use_udp": c.udp},
        {
            "type": "Normalize",
            "mean": [255 * m for m in c.mean],
            "std": [255 * s for s in c.std],
            "to_rgb": c.model_color == "RGB",
        },
        {"type": "ImageToTensor", "keys": ["img"]},
        {"type": "Collect", "keys": ["img"], "meta_keys": ["center", "scale", "bbox_score", "img_shape", "ori_shape"]},
    ]
    tasks = [
        _task("Preprocess", "Transform", ["img"], "prepared", transforms=transforms),
        _task(_NET, "Net", ["prepared"], "maps", is_batched=True, input_map={"img": "input"}, output_map={}),
        _task(
            "postprocess",
            "mmpose",
            ["prepared", "maps"],
            "joints",
            component="TopdownHeatmapBaseHeadDecode",
            params=_decoding(c),
        ),
    ]
    model = {
        "name": _NET,
        "net": "end2end.onnx",
        "weights": "",
        "backend": "onnxruntime",
        "precision": "FP32",
        "batch_size": batch,
        "dynamic_shape": True,
    }
    files: dict[str, Any] = {
        "deploy.json": {"version": "1.3.1", "task": "PoseDetection", "models": [model], "customs": []},
        "detail.json": {"version": "1.3.1", "codebase": {"task": "PoseDetection", "codebase": "mmpose"}},
        "pipeline.json": {"pipeline": {"input": ["img"], "output": ["joints"], "tasks": tasks}},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=1))


_NET = "topdownposeestimator"


def _task(name: str, module: str, inputs: list[str], output: str, **more: Any) -> dict[str, Any]:
    return {"type": "Task", "name": name, "module": module, "input": inputs, "output": [output], **more}


def _decoding(c: Contract) -> dict[str, Any]:
    """The rule of decoding in the words of MMPose 0.x's test settings."""
    if c.decode in ("udp", "udp_combined"):
        target = {"udp": "GaussianHeatMap", "udp_combined": "CombinedTarget"}[c.decode]
        return {"flip_test": False, "use_udp": True, "target_type": target, "modulate_kernel": c.kernel}
    rule = {"none": "null", "megvii_original": "megvii"}.get(c.decode, c.decode)
    return {"flip_test": False, "post_process": rule, "modulate_kernel": c.kernel}


def agreement(reference: Keypoints, sigmas: ArrayLike, xy: Any, score: Any) -> dict[str, Any]:
    """How far joints lie from the reference's.

    Args:
        reference: N people.
        sigmas: `(K,)` of the dataset.
        xy, score: `(N, K, 2)` px of the frame, and `(N, K)`.

    Returns:
        px: median, 95 % and most, over joints that the reference scores above 0.3; score: largest difference there;
        oks: mean similarity of the people, the reference as the truth and its box as the area.
    """
    seen, scores = np.asarray(xy, np.float64), np.asarray(score, np.float64)
    if seen.shape != reference.xy.shape or scores.shape != reference.score.shape:
        raise PosertError(f"joints {seen.shape} and scores {scores.shape}, expected {reference.xy.shape}")
    shown = reference.score > 0.3
    squared = ((seen - reference.xy) ** 2).sum(axis=2)
    distance = np.sqrt(squared[shown])
    x1, y1, x2, y2 = reference.boxes.astype(np.float64).T
    area = ((x2 - x1) * (y2 - y1))[:, None]
    similar = np.exp(-squared / (2 * area * (2 * np.asarray(sigmas)) ** 2))
    some = shown.any(axis=1)
    oks = (similar * shown).sum(axis=1)[some] / shown.sum(axis=1)[some]
    return {
        "joints": int(shown.sum()),
        "px": {"p50": float(np.median(distance)), "p95": float(np.quantile(distance, 0.95)), "max": distance.max()},
        "score": float(np.abs(scores - reference.score)[shown].max()),
        "oks": float(oks.mean()),
    }
