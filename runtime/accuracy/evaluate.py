"""A bundle on a data set's images: every person is estimated, then the figures are compared with the published ones.

Images are read ahead by a few threads and not kept, so memory does not grow with the data set. Each image's joints are
written to a journal as soon as they exist: a run that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle.contract import Contract
from ..datasets import Dataset
from ..errors import InputError
from ..estimator import PoseEstimator
from ..pose.preprocess import check_boxes, crop_regions, mpii_center_scale
from .boxes import Boxes, annotated_boxes, detected_boxes
from .frames import read_image
from .metrics.coco_files import numbers, read_json, require
from .results import to_results
from .score import read_annotations

Float = NDArray[np.float32]

TOLERANCE = 0.002
"""A figure agrees with the published one within this: that has three digits, and JPEG decoders differ a little."""

_MPII_TRUTH = ("mpii_gt_val.mat", "mpii_gt_val.npz")


@dataclass(frozen=True)
class People:
    """Who is to be estimated: N people in I images.

    Attributes:
        truth: what the metric compares with.
        files: I image files, relative to the folder of images.
        image_ids: N ids for the records.
        image: `(N,)` index of each one's file.
        center, extent: `(N, 2)` of their crops, px of the frame.
        box_score: `(N,)`.
        boxes: "annotated" or "detections".
    """

    truth: Any
    files: tuple[str, ...]
    image_ids: tuple[Any, ...]
    image: NDArray[np.intp]
    center: Float
    extent: Float
    box_score: Float
    boxes: str


def read_people(
    which: Dataset, contract: Contract, annotations: str | Path, detections: str | Path | None, protocol: str
) -> People:
    """The people of an evaluation.

    Args:
        which: the data set.
        contract: of the model: the crops follow it.
        annotations: the data set's annotation file; for MPII `mpii_val.json`, with `mpii_gt_val.mat` beside it.
        detections: a detector's file in COCO's format; the annotated boxes if None.
        protocol: "legacy" or "v029".

    Raises:
        InputError: a file or a record that does not fit.
    """
    if which.metric == "pckh":
        if detections is not None:
            raise InputError("MPII is evaluated at its annotated centres: leave out --detections")
        return _read_mpii(which, Path(annotations))
    truth = read_annotations(which, annotations)
    boxes: Boxes
    if detections is None:
        boxes = annotated_boxes(which, truth, protocol)
    else:
        boxes = detected_boxes(which, truth, read_json(detections))
    require(truth["images"], "images", ("id", "file_name"))
    index = {image["id"]: i for i, image in enumerate(truth["images"])}
    center, extent = crop_regions(check_boxes(boxes.xyxy), contract)
    return People(
        truth,
        tuple(image["file_name"] for image in truth["images"]),
        boxes.image_ids,
        np.array([index[name] for name in boxes.image_ids], np.intp),
        center,
        extent,
        boxes.score,
        "annotated" if detections is None else "detections",
    )


def _read_mpii(which: Dataset, path: Path) -> People:
    people = read_json(path)
    require(people, "annotations", ("image", "center", "scale"))
    truth = next((path.with_name(name) for name in _MPII_TRUTH if path.with_name(name).is_file()), None)
    if truth is None:
        raise InputError(f"beside {path} there must be {' or '.join(_MPII_TRUTH)}, the ground truth of PCKh")
    center, extent = mpii_center_scale(
        numbers(people, "annotations", "center", 2), numbers(people, "annotations", "scale", 0)
    )
    files = tuple(dict.fromkeys(person["image"] for person in people))
    index = {name: i for i, name in enumerate(files)}
    image = np.array([index[person["image"]] for person in people], np.intp)
    score = np.ones(len(people), np.float32)
    return People(
        read_annotations(which, truth), files, tuple(range(len(people))), image, center, extent, score, "annotated"
    )


class Journal:
    """What was estimated so far, one line per image.

    Args:
        path: file to append to; it is made if it is not there.
        key: what the journal belongs to, see `fingerprint`. A journal of something else is begun anew.

    Attributes:
        done: xy `(n, K, 2)` and score `(n, K)` of the people of each image that was estimated.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.done = path, dict[int, tuple[Float, Float]]()
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_bytes().split(b"\n") if path.is_file() else []
        whole = [key.encode()]
        if lines[:1] == whole:
            for line in lines[1:-1]:  # what follows the last line end was cut short
                image, xy, score = json.loads(line)
                self.done[image] = (np.array(xy, np.float32), np.array(score, np.float32))
                whole.append(line)
        kept = sum(len(line) + 1 for line in whole)
        if not self.done:
            path.write_bytes(whole[0] + b"\n")
        self._file = path.open("r+b")
        self._file.truncate(kept)
        self._file.seek(kept)

    def add(self, image: int, xy: Float, score: Float) -> None:
        """Append the people of one image."""
        self.done[image] = (xy, score)
        self._file.write(json.dumps([image, xy.tolist(), score.tolist()]).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file, which stays."""
        self._file.close()


class Estimation:
    """The work on everyone whom the journal does not have yet; iterate over it to do it, image by image.

    Args:
        pose: the estimator.
        people: who.
        folder: where the images lie.
        journal: where the joints go.
        workers: threads that decode images.

    Attributes:
        total: images that are to be done.

    Raises:
        InputError: images are missing; while iterating, one cannot be decoded.
    """

    def __init__(self, pose: PoseEstimator, people: People, folder: Path, journal: Journal, workers: int = 2) -> None:
        self._pose, self._people, self._folder = pose, people, folder
        self._journal, self._workers = journal, workers
        self._members = _members(people)
        missing = [people.files[i] for i in self._members if not (folder / people.files[i]).is_file()]
        if missing:
            raise InputError(f"{folder} lacks {len(missing)} of {len(self._members)} images, such as {missing[0]}")
        self._todo = [i for i in self._members if i not in journal.done]
        self.total = len(self._todo)
        self._times: list[float] = []

    def __iter__(self) -> Iterator[int]:
        """Indices of the images, each after it is in the journal."""
        files = [self._folder / self._people.files[i] for i in self._todo]
        with ThreadPoolExecutor(self._workers) as pool:
            for image, frame in zip(self._todo, _ahead(pool, files, 2 * self._workers), strict=True):
                who = self._members[image]
                start = time.perf_counter()
                xy, score = self._pose.estimate_regions(frame, self._people.center[who], self._people.extent[who])
                self._times.append(1e3 * (time.perf_counter() - start) / len(who))
                self._journal.add(image, xy, score)
                yield image

    @property
    def ms_per_person(self) -> float | None:
        """Median over the images of the time per person, without reading the image; None if nothing was to be done."""
        return float(np.median(self._times)) if self._times else None


def _ahead(pool: ThreadPoolExecutor, paths: Sequence[Path], depth: int) -> Iterator[NDArray[np.uint8]]:
    """The images in order, at most `depth` of them read in advance."""
    waiting: deque[Future[NDArray[np.uint8]]] = deque()
    for path in paths:
        waiting.append(pool.submit(read_image, path))
        if len(waiting) == depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def collect(people: People, journal: Journal, joints: int) -> tuple[Float, Float]:
    """Joints `(N, K, 2)` and scores `(N, K)` of everyone, from a complete journal."""
    count = len(people.image)
    xy, score = np.empty((count, joints, 2), np.float32), np.empty((count, joints), np.float32)
    for image, who in _members(people).items():
        xy[who], score[who] = journal.done[image]
    return xy, score


def _members(people: People) -> dict[int, NDArray[np.intp]]:
    """People of each image that has any."""
    order = np.argsort(people.image, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(people.image[order])) + 1) if len(order) else []
    return {int(people.image[group[0]]): group for group in groups}


def records_of(which: Dataset, people: People, journal: Journal, protocol: str) -> list[dict[str, Any]]:
    """Records of a results file, duplicates removed as in the published evaluations; MPII keeps everyone."""
    xy, score = collect(people, journal, len(which.keypoints))
    nms = "none" if which.metric == "pckh" else "hard"
    return to_results(which, people.image_ids, xy, score, people.box_score, people.center, people.extent, nms, protocol)


def fingerprint(graph: str, pose: PoseEstimator, people: People) -> str:
    """What a journal belongs to: the network (sha256 of its graph), how it is run, and everyone's crops."""
    run = [graph, pose.choice.backend, pose.choice.precision, pose.flip_test, pose.contract.to_json()]
    digest = hashlib.sha256(json.dumps([run, people.files]).encode())
    for array in (people.image, people.center, people.extent):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Compared:
    """One figure beside the published one."""

    figure: str
    published: float
    measured: float
    difference: float
    passed: bool


def compare(published: Mapping[str, float], measured: Mapping[str, float]) -> list[Compared]:
    """Measured beside published figures, of those that both have; all are fractions."""
    rows = []
    for name, value in published.items():
        if name in measured:
            difference = measured[name] - value
            rows.append(Compared(name, value, measured[name], difference, abs(difference) <= TOLERANCE))
    return rows
