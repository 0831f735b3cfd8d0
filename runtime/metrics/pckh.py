"""MPII's PCKh: the share of joints within half a head size of the annotated position."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ..system.input_file import read_file
from .coco_files import Entry, check, numbers, read_json, records_of, require
from .mat_file import read_mat
from .spec import Centers, Dataset, Metric

GROUPS = {
    "Head": ("head_top",),
    "Shoulder": ("left_shoulder", "right_shoulder"),
    "Elbow": ("left_elbow", "right_elbow"),
    "Wrist": ("left_wrist", "right_wrist"),
    "Hip": ("left_hip", "right_hip"),
    "Knee": ("left_knee", "right_knee"),
    "Ankle": ("left_ankle", "right_ankle"),
}
_HEAD_SIZE = 0.6  # of the diagonal of the head box
_STRICT = {"legacy": np.arange(0, 0.51, 0.01)[11], "v029": np.arange(0, 0.51, 0.01)[10]}
"""The published tables take `Mean@0.1` at 0.11: their code reads the wrong index of the list of thresholds."""
_FARTHEST = 1e9  # px
_MOST_BYTES = 1 << 28  # MPII's own file has 1.3 MB
_GROUND_TRUTH = ("mpii_gt_val.mat", "mpii_gt_val.npz")


def pckh_metrics(dataset: Dataset, truth: Mapping[str, ArrayLike], results: Any, protocol: str) -> dict[str, float]:
    """PCKh of the joint groups, Mean and Mean@0.1, as fractions.

    Args:
        dataset: MPII.
        truth: the arrays of MPII's `mpii_gt_val.mat`: pos_gt_src `(16, 2, N)`, 1-based px, jnt_missing `(16, N)`,
            headboxes_src `(2, 2, N)`, two corners.
        results: records, see `predictions_of`, or an array `(N, 16, 2)`, 0-based px.
        protocol: "legacy" or "v029".

    Raises:
        InputError: an array is missing, has another shape than the predictions need, or is not finite.
    """
    predictions = results if isinstance(results, np.ndarray) else predictions_of(dataset, results)
    count, joints = len(predictions), len(dataset.keypoints)
    if predictions.shape != (count, joints, 2):
        raise InputError(f"the predictions have the shape {predictions.shape}, expected ({count}, {joints}, 2)")
    shapes = {"pos_gt_src": (joints, 2, count), "jnt_missing": (joints, count), "headboxes_src": (2, 2, count)}
    arrays = {}
    for name, shape in shapes.items():
        if name not in truth:
            raise InputError(f"the MPII ground truth lacks {name!r}; it has {', '.join(sorted(truth))}")
        array = arrays[name] = _numeric(truth[name], f"{name} of the MPII ground truth")
        if array.shape != shape:
            raise InputError(
                f"{name} of the MPII ground truth has the shape {array.shape}, expected {shape} for {count} results: "
                "every annotated person has one result"
            )
        if not np.isfinite(array).all():
            raise InputError(f"{name} of the MPII ground truth holds {int((~np.isfinite(array)).sum())} NaN")
        if np.abs(array).max(initial=0) > _FARTHEST:
            raise InputError(f"{name} of the MPII ground truth holds numbers beyond {_FARTHEST:g} px")
    # 1-based like the annotations, in single precision like the predictions of the published evaluations
    points = (predictions.astype(np.float32) + np.float32(1)).astype(np.float64).transpose(1, 2, 0)
    corner, opposite = arrays["headboxes_src"]
    head = _HEAD_SIZE * np.sqrt(((opposite - corner) ** 2).sum(axis=0))
    if not (head > 0).all():
        raise InputError(f"headboxes_src of person {int((head <= 0).argmax())} has no size")
    error = np.sqrt(((points - arrays["pos_gt_src"]) ** 2).sum(axis=1)) / head
    visible = arrays["jnt_missing"] == 0
    seen = visible.sum(axis=1)
    if not seen.all():
        raise InputError(f"no {dataset.keypoints[int(seen.argmin())]} is visible in the MPII ground truth")

    def percent(threshold: float) -> NDArray[np.float64]:
        return np.asarray(100.0 * ((error <= threshold) & visible).sum(axis=1) / seen)

    half, strict = percent(0.5), percent(_STRICT[protocol])
    evaluated = list(dataset.evaluated)
    share = seen[evaluated] / seen[evaluated].sum()
    index = dataset.keypoints.index
    figures = {name: np.mean([half[index(joint)] for joint in group]) for name, group in GROUPS.items()}
    figures["Mean"] = (half[evaluated] * share).sum()
    figures["Mean@0.1"] = (strict.astype(np.float32)[evaluated] * share).sum()
    return {name: float(value) / 100 for name, value in figures.items()}


def predictions_of(dataset: Dataset, results: Any) -> NDArray[np.float64]:
    """`(N, 16, 2)` 0-based px from a results file: records with `keypoints` 16 x [x, y, score].

    `image_id` (0..N-1) is the number of the annotated person; records without it are in the order of the people. Raises
    InputError: a record that does not fit.
    """
    require(results, "results", ("keypoints",))
    records: Sequence[Entry] = results
    joints = len(dataset.keypoints)
    points = numbers(records, "results", "keypoints", 3 * joints).reshape(len(records), joints, 3)
    if records and all("image_id" in record for record in records):
        ids = [record["image_id"] for record in records]
        unknown = (type(i) is not int or not 0 <= i < len(ids) for i in ids)
        expected = f"expected numbers from 0 to {len(ids) - 1}, one each"
        check(records, "results", unknown, lambda e: f"is of person {e['image_id']!r}, {expected}")
        if len(set(ids)) != len(ids):
            raise InputError(f"results: {len(ids) - len(set(ids))} people have more than one record")
        points = points[np.argsort(ids)]
    return points[..., :2]


def read_centers(path: Path) -> tuple[Centers, Path]:
    """The people of `mpii_val.json`, and the ground truth of PCKh beside it.

    Raises InputError: a file is missing or cannot be read, or a record does not fit.
    """
    people = read_json(path)
    require(people, "annotations", ("image", "center", "scale"))
    truth = next((path.with_name(name) for name in _GROUND_TRUTH if path.with_name(name).is_file()), None)
    if truth is None:
        raise InputError(f"beside {path} there must be {' or '.join(_GROUND_TRUTH)}, the ground truth of PCKh")
    center, scale = numbers(people, "annotations", "center", 2), numbers(people, "annotations", "scale", 0)
    return Centers(tuple(person["image"] for person in people), center, scale), truth


def read_predictions(path: Path) -> Any:
    """Records of a results file; or of a .mat or .npz file the array `preds` as `(N, K, 2)` 0-based px."""
    if path.suffix.lower() not in (".mat", ".npz"):
        return records_of(read_json(path), path)
    arrays = read_arrays(path)
    predictions = _numeric(arrays.get("preds", 0), f"`preds` of {path}")
    if predictions.ndim != 3:
        raise InputError(f"{path} lacks `preds` (people, joints, 2); it has {sorted(arrays)}")
    bad = ~(np.abs(predictions) <= _FARTHEST)
    if bad.any():
        raise InputError(f"{path}: `preds` holds {int(bad.sum())} NaN or numbers beyond {_FARTHEST:g} px")
    return predictions[..., :2] - 1


def read_arrays(path: Path) -> dict[str, Any]:
    """Named arrays of a .mat, .npz or .json file, such as those of `mpii_gt_val.mat`."""
    if path.suffix.lower() == ".json":
        content = read_json(path)
        if not isinstance(content, dict):
            raise InputError(f"{path} must be an object of arrays, not {type(content).__name__}")
        return content
    try:
        return (
            _read_npz(path)
            if path.suffix.lower() == ".npz"
            else {**read_mat(read_file(path, _MOST_BYTES), _MOST_BYTES)}
        )
    except Exception as error:  # numpy reads a damaged file with exceptions of every kind
        raise InputError(f"cannot read {path}: {error}") from error


def _read_npz(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > _MOST_BYTES:
        raise ValueError(f"its arrays have {size} bytes, expected at most {_MOST_BYTES}")
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _numeric(value: Any, what: str) -> NDArray[np.float64]:
    """An array of numbers as float64; InputError for text, objects, complex numbers and lists of unequal length."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"{what} is no array: {error}") from error
    if array.dtype.kind not in "biuf":
        raise InputError(f"{what} is of the type {array.dtype}, expected numbers")
    return array.astype(np.float64)


PCKH = Metric(pckh_metrics, read_arrays, read_predictions, read_centers, oks_nms=False)
