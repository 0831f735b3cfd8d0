"""PoseTrack18's AP per joint and its MOTA, as its evaluation kit (poseval) computes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .coco_files import Entry, check_categories, read_json, records_of
from .poseval_frames import frames
from .poseval_tracking import has_tracks, tracking_metrics
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


def poseval_metrics(
    dataset: Dataset, coco: Mapping[str, Any], results: Sequence[Entry], protocol: str = "legacy"
) -> dict[str, float]:
    """AP of the joint groups and Total, the mean over the 15 joints, as fractions.

    A prediction is assigned to the annotated person of whom it has most joints right (within half a head size), and a
    person keeps the best of its predictions. Each joint of all frames is then a detection with its own score.

    Args:
        dataset: PoseTrack18.
        coco: `images` (with ignore_regions_x, ignore_regions_y where there are regions) and `annotations` with
            keypoints 17 x [x, y, v], bbox_head and track_id, of all sequences.
        results: records with image_id, keypoints 17 x [x, y, score], optionally the scores apart, `scores` 17, and
            track_id.
        protocol: both give the same.

    Raises:
        InputError: a record that does not fit.
    """
    return _by_group(dataset, joint_average_precision(dataset, coco, results))


def poseval_tracking(dataset: Dataset, coco: Mapping[str, Any], results: Sequence[Entry]) -> dict[str, float]:
    """MOTA of the same groups, and the number of people's switches of identity; arguments as above.

    Empty where annotations or results have no `track_id`.
    """
    if not has_tracks(coco, results):
        return {}
    joints, switches = tracking_metrics(dataset, coco, results)
    figures = {f"MOTA {name}": value for name, value in _by_group(dataset, joints).items()}
    return figures | {"id switches": float(switches)}


def _by_group(dataset: Dataset, joints: Double) -> dict[str, float]:
    """Means of the groups and of all joints, from a figure of each evaluated joint; without those that have none."""
    index = [dataset.keypoints[joint] for joint in dataset.evaluated].index
    groups = {name: joints[[index(joint) for joint in group]] for name, group in GROUPS.items()} | {"Total": joints}
    return {name: float(np.nanmean(some)) if np.isfinite(some).any() else float("nan") for name, some in groups.items()}


def joint_average_precision(dataset: Dataset, coco: Mapping[str, Any], results: Sequence[Entry]) -> Double:
    """AP of each evaluated joint, in the order of `dataset.evaluated`; arguments as in `poseval_metrics`."""
    labelled = np.zeros(len(dataset.evaluated), np.int64)
    kept: list[tuple[Double, Bool, Bool]] = []
    for frame in frames(dataset, coco, results):
        labelled += frame.there.sum(axis=0)
        kept.append((frame.score, _assigned(frame.match, frame.there), frame.here))
    if not kept:
        return np.zeros(len(labelled))
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


POSEVAL = Metric(poseval_metrics, read_sequences, read_results, tracking=poseval_tracking)
