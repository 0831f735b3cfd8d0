"""PoseTrack18's AP per joint, as its evaluation kit (poseval) computes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .coco_files import Entry, check, check_categories, images_of, joints_of, numbers, read_json, records_of, require
from .spec import Dataset, Metric

Double = NDArray[np.float64]
Bool = NDArray[np.bool_]

GROUPS = {
    "Head": ("head_top", "head_bottom", "nose"),
    "Shou": ("right_shoulder", "left_shoulder"),
    "Elb": ("right_elbow", "left_elbow"),
    "Wri": ("right_wrist", "left_wrist"),
    "Hip": ("right_hip", "left_hip"),
    "Knee": ("right_knee", "left_knee"),
    "Ankl": ("right_ankle", "left_ankle"),
}
_HEAD_SIZE = 0.6  # of the diagonal of the head box
_NEAR = 0.5  # of the head size
_FARTHEST = 1e9  # px


def poseval_metrics(
    dataset: Dataset, coco: Mapping[str, Any], results: Sequence[Entry], protocol: str = "legacy"
) -> dict[str, float]:
    """AP of the joint groups and Total, the mean over the 15 joints, as fractions.

    A prediction is assigned to the annotated person of whom it has most joints right (within half a head size), and a
    person keeps the best of its predictions. Each joint of all frames is then a detection with its own score.

    Args:
        dataset: PoseTrack18.
        coco: `images` (with ignore_regions_x, ignore_regions_y where there are regions) and `annotations` with
            keypoints 17 x [x, y, v] and bbox_head, of all sequences.
        results: records with image_id, keypoints 17 x [x, y, score] and optionally the scores apart, `scores` 17.
        protocol: both give the same.

    Raises:
        InputError: a record that does not fit.
    """
    joint_ap = joint_average_precision(dataset, coco, results)
    index = [dataset.keypoints[joint] for joint in dataset.evaluated].index
    figures = {name: float(joint_ap[[index(joint) for joint in group]].mean()) for name, group in GROUPS.items()}
    return {**figures, "Total": float(joint_ap.mean())}


def joint_average_precision(dataset: Dataset, coco: Mapping[str, Any], results: Sequence[Entry]) -> Double:
    """AP of each evaluated joint, in the order of `dataset.evaluated`; arguments as in `poseval_metrics`."""
    images = images_of(coco)
    annotations: Sequence[Entry] = coco["annotations"]
    fields = [("keypoints", len(dataset.keypoints))]
    require(annotations, "annotations", ("image_id", "bbox_head"))
    truth_image, truth = joints_of(annotations, "annotations", images, fields)
    found_image, found = joints_of(results, "results", images, fields)
    head_box = numbers(annotations, "annotations", "bbox_head", 4)
    empty = head_box[:, 2:].min(axis=1) <= 0
    check(annotations, "annotations", empty, lambda e: f"has the head box {e['bbox_head']}")
    head = _HEAD_SIZE * np.hypot(head_box[:, 2], head_box[:, 3])
    evaluated = list(dataset.evaluated)
    score = found[..., 2]
    if any("scores" in entry for entry in results):
        require(results, "results", ("scores",))
        score = numbers(results, "results", "scores", len(dataset.keypoints))
    truth, found = truth[:, evaluated], found[:, evaluated]
    truth_seen, found_seen = (truth != 0).any(axis=2), (found != 0).any(axis=2)  # a joint at 0, 0, 0 is absent
    labelled = np.zeros(len(evaluated), np.int64)
    kept: list[tuple[Double, Bool, Bool]] = []
    for image in coco["images"]:
        index = images[image["id"]]
        people = np.flatnonzero(truth_image == index)
        if not len(people):
            continue  # a frame without annotated people is not evaluated
        found_here = np.flatnonzero(found_image == index)
        there, here = truth_seen[people], found_seen[found_here]
        regions = _regions(image)
        if regions:
            there &= ~_inside(regions, truth[people, :, :2])
            here &= ~_inside(regions, found[found_here, :, :2])
            people, there = people[there.any(axis=1)], there[there.any(axis=1)]
            found_here, here = found_here[here.any(axis=1)], here[here.any(axis=1)]
        labelled += there.sum(axis=0)
        distance = np.linalg.norm(found[found_here, None, :, :2] - truth[people, :, :2], axis=3)
        match = (distance / head[people][None, :, None] <= _NEAR) & here[:, None] & there[None]
        kept.append((score[found_here][:, evaluated], _assigned(match, there), here))
    if not kept:
        return np.zeros(len(evaluated))
    scores, right, seen = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    return np.array([_average_precision(scores[s, j], right[s, j], int(labelled[j])) for j, s in enumerate(seen.T)])


def _assigned(match: Bool, there: Bool) -> Bool:
    """`(P, J)` which joints of P predictions are right, from `(P, G, J)` matches with G people."""
    right = np.zeros((match.shape[0], match.shape[2]), np.bool_)
    if 0 in match.shape[:2]:
        return right
    share = match.sum(axis=2) / np.maximum(there.sum(axis=1), 1)
    best = share.argmax(axis=1)
    mine = np.zeros_like(share)
    rows = np.arange(len(share))
    mine[rows, best] = share[rows, best]
    owner = mine.argmax(axis=0)
    for person in np.flatnonzero(mine.max(axis=0) > 0):
        right[owner[person]] = match[owner[person], person]
    return right


def _average_precision(score: Double, right: Bool, labelled: int) -> float:
    """Area under the monotone precision over recall; 0 for a joint that is never labelled."""
    if not labelled or not len(score):
        return 0.0
    order = np.argsort(score, kind="stable")[::-1]
    hits = right[order].cumsum()
    recall = np.concatenate([[0], hits / labelled, [1]])
    precision = np.concatenate([[0], hits / np.arange(1, len(hits) + 1), [0]])
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    step = np.flatnonzero(recall[1:] != recall[:-1]) + 1
    return float(((recall[step] - recall[step - 1]) * precision[step]).sum())


def _regions(image: Mapping[str, Any]) -> list[Double]:
    """The ignored regions of an image, polygons `(V, 2)`."""
    xs, ys = image.get("ignore_regions_x") or [], image.get("ignore_regions_y") or []
    try:
        if len(xs) != len(ys):
            raise InputError(
                f"image {image['id']!r:.60} has ignore_regions_x of {len(xs)} polygons and ignore_regions_y of "
                f"{len(ys)}"
            )
        polygons = [np.array([x, y], np.float64).T.reshape(-1, 2) for x, y in zip(xs, ys, strict=True)]
        if not all((np.abs(polygon) <= _FARTHEST).all() for polygon in polygons):
            raise ValueError(f"they hold NaN or numbers beyond {_FARTHEST:g} px")
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"image {image['id']!r:.60} has ignore regions that are not polygons: {error}") from error
    return [polygon for polygon in polygons if len(polygon)]


def _inside(polygons: Sequence[Double], points: Double) -> Bool:
    """Which of the points `(..., 2)` lie inside a polygon; a point on the border does not (shapely's `contains`)."""
    x, y = points[..., 0, None], points[..., 1, None]
    inside = np.zeros(points.shape[:-1], np.bool_)
    for polygon in polygons:
        (x1, y1), (x2, y2) = polygon.T, np.roll(polygon, 1, axis=0).T
        # Inside: a ray to the right crosses the border an odd number of times.
        straddles = (y1 > y) != (y2 > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            crosses = straddles & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
        on_line = (x2 - x1) * (y - y1) == (x - x1) * (y2 - y1)
        within = (np.minimum(x1, x2) <= x) & (x <= np.maximum(x1, x2))
        within &= (np.minimum(y1, y2) <= y) & (y <= np.maximum(y1, y2))
        inside |= (crosses.sum(axis=-1) % 2 == 1) & ~(on_line & within).any(axis=-1)
    return inside


def read_sequences(path: Path) -> Mapping[str, Any]:
    """PoseTrack18's annotations, merged: a folder with one file per sequence, or one file."""
    sequences = _sequences(path)
    names = ("images", "annotations", "categories")
    found = {name: [entry for one in sequences for entry in one.get(name, ())] for name in names}
    check_categories(found)
    return found


def read_results(path: Path) -> list[Entry]:
    """Records of a results file, of one sequence's file, or of a folder of those."""
    if path.is_dir():
        return [entry for one in _sequences(path) for entry in one["annotations"]]
    content = read_json(path)
    if isinstance(content, Mapping) and "images" not in content:
        content = content.get("annotations", content)
    return records_of(content, path)


def _sequences(path: Path) -> list[Mapping[str, Any]]:
    """The contents of a folder's JSON files in the order of their names, or of one file."""
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} holds no .json file")
    found: list[Mapping[str, Any]] = []
    for file in files:
        content = read_json(file)
        found += content if isinstance(content, list) else [content]
    for index, sequence in enumerate(found):
        if not isinstance(sequence, Mapping) or "annotations" not in sequence:
            raise InputError(f"{path}: sequence {index} is not an object with `images` and `annotations`")
        for name in ("images", "annotations", "categories"):
            if not isinstance(sequence.get(name, []), list):
                raise InputError(f"{path}: `{name}` of sequence {index} is no list")
    return found


POSEVAL = Metric(poseval_metrics, read_sequences, read_results)
