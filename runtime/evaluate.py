"""Score a results file against annotations, by the published protocol of the data set.

score_file("coco", "person_keypoints_val2017.json", "results.json")
{"dataset": "coco", "protocol": "legacy", "metrics": {"AP": 0.744, ...}}
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .datasets import Dataset, check_protocol, dataset, datasets
from .errors import InputError
from .metrics.coco_files import read_json
from .metrics.oks import evaluate_oks
from .metrics.oks_parts import crowdpose_metrics, wholebody_metrics
from .metrics.pckh import pckh_metrics, predictions_of
from .metrics.poseval import poseval_metrics

_log = logging.getLogger(__name__)


def score_file(
    dataset_name: str, annotations: str | Path, results: str | Path, protocol: str = "legacy"
) -> dict[str, Any]:
    """Metrics of a results file, with no model at all.

    Args:
        dataset_name: one of `posert.runtime.datasets.datasets()`.
        annotations: the data set's annotation file. For PoseTrack18 also a folder with a file per sequence; for MPII
            `mpii_gt_val.mat` (needs scipy), or its arrays as .npz or .json.
        results: a JSON list of records. For PoseTrack18 also a folder with a file per sequence; for MPII also
            `pred.mat` or .npz with `preds`, 1-based, as MMPose and the HRNet repository write it.
        protocol: "legacy", which the published tables were made with, or "v029", that of MMPose 0.29.

    Returns:
        `dataset`, `protocol` and `metrics`, the figures as fractions.

    Raises:
        CatalogError: an unknown data set.
        InputError: a file that cannot be read, or a record that does not fit; the first one is named.
    """
    check_protocol(protocol)
    which = dataset(dataset_name)
    metrics = _METRICS[which.metric](which, Path(annotations), Path(results), protocol)
    return {"dataset": dataset_name, "protocol": protocol, "metrics": metrics}


def _oks(which: Dataset, annotations: Path, results: Path, protocol: str) -> dict[str, float]:
    coco, records = _coco(which, annotations), _records(results)
    # COCO's published evaluation is COCO's own; MMPose, whose tables the others come from, has a relative of it
    rules = "pycocotools" if which.name == "coco" and protocol == "legacy" else "xtcocotools"
    scored = evaluate_oks(coco, records, which.sigmas_for(protocol), use_area=which.use_area, rules=rules)
    if scored.left_out:
        _log.warning(
            "%d of %d results have no joint with a positive score: the rules of MMPose leave them out",
            scored.left_out,
            len(records),
        )
    return scored.metrics


def _crowd(which: Dataset, annotations: Path, results: Path, protocol: str) -> dict[str, float]:
    return crowdpose_metrics(which, _coco(which, annotations), _records(results))


def _parts(which: Dataset, annotations: Path, results: Path, protocol: str) -> dict[str, float]:
    return wholebody_metrics(which, _coco(which, annotations), _records(results))


def _pckh(which: Dataset, annotations: Path, results: Path, protocol: str) -> dict[str, float]:
    if results.suffix.lower() in (".mat", ".npz"):
        arrays = _arrays(results)
        if "preds" not in arrays or np.shape(arrays["preds"])[1:2] != (len(which.keypoints),):
            raise InputError(f"{results} lacks `preds` (people, {len(which.keypoints)}, 2); it has {sorted(arrays)}")
        predictions = np.asarray(arrays["preds"], np.float64)[..., :2] - 1
        if not np.isfinite(predictions).all():
            raise InputError(f"{results}: `preds` holds {int((~np.isfinite(predictions)).sum())} NaN")
    else:
        predictions = predictions_of(which, _records(results))
    return pckh_metrics(which, _arrays(annotations), predictions, protocol)


def _poseval(which: Dataset, annotations: Path, results: Path, protocol: str) -> dict[str, float]:
    sequences = _sequences(annotations)
    coco = {
        name: [entry for sequence in sequences for entry in sequence.get(name, ())]
        for name in ("images", "annotations")
    }
    check_names(which, sequences[0])
    records = []
    for part in _sequences(results) if results.is_dir() else [read_json(results)]:
        records += part.get("annotations", []) if isinstance(part, Mapping) else part
    return poseval_metrics(which, coco, records)


_METRICS: dict[str, Callable[[Dataset, Path, Path, str], dict[str, float]]] = {
    "oks": _oks,
    "oks_crowd": _crowd,
    "oks_parts": _parts,
    "pckh": _pckh,
    "poseval": _poseval,
}


def check_names(which: Dataset, coco: Mapping[str, Any]) -> None:
    """InputError if the annotations name the joints of another data set than `which`."""
    for category in coco.get("categories", ()):
        names = tuple(category.get("keypoints", ())) if isinstance(category, Mapping) else ()
        other = next((name for name in datasets() if dataset(name).keypoints == names), which.name)
        if names != which.keypoints and other != which.name:
            raise InputError(
                f"the annotations are of {other} ({', '.join(names[:3])}, ...), not of {which.name}: "
                f"use --dataset {other}"
            )


def _coco(which: Dataset, path: Path) -> Mapping[str, Any]:
    coco = read_json(path)
    if not isinstance(coco, Mapping):
        raise InputError(f"{path} must be an object with `images` and `annotations`, not {type(coco).__name__}")
    check_names(which, coco)
    return coco


def _records(path: Path) -> Sequence[Mapping[str, Any]]:
    records = read_json(path)
    if not isinstance(records, list):
        seen = f"an object with {sorted(records)}" if isinstance(records, Mapping) else type(records).__name__
        raise InputError(f"{path} must be a list of results, not {seen}: are annotations and results exchanged?")
    return records


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
    return found


def _arrays(path: Path) -> dict[str, Any]:
    """Named arrays of a .mat, .npz or .json file."""
    if path.suffix.lower() == ".json":
        content = read_json(path)
        if not isinstance(content, dict):
            raise InputError(f"{path} must be an object of arrays, not {type(content).__name__}")
        return content
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
        from scipy.io import loadmat  # heavy, and wanted by this one format only

        return {name: value for name, value in loadmat(path).items() if not name.startswith("__")}
    except ImportError as error:
        raise InputError(f"{path} is a .mat file, which scipy reads: pip install scipy") from error
    except (OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
