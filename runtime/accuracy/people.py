"""The people that are calibrated on, judged or evaluated: one table of arrays, whatever file they come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle.contract import Contract
from ..metrics import Centers, Dataset, check_protocol
from ..metrics.coco_files import (
    Double,
    Entry,
    Index,
    check,
    image_index,
    images_of,
    joints_of,
    numbers,
    require,
    to_xyxy,
)
from ..pose.preprocess import check_boxes, clip_ground_truth, crop_regions, mpii_center_scale

Float = NDArray[np.float32]

_PERSON = 1  # COCO's category of people


@dataclass(frozen=True)
class People:
    """N people in I images.

    Attributes:
        files: the I image files.
        image: `(N,)` index of each person's file.
        image_ids: N ids of the images, for the records of a results file.
        source: `(N,)` index of each person's record in the file that it was read from.
        xyxy: `(N, 4)` box, px of the frame, not rounded.
        box_score: `(N,)` the detector's; 1 for annotated boxes.
        joints: `(N, K, 3)` annotated x, y in px of the frame and visibility; None if only boxes are known.
        crops: centre and extent `(N, 2)` of the crops, px of the frame, if these are annotated and not boxes (MPII).
    """

    files: tuple[str, ...]
    image: Index
    image_ids: tuple[Any, ...]
    source: Index
    xyxy: Double
    box_score: Float
    joints: Double | None = None
    crops: tuple[Float, Float] | None = None

    def __len__(self) -> int:
        return len(self.image)

    def regions(self, contract: Contract) -> tuple[Float, Float]:
        """Centre and extent `(N, 2)` of the crops that a network takes, px of the frame.

        Raises InputError: a box is not finite or has no area.
        """
        return crop_regions(check_boxes(self.xyxy), contract) if self.crops is None else self.crops

    def by_image(self) -> Iterator[tuple[int, Index]]:
        """The index of each image that has people, in ascending order, and the indices of its people."""
        order = np.argsort(self.image, kind="stable")
        if len(order):
            for group in np.split(order, np.flatnonzero(np.diff(self.image[order])) + 1):
                yield int(self.image[group[0]]), group


def all_annotated(coco: Mapping[str, Any]) -> People:
    """Everyone in an annotation file, crowds included, in the order of the file.

    Boxes need not be finite, and joints are not read: whoever uses the table picks from it. Raises InputError: a record
    lacks `image_id` or `bbox`, or is in an unknown image.
    """
    images_of(coco)
    records: Sequence[Entry] = coco["annotations"]
    require(records, "annotations", ("image_id", "bbox"))
    image = image_index(records, "annotations", _positions(coco))
    xyxy = to_xyxy(numbers(records, "annotations", "bbox", 4, finite=False))
    return _table(coco, records, np.arange(len(records)), image, xyxy)


def labelled_people(coco: Mapping[str, Any]) -> People:
    """Single people with a labelled joint and a box with an area, in the order of the images."""
    source = labelled(coco)
    records = [coco["annotations"][i] for i in source]
    joints = len(records[0]["keypoints"]) // 3 if records else 1
    image, points = joints_of(records, "annotations", _positions(coco), [("keypoints", joints)])
    xyxy = to_xyxy(numbers(records, "annotations", "bbox", 4))
    return _table(coco, coco["annotations"], np.array(source, np.intp), image, xyxy, joints=points)


def labelled(coco: Mapping[str, Any]) -> list[int]:
    """Indices of the annotations of `labelled_people`."""
    order = _positions(coco)
    found = [
        i
        for i, a in enumerate(coco["annotations"])
        if a["num_keypoints"]
        and any(v > 0 for v in a["keypoints"][2::3])
        and not a.get("iscrowd")
        and a["image_id"] in order
        and min(a["bbox"][2:]) > 0
    ]
    return sorted(found, key=lambda i: order[coco["annotations"][i]["image_id"]])


def annotated_people(dataset: Dataset, coco: Mapping[str, Any], protocol: str) -> People:
    """The annotated people, as the published evaluations with ground-truth boxes use them.

    Crowds, people without an area or without any joint, and boxes outside their image are left out. The order is that
    of the images in the file, and within an image that of the annotations.

    Args:
        dataset: one that is scored by parts (COCO-WholeBody) also takes people whose `num_keypoints` is 0.
        coco: the annotation file's content, its images with file_name, width and height.
        protocol: "legacy" (up to MMPose 0.26, boxes are 1 px narrower and lower) or "v029".

    Raises:
        InputError: a record that does not fit, or an unknown protocol.
    """
    check_protocol(protocol)
    images_of(coco)
    annotations: Sequence[Entry] = coco["annotations"]
    require(annotations, "annotations", ("image_id", "bbox"))
    image, joints = joints_of(annotations, "annotations", _positions(coco), dataset.fields)
    require(coco["images"], "images", ("id", "file_name", "width", "height"))
    sizes = np.stack([numbers(coco["images"], "images", side, 0) for side in ("width", "height")], axis=1)
    xywh = numbers(annotations, "annotations", "bbox", 4)
    xyxy, inside = clip_ground_truth(xywh, sizes[image], legacy=protocol == "legacy")
    wanted = [
        not entry.get("iscrowd", 0)
        and entry.get("area", 1) > 0
        and (bool(dataset.parts) or entry.get("num_keypoints", 1) != 0)
        for entry in annotations
    ]
    body = joints[:, : dataset.fields[0][1]]
    has_joints = body.max(axis=(1, 2), initial=-np.inf) != 0
    source = np.flatnonzero(np.array(wanted, np.bool_) & inside & has_joints)
    source = source[np.argsort(image[source], kind="stable")]
    return _table(coco, annotations, source, image[source], xyxy[source], joints=joints[source])


def detected_people(dataset: Dataset, coco: Mapping[str, Any], detections: Sequence[Entry]) -> People:
    """The people of a detector's file, as the published evaluations use them: no clipping, no rounding, no NMS.

    Args:
        dataset: gives the least score of a detection (0.4 for PoseTrack18, else 0).
        coco: the annotation file's content.
        detections: records with image_id, category_id (1 is a person; others are left out), bbox (x, y, width, height)
            and score, as in `COCO_val2017_detections_AP_H_56_person.json`.

    Raises:
        InputError: a record that does not fit, is in an unknown image or has no area.
    """
    images_of(coco)
    require(detections, "detections", ("image_id", "category_id", "bbox", "score"))
    image = image_index(detections, "detections", _positions(coco))
    xywh, score = numbers(detections, "detections", "bbox", 4), numbers(detections, "detections", "score", 0)
    person = np.array([entry["category_id"] == _PERSON for entry in detections], np.bool_)
    source = np.flatnonzero(person & (score >= dataset.detection_threshold))
    taken = [detections[i] for i in source.tolist()]
    empty = xywh[source, 2:].min(axis=1) <= 0
    check(taken, "detections", empty, lambda e: f"has the box {e['bbox']} without an area")
    return _table(coco, detections, source, image[source], to_xyxy(xywh[source]), score[source].astype(np.float32))


def centered_people(centers: Centers) -> People:
    """People who are annotated by a centre and a scale (MPII); ids are 0 to N - 1, and so is `source`."""
    center, extent = mpii_center_scale(centers.center, centers.scale)
    files = tuple(dict.fromkeys(centers.files))
    index = {name: i for i, name in enumerate(files)}
    count = len(centers.files)
    return People(
        files,
        np.array([index[name] for name in centers.files], np.intp),
        tuple(range(count)),
        np.arange(count),
        np.concatenate([center - extent / 2, center + extent / 2], axis=1).astype(np.float64),
        np.ones(count, np.float32),
        crops=(center, extent),
    )


def join_parts(annotation: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """An annotation whose joints lie in several fields (COCO-WholeBody), with all of them in `keypoints`.

    A missing field leaves it with too few joints. Raises InputError: a joint is not a number.
    """
    joints = [v for field in fields if isinstance(annotation.get(field), list) for v in annotation[field]]
    odd = not {int, float}.issuperset(map(type, joints))
    check([annotation], "annotations", [odd], lambda a: f"has joints in {', '.join(fields)} that are not numbers")
    return {**annotation, "keypoints": joints, "num_keypoints": sum(v > 0 for v in joints[2::3])}


def _positions(coco: Mapping[str, Any]) -> dict[Any, int]:
    """The position of each image in the file, by its id."""
    return {record["id"]: i for i, record in enumerate(coco["images"])}


def _table(
    coco: Mapping[str, Any],
    records: Sequence[Entry],
    source: Index,
    image: Index,
    xyxy: Double,
    score: Float | None = None,
    joints: Double | None = None,
) -> People:
    require(coco["images"], "images", ("id", "file_name"))
    files = tuple(record["file_name"] for record in coco["images"])
    ids = tuple(records[i]["image_id"] for i in source.tolist())
    return People(files, image, ids, source, xyxy, np.ones(len(source), np.float32) if score is None else score, joints)
