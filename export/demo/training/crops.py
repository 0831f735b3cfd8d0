"""Labelled people as a top-down network meets them, and the AP of what it answers."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ....runtime.bundle.contract import Contract
from ....runtime.pose.decode import decode, to_frame
from ....runtime.pose.preprocess import check_boxes, crop_matrices, crop_regions

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class People:
    """The N labelled people of a set of images, with the crops that show them."""

    image: NDArray[np.intp]  # (N,) position in the images
    center: Floats  # (N, 2) px of the frame
    extent: Floats  # (N, 2) px of the frame
    matrix: NDArray[np.float64]  # (N, 2, 3) frame -> crop
    keypoints: Floats  # (N, K, 3) x, y px of the frame, visibility

    def __len__(self) -> int:
        return len(self.image)


def labelled_people(labels: dict[str, Any], contract: Contract) -> People:
    """The people with keypoints of a COCO dict whose image ids count from 1, for the crops of a contract."""
    found = [annotation for annotation in labels["annotations"] if annotation["num_keypoints"]]
    boxes = np.array([annotation["bbox"] for annotation in found], np.float64)
    boxes[:, 2:] += boxes[:, :2]
    center, extent = crop_regions(check_boxes(boxes), contract)
    return People(
        image=np.array([annotation["image_id"] - 1 for annotation in found]),
        center=center,
        extent=extent,
        matrix=crop_matrices(center, extent, contract.width, contract.height),
        keypoints=np.array([annotation["keypoints"] for annotation in found], np.float32).reshape(len(found), -1, 3),
    )


def average_precision(heatmaps: Floats, people: People, labels: dict[str, Any], contract: Contract) -> dict[str, float]:
    """COCO AP, by pycocotools, of the heatmaps `(N, K, h, w)` of the ground-truth boxes."""
    xy, score = decode((heatmaps,), contract)
    xy = to_frame(xy, people.center, people.extent, heatmaps.shape[3], heatmaps.shape[2])
    counted = score > 0.2  # the published person score is the mean over these joints
    confidence = (score * counted).sum(1) / np.maximum(counted.sum(1), 1)
    results = [
        {
            "image_id": int(people.image[i]) + 1,
            "category_id": 1,
            "keypoints": np.column_stack([xy[i], score[i]]).reshape(-1).tolist(),
            "score": float(confidence[i]),
        }
        for i in range(len(people))
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress
        truth = COCO()
        truth.dataset = labels
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR")
    return {name: round(float(value), 4) for name, value in zip(names, evaluation.stats, strict=False)}
