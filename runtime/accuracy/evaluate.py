"""Evaluate a bundle on the images of a data set and compare the figures with the published ones.

Images are read ahead by a few threads and not kept, so memory does not grow with the data set. The joints of each image
go to a journal as soon as they exist, so an interrupted run resumes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..backends import load_backend
from ..bundle.archive import Bundle
from ..datasets import dataset, datasets
from ..errors import InputError, naming
from ..estimator import PoseEstimator
from ..metrics import Dataset
from ..metrics.coco_files import read_json
from ..system.files import atomic_write
from ..system.journal import Journal
from ..system.progress import track
from .estimation import Image, Members, estimate
from .frames import read_frames, read_image
from .people import Float, People, annotated_people, centered_people, detected_people, labelled_people
from .results import to_results
from .score import dataset_of, read_annotations, score

TOLERANCE = 0.002
"""A figure agrees with the published one within this: published figures have three digits, and JPEG decoders differ."""

_UNPUBLISHED = ("demo", "random")  # weights that have not the published figures


def evaluate_bundle(
    path: str | Path,
    annotations: str | Path,
    images: str | Path,
    *,
    dataset_name: str | None = None,
    detections: str | Path | None = None,
    protocol: str = "legacy",
    flip_test: bool = False,
    output: str | Path | None = None,
    backend: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    workers: int = 2,
) -> dict[str, Any]:
    """Run a bundle on the images of a data set, write the results file and score it.

    Args:
        path: the bundle.
        annotations: the data set's annotation file; MPII: `mpii_val.json`, with `mpii_gt_val.mat` beside it.
        images: folder of the images.
        dataset_name: the data set; None: the bundle's own.
        detections: a detector's file in COCO's format; None: the annotated boxes.
        protocol: "legacy" or "v029".
        flip_test: also run the mirrored crops; the report then has the figures with and without.
        output: results file; None: out/evaluate/NAME.BACKEND.PRECISION.json, with the flip test .flip.json.
        backend, precision, threads: as for `PoseEstimator`.
        workers: threads that decode images.

    Returns:
        the report: dataset, protocol, metrics, ms_per_person, bundle, backend, precision, ...; with published figures
        also `published` and `verdict`.

    Raises:
        InputError: a file, a record or an image that does not fit.
    """
    with Bundle(path) as bundle:
        contract = bundle.contract
        which = dataset(dataset_name) if dataset_name else dataset_of(contract, nms=detections is not None)
        if which.keypoints != bundle.contract.keypoints:
            raise InputError(f"{bundle.path} predicts the joints of {bundle.contract.dataset}, not of {which.name}")
        pose = PoseEstimator(bundle, backend=backend, precision=precision, threads=threads)
        with naming(annotations, detections):
            if which.name in datasets():
                people, truth = read_people(which, annotations, detections, protocol)
            else:  # labels in any form that the gate reads, and the people whom it judges
                truth = read_frames(annotations, images).with_joints_of(contract).coco
                people = detected_people(which, truth, read_json(detections)) if detections else labelled_people(truth)
        graph = bundle.artifacts[load_backend(pose.selection.backend).precisions[pose.selection.precision]].sha256
        name = f"{bundle.name}.{pose.selection.backend}.{pose.selection.precision}.json"
        source = bundle.manifest["model"].get("checkpoint", {}).get("source")
        published = {} if source in _UNPUBLISHED else bundle.accuracy.get("published", {})
    # The journals of both passes are named after one file, so that a flip test resumes a plain run.
    base = Path(output or f"out/evaluate/{name}")
    target = base if output or not flip_test else base.with_suffix(".flip.json")
    boxes = "annotated" if detections is None else "detections"
    report: dict[str, Any] = {"dataset": which.name, "protocol": protocol}

    def run(estimator: PoseEstimator) -> dict[str, Any]:
        journal = _journal_path(base, estimator.flip_test)
        with naming(annotations, detections):
            records, ms = estimate_people(estimator, which, people, Path(images), journal, graph, protocol, workers)
        if estimator.flip_test == flip_test:
            with atomic_write(target) as file:
                file.write(json.dumps(records).encode())
        with naming(annotations):
            return {"metrics": score(which, truth, records, protocol), "ms_per_person": ms}

    plain = run(pose)
    if flip_test:
        report |= run(PoseEstimator.from_session(pose.contract, pose.session, pose.selection, flip_test=True))
        report["without_flip_test"] = plain
    else:
        report |= plain
    # Only now, so that a run that is interrupted in its second pass need not repeat the first.
    for flipped in {False, flip_test}:
        _journal_path(base, flipped).unlink()
    report |= {
        "bundle": str(path),
        "backend": pose.selection.backend,
        "precision": pose.selection.precision,
        "flip_test": flip_test,
        "people": len(people),
        "images": len(np.unique(people.image)),
        "boxes": boxes,
        "results": str(target),
    }
    rows = compare(published, report["metrics"])
    if rows:
        report["published"] = rows
        report["verdict"] = _verdict(which, boxes, flip_test, protocol, rows)
    return report


def read_people(
    which: Dataset, annotations: str | Path, detections: str | Path | None, protocol: str
) -> tuple[People, Any]:
    """The people of an evaluation, and the annotations as the metric reads them; arguments as for `evaluate_bundle`.

    Raises InputError: a file or a record that does not fit.
    """
    if which.metric.read_centers is not None:
        if detections is not None:
            raise InputError(f"{which.name} is evaluated at its annotated centres: leave out --detections")
        centers, path = which.metric.read_centers(Path(annotations))
        return centered_people(centers), read_annotations(which, path)
    truth = read_annotations(which, annotations)
    if detections is None:
        return annotated_people(which, truth, protocol), truth
    return detected_people(which, truth, read_json(detections)), truth


def estimate_people(
    pose: PoseEstimator,
    which: Dataset,
    people: People,
    folder: Path,
    journal_path: Path,
    graph: str,
    protocol: str,
    workers: int = 2,
) -> tuple[list[dict[str, Any]], float | None]:
    """The records of a results file, and the median time per person (None if the journal had everyone).

    The joints are kept in the journal until the run is done; `graph` is the sha256 of the graph that runs. Raises
    InputError: images are missing, or one cannot be decoded.
    """
    center, extent = people.regions(pose.contract)
    members = dict(people.by_image())
    missing = [people.files[i] for i in members if not os.path.isfile(folder / people.files[i])]
    if missing:
        raise InputError(f"{folder} lacks {len(missing)} of {len(members)} images, such as {missing[0]}")
    joints = len(which.keypoints)
    xy, scores = np.empty((len(people), joints, 2), np.float32), np.empty((len(people), joints), np.float32)

    def load(image: int) -> Image:
        return read_image(folder / people.files[image])

    def run(frame: Image, who: Members) -> tuple[Float, Float]:
        return pose.estimate_regions(frame, center[who], extent[who])

    with Journal(journal_path, fingerprint(graph, pose, people)) as journal:
        done: set[int] = set()
        for image, *found in journal.records:
            xy[members[image]], scores[members[image]] = found
            done.add(image)
        steps = estimate(people, load, run, skip=done, workers=workers)
        times = []
        for one in track(steps, "flip test" if pose.flip_test else "images", len(members) - len(done)):
            xy[one.members], scores[one.members] = one.result
            journal.add([one.image, *(array.tolist() for array in one.result)])
            times.append(one.ms_per_person)
    records = to_results(which, people, (center, extent), xy, scores, protocol)
    return records, float(np.median(times)) if times else None


def fingerprint(graph: str, pose: PoseEstimator, people: People) -> str:
    """What a journal belongs to: the network (sha256 of its graph), how it runs, and everyone's crops."""
    run = [graph, pose.selection.backend, pose.selection.precision, pose.flip_test, pose.contract.to_json()]
    digest = hashlib.sha256(json.dumps([run, people.files]).encode())
    for array in (people.image, *people.regions(pose.contract)):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def compare(published: Mapping[str, float], measured: Mapping[str, float]) -> list[dict[str, Any]]:
    """A row per figure that is both published and measured: figure, published, measured, difference, passed."""
    rows = []
    for name, value in published.items():
        if name in measured:
            difference = measured[name] - value
            row = {"figure": name, "published": value, "measured": measured[name], "difference": difference}
            rows.append({**row, "passed": abs(difference) <= TOLERANCE})
    return rows


def _verdict(which: Dataset, boxes: str, flip_test: bool, protocol: str, rows: Sequence[Mapping[str, Any]]) -> str:
    if not flip_test:
        return "not comparable: the published figures use the flip test (--flip-test)"
    if which.boxes not in (boxes, "either"):
        theirs = {"annotated": "the annotated boxes", "detections": "a detector's boxes (--detections)"}[which.boxes]
        return f"not comparable: the published figures use {theirs}"
    if protocol != "legacy":
        return "not comparable: the published figures use --protocol legacy"
    return "PASS" if all(row["passed"] for row in rows) else "FAIL"


def _journal_path(base: Path, flip_test: bool) -> Path:
    """Where the joints of one pass are kept until the run is done."""
    return base.with_name(f"{base.name}.{'flip.' if flip_test else ''}partial")
