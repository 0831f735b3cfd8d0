"""Score a results file against annotations, by the published protocol of the data set.

score_file("coco", "person_keypoints_val2017.json", "results.json")
{"dataset": "coco", "protocol": "legacy", "metrics": {"AP": 0.744, ...}}
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..bundle.contract import Contract
from ..datasets import DATASETS, dataset, datasets
from ..errors import InputError, naming
from ..metrics import Dataset, check_protocol
from ..metrics.coco_files import Entry, check, wrong_count
from ..metrics.oks import OKS
from ..metrics.pck import PCK

_log = logging.getLogger(__name__)


def score_file(
    dataset_name: str, annotations: str | Path, results: str | Path, protocol: str = "legacy"
) -> dict[str, Any]:
    """Metrics of a results file; no model is needed.

    Args:
        dataset_name: one of `posert.runtime.datasets.datasets()`.
        annotations: the data set's annotation file. PoseTrack18: also a folder with a file per sequence. MPII:
            `mpii_gt_val.mat`, or its arrays as .npz or .json.
        results: a JSON list of records. PoseTrack18: also a folder with a file per sequence. MPII: also `pred.mat` or
            .npz with `preds`, 1-based, as MMPose and the HRNet repository write it.
        protocol: "legacy", of the published tables, or "v029", of MMPose 0.29.

    Returns:
        `dataset`, `protocol` and `metrics`, the figures as fractions; `tracking`, if the results have identities.

    Raises:
        CatalogError: an unknown data set.
        InputError: a file that cannot be read, or a record that does not fit; the first one is named.
    """
    check_protocol(protocol)
    which = dataset(dataset_name)
    with naming(annotations, results):
        truth = read_annotations(which, annotations)
        found = which.metric.read_results(Path(results))
        report: dict[str, Any] = {"dataset": dataset_name, "protocol": protocol}
        report["metrics"] = score(which, truth, found, protocol)
        if which.metric.tracking is not None and (tracking := which.metric.tracking(which, truth, found)):
            report["tracking"] = tracking
    return report


def dataset_of(contract: Contract, nms: bool = False) -> Dataset:
    """The data set of a contract: the known one of its name with these joints, or one made of the contract alone.

    The latter is scored by OKS, or by PCK where the contract has no sigmas; `nms`: after duplicates were removed.
    """
    if contract.dataset in datasets() and dataset(contract.dataset).keypoints == contract.keypoints:
        return dataset(contract.dataset)
    c = contract
    metric = replace(OKS, oks_nms=nms) if c.sigmas else PCK
    return Dataset(c.dataset, c.keypoints, c.flip_pairs, c.skeleton, c.sigmas, metric, "either", use_area=True)


def score(which: Dataset, truth: Any, results: Any, protocol: str) -> dict[str, float]:
    """Metrics of results that are in memory, as fractions; what makes them lower than the network is, is logged.

    Args:
        which, protocol: as for `score_file`.
        truth: what `read_annotations` returned.
        results: records as in a results file, or what the metric's `read_results` returned.

    Raises:
        InputError: a record that does not fit, or an unknown protocol.
    """
    check_protocol(protocol)
    _check_joints(which, results, "results")
    figures = which.metric.score(which, truth, results, protocol)
    if which.metric.read_centers is None:  # else every person must have one result
        for warning in _gaps(which, truth["annotations"], results):
            _log.warning("%s", warning)
    return figures


def read_annotations(which: Dataset, path: str | Path) -> Any:
    """The annotations of a data set, as its metric reads them.

    Raises InputError: they cannot be read, or they have the joints of another data set.
    """
    truth = which.metric.read_annotations(Path(path))
    if which.metric.read_centers is None:  # else it is no file of COCO's format
        _check_names(which, truth.get("categories", ()))
        _check_joints(which, truth.get("annotations"), "annotations")
    return truth


def _check_names(which: Dataset, categories: Any) -> None:
    """Raise InputError if the categories name the joints of another data set than `which`.

    COCO-WholeBody's own files name only the joints of the body, which are COCO's.
    """
    own = (which.keypoints, which.keypoints[: which.fields[0][1]])
    for category in categories:
        names = tuple(category.get("keypoints", ())) if isinstance(category, Mapping) else ()
        other = next((one.name for one in DATASETS.specs().values() if one.keypoints == names), None)
        if names not in own and other is not None:
            raise InputError(
                f"the annotations are of {other} ({', '.join(names[:3])}, ...), not of {which.name}: "
                f"use --dataset {other}"
            )


def _check_joints(which: Dataset, entries: Any, where: str) -> None:
    """Raise InputError if records have as many joints as another data set; the metric checks all the rest."""
    field, joints = which.fields[0]
    if not isinstance(entries, list):
        return
    others: dict[int, list[str]] = {}
    for one in DATASETS.specs().values():
        others.setdefault(3 * len(one.keypoints), []).append(one.name)
    others.pop(3 * joints, None)
    check(
        entries,
        where,
        (isinstance(e, Mapping) and isinstance(e.get(field), list) and len(e[field]) in others for e in entries),
        lambda e: (
            f"has {wrong_count(e[field], field, 3 * joints)}; as many as {' and '.join(others[len(e[field])])} have"
        ),
    )


def _gaps(dataset: Dataset, annotations: Sequence[Entry], results: Sequence[Entry]) -> Iterator[str]:
    """Warnings about results that are missing or repeated, although every record fits."""
    if not results:
        yield "the list of results is empty"
        return
    people = [a for a in annotations if not a.get("iscrowd") and a.get("num_keypoints", 1)]
    annotated = dict.fromkeys(a["image_id"] for a in people)
    seen = {record["image_id"] for record in results}
    missed = [image for image in annotated if image not in seen]
    if missed:
        yield f"{len(missed)} of {len(annotated)} annotated images have no result, such as {missed[0]}"
    # Only results that agree in image and score can be equal; of 100,000 results those are few.
    keys = [(record["image_id"], str(record.get("score"))) for record in results]
    count = Counter(keys)
    fields = ["keypoints", "scores", *(field for _, field, _, _ in dataset.parts)]
    alike = [
        (key, *(repr(record.get(field)) for field in fields))
        for key, record in zip(keys, results, strict=True)
        if count[key] > 1
    ]
    repeated = len(alike) - len(set(alike))
    if repeated:
        yield f"{repeated} of {len(results)} results repeat another one exactly"
