"""Where an evaluation's people come from: a detector's file, or the annotations themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets import Dataset, check_protocol
from ..pose.preprocess import clip_ground_truth
from .metrics.coco_files import Entry, check, images_of, numbers, people_of, require

_PERSON = 1


@dataclass(frozen=True)
class Boxes:
    """N boxes of people in the images of an annotation file.

    Attributes:
        image_ids: N ids.
        xyxy: `(N, 4)` float64, px of the frame, not rounded.
        score: `(N,)` float32, the detector's; 1 for annotated boxes.
        source: `(N,)` index of each box's record in the file that it was read from.
    """

    image_ids: tuple[Any, ...]
    xyxy: NDArray[np.float64]
    score: NDArray[np.float32]
    source: NDArray[np.intp]


def detected_boxes(dataset: Dataset, coco: Mapping[str, Any], detections: Sequence[Entry]) -> Boxes:
    """The boxes of a detector's file, as the published evaluations use them: no clipping, no rounding, no suppression.

    Only people (category 1) with at least the data set's `detection_threshold` are taken.

    Args:
        dataset: gives the threshold (0.4 for PoseTrack18, else 0).
        coco: the annotation file's content.
        detections: records with image_id, category_id, bbox (x, y, width, height) and score, as in
            `COCO_val2017_detections_AP_H_56_person.json`.

    Raises:
        InputError: a record that does not fit, is in an unknown image or has no area.
    """
    images = images_of(coco)
    require(detections, "detections", ("image_id", "category_id", "bbox", "score"))
    check(
        detections,
        "detections",
        (entry["image_id"] not in images.position for entry in detections),
        lambda e: f"is in image {e['image_id']!r}, which is not in the annotations",
    )
    box, score = numbers(detections, "detections", "bbox", 4), numbers(detections, "detections", "score", 0)
    person = np.array([entry["category_id"] == _PERSON for entry in detections], np.bool_)
    source = np.flatnonzero(person & (score >= dataset.detection_threshold))
    taken = [detections[i] for i in source.tolist()]
    check(
        taken,
        "detections",
        (min(b[2:]) <= 0 for b in box[source]),
        lambda e: f"has the box {e['bbox']} without an area",
    )
    xyxy = np.concatenate([box[source, :2], box[source, :2] + box[source, 2:]], axis=1)
    return Boxes(tuple(entry["image_id"] for entry in taken), xyxy, score[source].astype(np.float32), source)


def annotated_boxes(dataset: Dataset, coco: Mapping[str, Any], protocol: str) -> Boxes:
    """The boxes of the annotated people, as the evaluations with ground-truth boxes use them.

    Crowds, people without an area or without any joint, and boxes that lie outside their image are left out. The order
    is that of the images in the file, and within an image that of the annotations.

    Args:
        dataset: COCO-WholeBody takes people whose `num_keypoints` is 0.
        coco: the annotation file's content, its images with width and height.
        protocol: "legacy" (boxes are 1 px narrower and lower, up to MMPose 0.26) or "v029".

    Raises:
        InputError: a record that does not fit, or an unknown protocol.
    """
    check_protocol(protocol)
    images = images_of(coco)
    annotations: Sequence[Entry] = coco["annotations"]
    require(annotations, "annotations", ("image_id", "bbox"))
    fields = [(field, last - first) for _, field, first, last in dataset.parts]
    people = people_of(annotations, "annotations", images, fields or [("keypoints", len(dataset.keypoints))])
    require(coco["images"], "images", ("id", "width", "height"))
    sizes = np.stack([numbers(coco["images"], "images", side, 0) for side in ("width", "height")], axis=1)
    rank = {image["id"]: index for index, image in enumerate(coco["images"])}
    place = np.array([rank[entry["image_id"]] for entry in annotations], np.intp)
    box, inside = clip_ground_truth(
        numbers(annotations, "annotations", "bbox", 4), sizes[place], legacy=protocol == "legacy"
    )
    wanted = np.array(
        [
            not entry.get("iscrowd", 0)
            and entry.get("area", 1) > 0
            and (bool(dataset.parts) or entry.get("num_keypoints", 1) != 0)
            for entry in annotations
        ],
        np.bool_,
    )
    body = people.joints[:, : dataset.parts[0][3]] if dataset.parts else people.joints
    labelled = body.reshape(len(body), -1).max(axis=1, initial=-np.inf) != 0
    source = np.flatnonzero(wanted & inside & labelled)
    source = source[np.argsort(place[source], kind="stable")]
    return Boxes(
        tuple(annotations[i]["image_id"] for i in source.tolist()),
        box[source],
        np.ones(len(source), np.float32),
        source,
    )
