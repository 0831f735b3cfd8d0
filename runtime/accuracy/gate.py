"""Does a graph on a backend still find the same joints as the PyTorch model? Measured as a user would run it.

Every candidate sees the same frames and boxes through `PoseEstimator`, so crops, decoding and the map back to the
frame are part of what is judged.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError, InputError
from ..estimator import PoseEstimator
from ..pose.heads import Outputs
from ..pose.keypoints import Keypoints
from .frames import Frames
from .golden import relative_error
from .metrics.bootstrap import paired_interval
from .metrics.oks import OksEvaluation, evaluate_oks
from .results import person_scores
from .verdict import Parity, Row, Worst

# Relative L2 errors of the heatmaps that the arithmetic of a precision explains, where no labelled data judge a graph.
# float32: the order of sums. float16: 11 bits through a few hundred layers; bfloat16: 8, measured at 0.004 to 0.011.
# int8: 8 bits; measured at 0.02 to 0.15 on the networks of the catalog, against 1 and more for a graph with one wrong
# layer.
FEWEST = 20
"""People: of fewer AP says nothing about thousandths."""

HEATMAP_BOUND = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 0.1, "int8": 0.3, "int8_gpu": 0.3}

WORST = 6

Boxes = NDArray[np.float64]


@dataclass(frozen=True)
class Candidate:
    """What is judged. `open` gives an estimator, which lives only while it is being judged, to bound the memory."""

    precision: str
    backend: str
    open: Callable[[], PoseEstimator]
    size_mb: float
    artifact: str = ""


@dataclass(frozen=True)
class _Person:
    image: int
    box: Boxes
    annotation: dict[str, Any]


def judge(
    candidates: Sequence[Candidate],
    frames: Frames,
    *,
    max_drop: float,
    labelled: bool,
    advance: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Parity:
    """Run every candidate over the frames and compare it with the first one, the reference.

    Args:
        candidates: the PyTorch model first.
        frames: what to judge on.
        max_drop: AP may fall by this much.
        labelled: whether AP on these frames says something about this model. If not, AP stays None, the verdict is
            "unproven" (or "failed" by the heatmaps' error alone).
        advance: told (candidate, frames done, frames in all).

    A candidate that does not run, or gives NaN, has failed and stops no other.

    Raises:
        InputError: no person in the annotations can be judged, a frame or a box cannot be used, or the reference gives
            NaN; the image is named.
    """
    first, *others = candidates
    court = Judge(first, frames, max_drop=max_drop, labelled=labelled, advance=advance)
    rows, drifts, worst = [court.row], {}, []
    for candidate in others:
        row, drift, most = court.hear(candidate)
        rows.append(row)
        if drift is not None:
            drifts[row.key] = drift
        worst += most
    verdicts = {row.verdict for row in rows[1:]}
    verdict = "failed" if "failed" in verdicts else "passed" if verdicts == {"passed"} else "unproven"
    worst.sort(key=lambda w: -w.drift)
    return Parity(rows, verdict, max_drop, court.data, drifts, worst[:WORST])


class Judge:
    """A reference that has been run over the frames; candidates are held against it one by one.

    Arguments and errors as for `judge`.

    Attributes:
        row: the reference's.
        data: kind, number of images and people, note, and whether AP is judged.
    """

    def __init__(
        self,
        reference: Candidate,
        frames: Frames,
        *,
        max_drop: float,
        labelled: bool,
        advance: Callable[[str, int, int], None] = lambda name, done, total: None,
    ) -> None:
        self._frames, self._max_drop, self._advance = frames, max_drop, advance
        self._people = _people(frames)
        self._reference = self._run(reference)
        self._scored = _evaluate(self._reference, frames.coco, self._people) if labelled else None
        note = frames.note
        if self._scored is not None and len(self._people) < FEWEST:
            note = f"{note}. {len(self._people)} people are too few to judge AP by: {FEWEST} are the least"
            self._scored = None
        if self._scored is not None and self._scored.metrics["AP"] <= max_drop:
            # Nothing can lose more than there is: that no graph lost it would prove nothing.
            note = f"{note}. The PyTorch model's own AP here is {self._scored.metrics['AP']:.4f}: nothing to lose"
            self._scored = None
        self.data: dict[str, Any] = {
            "kind": frames.kind,
            "note": note,
            "people": len(self._people),
            "images": len({p.image for p in self._people}),
            "labelled": self._scored is not None,
        }
        self.row, _ = self._row(reference, self._reference)

    def hear(self, candidate: Candidate) -> tuple[Row, NDArray[np.float32] | None, list[Worst]]:
        """A candidate's row, its drift `(N, K)`, and the people on whom it differs most."""
        try:
            seen = self._run(candidate)
        except (BackendError, InputError) as error:  # frames and boxes are sound: the reference has seen them
            nan = math.nan
            row = Row(
                candidate.precision,
                candidate.backend,
                *(None, None, None, nan, nan, nan, nan),
                candidate.size_mb,
                "failed",
                candidate.artifact,
                str(error),
            )
            return row, None, []
        row, drift = self._row(candidate, seen)
        return row, drift, _worst(row.key, drift, seen, self._reference, self._frames, self._people)

    def _run(self, candidate: Candidate) -> _Run:
        told = partial(self._advance, f"{candidate.backend} {candidate.precision}")
        return _run(candidate, self._frames, self._people, told)

    def _row(self, candidate: Candidate, seen: _Run) -> tuple[Row, NDArray[np.float32]]:
        k, reference = seen.xy.shape[1], self._reference
        visible = np.array([np.asarray(p.annotation["keypoints"], float).reshape(k, 3)[:, 2] > 0 for p in self._people])
        drift = np.where(visible, np.linalg.norm(seen.xy - reference.xy, axis=2), np.nan).astype(np.float32)
        error = relative_error(seen.outputs, reference.outputs)
        ap = drop = interval = None
        if self._scored is not None:
            scored = self._scored if seen is reference else _evaluate(seen, self._frames.coco, self._people)
            ap = scored.metrics["AP"]
            drop, low, high = paired_interval(self._scored, scored)
            interval = (low, high)
        if seen is reference:
            verdict = "reference"
        elif drop is None:
            verdict = "unproven" if error <= HEATMAP_BOUND[candidate.precision] else "failed"
        else:
            verdict = "passed" if drop <= self._max_drop else "failed"
        median, p95 = (float(v) for v in np.nanpercentile(drift, [50, 95]))
        row = Row(
            candidate.precision,
            candidate.backend,
            ap,
            drop,
            interval,
            median,
            p95,
            error,
            seen.ms_per_person,
            candidate.size_mb,
            verdict,
            candidate.artifact,
        )
        return row, drift


@dataclass(frozen=True)
class _Run:
    sigmas: tuple[float, ...]
    xy: NDArray[np.float32]
    score: NDArray[np.float32]
    outputs: Outputs
    ms_per_person: float


def _people(frames: Frames) -> list[_Person]:
    order = {record["id"]: i for i, record in enumerate(frames.coco["images"])}
    people = frames.labelled()
    if not people:
        raise InputError(
            f"{len(frames.coco['annotations'])} annotations on {len(order)} images hold no person with a labelled "
            "joint and a box: expected COCO key point annotations (person_keypoints_*.json)"
        )
    boxes = np.array([a["bbox"] for a in people], np.float64)
    boxes[:, 2:] += boxes[:, :2]
    return [_Person(order[a["image_id"]], box, a) for a, box in zip(people, boxes, strict=True)]


def _by_image(people: Sequence[_Person]) -> Iterator[tuple[int, list[int]]]:
    """Image index and the indices of its people."""
    start = 0
    for i in range(1, len(people) + 1):
        if i == len(people) or people[i].image != people[start].image:
            yield people[start].image, list(range(start, i))
            start = i


# Heatmaps are compared on the first people only: 64 maps of 17 joints are 200,000 samples each, and 13 MB.
_HEATMAP_PEOPLE = 64


def _run(candidate: Candidate, frames: Frames, people: Sequence[_Person], advance: Callable[[int, int], None]) -> _Run:
    pose = candidate.open()
    k = len(pose.contract.keypoints)
    xy, score = np.empty((len(people), k, 2), np.float32), np.empty((len(people), k), np.float32)
    outputs, times = [], []
    groups = list(_by_image(people))
    warm: set[int] = set()
    for done, (image, members) in enumerate(groups):
        record = frames.coco["images"][image]
        frame, boxes = frames.load(record), np.stack([people[i].box for i in members])
        if len(members) not in warm:  # backends prepare kernels at the first sight of a batch size
            _see(candidate, pose, frame, boxes, record["file_name"])
            warm.add(len(members))
        start = time.perf_counter()
        found = _see(candidate, pose, frame, boxes, record["file_name"])
        times.append((time.perf_counter() - start) / len(members))
        xy[members], score[members] = found.xy, found.score
        if members[0] < _HEATMAP_PEOPLE:
            outputs.append(pose.outputs(frame, boxes))
        advance(done + 1, len(groups))
    joined = tuple(np.concatenate(parts)[:_HEATMAP_PEOPLE] for parts in zip(*outputs, strict=True))
    return _Run(pose.contract.sigmas, xy, score, joined, 1e3 * float(np.median(times)))


def _see(candidate: Candidate, pose: PoseEstimator, frame: NDArray[np.uint8], boxes: Boxes, name: str) -> Keypoints:
    try:
        return pose(frame, boxes)
    except InputError as error:  # a box outside the frame, or a network that gives NaN
        raise InputError(f"{name}, {candidate.backend} {candidate.precision}: {error}") from error


def _evaluate(seen: _Run, coco: dict[str, Any], people: Sequence[_Person]) -> OksEvaluation:
    """AP without OKS-NMS: there is one result per annotated person, and nothing to suppress."""
    score = person_scores(seen.score, np.ones(len(people)))
    joints = np.concatenate([seen.xy, seen.score[..., None]], axis=2).astype(np.float64).reshape(len(people), -1)
    results = [
        {
            "image_id": p.annotation["image_id"],
            "category_id": p.annotation.get("category_id", 1),
            "keypoints": j.tolist(),
            "score": float(s),
        }
        for p, j, s in zip(people, joints, score, strict=True)
    ]
    return evaluate_oks(coco, results, seen.sigmas)


def _worst(
    key: str, drift: NDArray[np.float32], seen: _Run, reference: _Run, frames: Frames, people: Sequence[_Person]
) -> list[Worst]:
    """The people whose mean joint drift, relative to their size, is the largest."""
    size = np.array([max(p.box[2] - p.box[0], p.box[3] - p.box[1]) for p in people])
    mean = np.nanmean(drift, axis=1)
    found = []
    for i in np.argsort(-(mean / size))[:WORST]:
        frame = frames.load(frames.coco["images"][people[i].image])
        x1, y1, x2, y2 = people[i].box
        margin = 0.15 * size[i]
        left, top = max(0, int(x1 - margin)), max(0, int(y1 - margin))
        image = frame[top : int(y2 + margin) + 1, left : int(x2 + margin) + 1].copy()
        offset = np.array([left, top], np.float32)
        truth = np.asarray(people[i].annotation["keypoints"], np.float32).reshape(-1, 3) - [*offset, 0]
        found.append(
            Worst(key, image, reference.xy[i] - offset, seen.xy[i] - offset, truth.astype(np.float32), float(mean[i]))
        )
    return found
