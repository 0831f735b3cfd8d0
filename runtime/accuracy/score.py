"""Score a results file against annotations, by the published protocol of the data set.

score_file("coco", "person_keypoints_val2017.json", "results.json")
{"dataset": "coco", "protocol": "legacy", "metrics": {"AP": 0.744, ...}}
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets import Dataset, check_protocol, dataset, datasets
from ..errors import InputError
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
    truth, found = read_annotations(which, annotations), _read_results(which, Path(results))
    return {"dataset": dataset_name, "protocol": protocol, "metrics": score(which, truth, found, protocol)}


def score(which: Dataset, truth: Mapping[str, Any], results: Any, protocol: str) -> dict[str, float]:
    """Metrics of results that were read already.

    Args:
        which: the data set.
        truth: what `read_annotations` gives.
        results: records as in a results file; for MPII also the predictions `(N, 16, 2)`, 0-based px.
        protocol: "legacy" or "v029".

    Raises:
        InputError: a record that does not fit, or an unknown protocol.
    """
    check_protocol(protocol)
    if which.metric == "pckh":  # which refuses anything but one result for everyone
        predictions = results if isinstance(results, np.ndarray) else predictions_of(which, results)
        return pckh_metrics(which, truth, predictions, protocol)
    metrics = _metrics(which, truth, results, protocol)
    for amiss in _amiss(which, truth, results):
        _log.warning("%s", amiss)
    return metrics


def _metrics(
    which: Dataset, truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], protocol: str
) -> dict[str, float]:
    if which.metric == "oks":
        # COCO's published evaluation is COCO's own; MMPose, whose tables the others come from, has a relative of it
        rules = "pycocotools" if which.name == "coco" and protocol == "legacy" else "xtcocotools"
        scored = evaluate_oks(truth, results, which.sigmas_for(protocol), use_area=which.use_area, rules=rules)
        if scored.left_out:
            _log.warning(
                "%d of %d results have no joint with a positive score: the rules of MMPose leave them out",
                scored.left_out,
                len(results),
            )
        return scored.metrics
    return _OTHERS[which.metric](which, truth, results)


_OTHERS: dict[str, Callable[[Dataset, Mapping[str, Any], Sequence[Mapping[str, Any]]], dict[str, float]]] = {
    "oks_crowd": crowdpose_metrics,
    "oks_parts": wholebody_metrics,
    "poseval": poseval_metrics,
}


def _amiss(which: Dataset, truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What makes a figure lower than the network is, though every record fits."""
    if not results:
        yield "the list of results is empty"
        return
    people = [a for a in truth["annotations"] if not a.get("iscrowd") and a.get("num_keypoints", 1)]
    annotated = dict.fromkeys(a["image_id"] for a in people)
    seen = {record["image_id"] for record in results}
    missed = [image for image in annotated if image not in seen]
    if missed:
        yield f"{len(missed)} of {len(annotated)} annotated images have no result, such as {missed[0]}"
    # Joints are compared only of those that agree in image and score: of 100,000 results that are few.
    keys = [(record["image_id"], str(record.get("score"))) for record in results]
    count = Counter(keys)
    fields = ["keypoints", "scores", *(field for _, field, _, _ in which.parts)]
    alike = [
        (key, *(tuple(record.get(field, ())) for field in fields))
        for key, record in zip(keys, results, strict=True)
        if count[key] > 1
    ]
    repeated = len(alike) - len(set(alike))
    if repeated:
        yield f"{repeated} of {len(results)} results repeat another one exactly"


def read_annotations(which: Dataset, path: str | Path) -> Mapping[str, Any]:
    """A data set's annotation file, or PoseTrack18's folder of them, merged; MPII's arrays.

    Raises:
        InputError: it cannot be read, or names the joints of another data set.
    """
    path = Path(path)
    if which.metric == "pckh":
        return _arrays(path)
    if which.metric != "poseval":
        coco = read_json(path)
        if not isinstance(coco, Mapping):
            raise InputError(f"{path} must be an object with `images` and `annotations`, not {type(coco).__name__}")
        check_names(which, coco)
        return coco
    sequences = _sequences(path)
    check_names(which, sequences[0])
    return {name: [entry for one in sequences for entry in one.get(name, ())] for name in ("images", "annotations")}


def _read_results(which: Dataset, path: Path) -> Any:
    if which.metric == "pckh" and path.suffix.lower() in (".mat", ".npz"):
        arrays = _arrays(path)
        if "preds" not in arrays or np.shape(arrays["preds"])[1:2] != (len(which.keypoints),):
            raise InputError(f"{path} lacks `preds` (people, {len(which.keypoints)}, 2); it has {sorted(arrays)}")
        predictions = np.asarray(arrays["preds"], np.float64)[..., :2] - 1
        if not np.isfinite(predictions).all():
            raise InputError(f"{path}: `preds` holds {int((~np.isfinite(predictions)).sum())} NaN")
        return predictions
    if which.metric == "poseval" and path.is_dir():
        return [entry for one in _sequences(path) for entry in one["annotations"]]
    records = read_json(path)
    if which.metric == "poseval" and isinstance(records, Mapping) and "images" not in records:
        records = records.get("annotations", records)
    if not isinstance(records, list):
        seen = f"an object with {sorted(records)}" if isinstance(records, Mapping) else type(records).__name__
        raise InputError(f"{path} must be a list of results, not {seen}: are annotations and results exchanged?")
    return records


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
