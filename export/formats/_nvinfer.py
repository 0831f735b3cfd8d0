"""The AP through nvinfer's crops, emulated on the CPU: rectangles at even pixels, stretched, instead of affine crops.

What a GPU's interpolation rounds differently is below that. In the emulation people come from the labels, and both ways
run the same graph, so that the difference is that of the crops.
"""

from __future__ import annotations

import argparse
import runpy
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ...runtime.accuracy.frames import Frames
from ...runtime.accuracy.people import labelled_people
from ...runtime.accuracy.scorer import Scorer
from ...runtime.bundle.contract import Contract
from ...runtime.pose.decode import px_per_cell, to_frame
from ...runtime.pose.preprocess import crop, crop_matrices
from ..graph.inputs import input_of

if TYPE_CHECKING:
    import onnx

GEOMETRY = Path(__file__).with_name("scripts") / "deepstream_geometry.py"
IMAGES = 100


def crops_of(
    frame: NDArray[np.uint8], boxes: NDArray[np.float64], contract: Contract
) -> tuple[NDArray[np.uint8], list[Any]]:
    """The crops `(N, H, W, 3)` that nvinfer cuts for boxes `(N, 4)` xyxy, and their rectangles; None, black: none.

    The frame gets the border that app.py gives it.
    """
    geometry, c = runpy.run_path(str(GEOMETRY)), contract
    border = 2 * round(len(frame) * geometry["BORDER"] / 2)
    frame = np.asarray(cv2.copyMakeBorder(frame, border, border, border, border, cv2.BORDER_CONSTANT), np.uint8)
    crops = np.zeros((len(boxes), c.height, c.width, 3), np.uint8)
    rects = []
    for target, (x1, y1, x2, y2) in zip(crops, (boxes + border).tolist(), strict=True):
        rect = geometry["rectangle"](x1, y1, x2 - x1, y2 - y1, frame.shape[1], frame.shape[0], asdict(c))
        rects.append(None if rect is None else (rect[0] - border, rect[1] - border, *rect[2:]))
        if rect is not None:
            left, top, width, height = rect
            part = frame[top : top + height, left : left + width]
            cv2.resize(part, (c.width, c.height), dst=target, interpolation=cv2.INTER_LINEAR)
    return crops, rects


def measure(model: onnx.ModelProto, contract: Contract, frames: Frames, limit: int = IMAGES) -> dict[str, Any]:
    """The figure of labelled people by posert's own crops and by nvinfer's, from one graph that gives keypoints."""
    import onnxruntime

    c, geometry = contract, runpy.run_path(str(GEOMETRY))
    frames = frames.with_joints_of(c)
    coco = {**frames.coco, "images": frames.coco["images"][:limit]}
    kept = {record["id"] for record in coco["images"]}
    coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] in kept]
    people = labelled_people(coco)
    records = {record["file_name"]: record for record in coco["images"]}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    center, extent = people.regions(c)
    found = np.zeros((2, len(people), len(c.keypoints), 3), np.float32)
    for image, rows in people.by_image():
        frame = frames.load(records[people.files[image]])
        matrices = crop_matrices(center[rows], extent[rows], c.width, c.height, c.udp)
        plain = session.run(None, {"crops": input_of(crop(frame, matrices, c.width, c.height), c, "float")})[0]
        cells = (plain[..., :2] / px_per_cell(c)).astype(np.float32)
        found[0, rows, :, :2] = to_frame(
            cells, center[rows], extent[rows], c.heatmap_width, c.heatmap_height, c.map_udp
        )
        cut, rects = crops_of(frame, people.xyxy[rows], c)
        theirs = session.run(None, {"crops": input_of(cut, c, "float")})[0]
        for row, joints, rect in zip(rows, theirs, rects, strict=True):
            if rect is not None:
                xy = geometry["to_frame"](joints[:, 0], joints[:, 1], rect, asdict(c))
                found[1, row, :, :2] = np.stack(xy, axis=1)
        found[0, rows, :, 2], found[1, rows, :, 2] = plain[..., 2], theirs[..., 2]
    scorer = Scorer(coco, people, c)
    own, theirs_ap = (float(scorer.evaluate(one[..., :2], one[..., 2]).metrics[scorer.metric]) for one in found)
    return {
        "data": frames.note,
        "people": len(people),
        "metric": scorer.metric,
        "posert's crops": round(own, 4),
        "nvinfer's crops, emulated": round(theirs_ap, 4),
    }


def frames_of(args: argparse.Namespace, contract: Contract) -> Frames:
    """The labelled images of --annotations, or synthetic people. Raises InputError: they cannot be read."""
    from ...runtime.accuracy.frames import read_frames
    from ..demo.frames import demo_frames

    if args.annotations is not None:
        return read_frames(args.annotations, args.images, IMAGES)
    return demo_frames(len(contract.keypoints), "val", IMAGES, "synthetic people")
