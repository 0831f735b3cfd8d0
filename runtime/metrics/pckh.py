"""MPII's PCKh: the share of joints within half a head size of the annotated position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from .coco_files import Entry, check, numbers, read_json, records_of, require
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
        array = arrays[name] = np.asarray(truth[name], np.float64)
        if array.shape != shape:
            raise InputError(
                f"{name} of the MPII ground truth has the shape {array.shape}, expected {shape} for {count} results: "
                "every annotated person has one result"
            )
        if not np.isfinite(array).all():
            raise InputError(f"{name} of the MPII ground truth holds {int((~np.isfinite(array)).sum())} NaN")
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
    points = numbers(records, "results", "keypoints", 3 * len(dataset.keypoints)).reshape(len(records), -1, 3)
    if records and all("image_id" in record for record in records):
        ids = [record["image_id"] for record in records]
        unknown = (not isinstance(i, int) or not 0 <= i < len(ids) for i in ids)
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
    if np.ndim(arrays.get("preds", 0)) != 3:
        raise InputError(f"{path} lacks `preds` (people, joints, 2); it has {sorted(arrays)}")
    predictions = np.asarray(arrays["preds"], np.float64)[..., :2] - 1
    if not np.isfinite(predictions).all():
        raise InputError(f"{path}: `preds` holds {int((~np.isfinite(predictions)).sum())} NaN")
    return predictions


def read_arrays(path: Path) -> dict[str, Any]:
    """Named arrays of a .mat, .npz or .json file, such as those of `mpii_gt_val.mat`."""
    if path.suffix.lower() == ".json":
        content = read_json(path)
        if not isinstance(content, dict):
            raise InputError(f"{path} must be an object of arrays, not {type(content).__name__}")
        return content
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
        from scipy.io import loadmat  # heavy, and needed by this format only

        return {name: value for name, value in loadmat(path).items() if not name.startswith("__")}
    except ImportError as error:
        raise InputError(f"{path} is a .mat file, which scipy reads: pip install scipy") from error
    except (OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


PCKH = Metric(pckh_metrics, read_arrays, read_predictions, read_centers, oks_nms=False)
