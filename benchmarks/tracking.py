"""Identities and accuracy against the number of frames between detections, and beside other trackers.

    pip install rtmlib trackers supervision
    python -m posert.export.demo.videos --output clips --split val
    python -m posert.benchmarks.tracking out/demo.pose clips/coco_val.json clips --results out/tracking
    posert evaluate --dataset posetrack18 --annotations clips/posetrack18/val \\
        --results out/tracking/posert_3.posetrack18.json

A detection is a labelled box with the errors of a mediocre detector, unless --detections names a file or --detector a
network; every tracker gets the same ones, and the same joints for them. Rows with an identity are results. A person is
found from an OKS of 0.5 on. Trackers that look for nobody between detections are measured with one in each frame. The
last command gives PoseTrack18's MOTA, which counts each joint.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posert.benchmarks.labelled_video import Clip, Detections, Frame, Image, read_clips
from posert.benchmarks.posetrack18 import posetrack18
from posert.benchmarks.script import digest, log, markdown, numbers, open_journal, parser, run
from posert.benchmarks.trackers import TRACKERS, Follower, open_tracker
from posert.runtime.accuracy.score import dataset_of, score
from posert.runtime.datasets import dataset
from posert.runtime.detection import Detector
from posert.runtime.errors import InputError
from posert.runtime.estimator import PoseEstimator
from posert.runtime.metrics.clear_mot import ClearMot
from posert.runtime.metrics.oks_matching import BOX_AREA, similarity
from posert.runtime.pose.keypoints import Keypoints
from posert.runtime.system.files import atomic_write
from posert.runtime.system.machine import versions

Double = NDArray[np.float64]
Ids = NDArray[np.int64]
Counts = dict[str, float]
Detect = Callable[[Clip, Frame, Image], tuple[Double, Double]]

_FOUND = 0.5  # OKS
_INSIDE = 0.5  # share of a row's box that lies in the box of somebody without labelled joints: it does not count


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; prints a table."""
    arguments = parser(__doc__, "out/tracking.jsonl")
    arguments.add_argument("bundle", type=Path)
    arguments.add_argument("annotations", type=Path, help="COCO keypoints with video_id, frame_id and track_id")
    arguments.add_argument("images", type=Path, help="folder that its file names start from")
    arguments.add_argument("--every", type=numbers, default=[1, 3, 5, 10], help="frames per detection (1,3,5,10)")
    arguments.add_argument("--trackers", default=",".join(TRACKERS), help=f"which ones ({','.join(TRACKERS)})")
    arguments.add_argument("--detections", type=Path, metavar="FILE", help="a COCO list of detections")
    arguments.add_argument("--detector", type=Path, metavar="FILE", help="an ONNX file that gives the detections")
    arguments.add_argument("--precision", default="auto", help="one precision (auto)")
    arguments.add_argument(
        "--results", type=Path, metavar="DIR", help="write each row's results there, as COCO and PoseTrack18"
    )
    return run(arguments, _work, argv)


def _work(args: argparse.Namespace) -> int:
    names = args.trackers.split(",")
    if unknown := set(names) - set(TRACKERS):
        raise InputError(f"--trackers {', '.join(sorted(unknown))}: known are {', '.join(TRACKERS)}")
    coco, clips = read_clips(args.annotations, args.images)
    pose = PoseEstimator(args.bundle, precision=args.precision, threads=1)
    which, detect = dataset_of(pose.contract), _detect(args)
    if not which.sigmas:
        raise InputError(f"{which.name} has no sigmas, and people are found by their OKS")
    files = {name: digest(getattr(args, name)) for name in ("bundle", "annotations")}
    file = args.detector or args.detections
    given = digest(file) if file else "labelled boxes with errors"
    journal = open_journal(
        args.output, "tracking", **files, detections=given, precision=args.precision, versions=versions()
    )
    rows = {(row["tracker"], row["every"]): row for row in journal.records}
    cells = [(name, every) for name in names for every in args.every if every == 1 or TRACKERS[name].between]
    for name, every in cells:
        if (name, every) not in rows:
            log(f"{name}, a detection in {every} frames" if every > 1 else f"{name}, a detection in each frame")
            results, figures = measure(pose, which.sigmas, clips, detect, name, every)
            figures["AP"] = score(which, coco, results, "v029")["AP"]
            rows[name, every] = {"tracker": name, "every": every, **figures}
            if args.results:
                _write(args.results / f"{name}_{every}.json", results)
                if which.keypoints == dataset("coco").keypoints:
                    _write(args.results / f"{name}_{every}.posetrack18.json", posetrack18(results))
            journal.add(rows[name, every])
    print(table(rows[cell] for cell in cells))
    return 0


def _write(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(json.dumps(records).encode())


def _detect(args: argparse.Namespace) -> Detect:
    """What gives the detections."""
    if args.detector is None:
        detections = Detections(args.detections)
        return lambda clip, frame, picture: detections.of(clip, frame)
    if args.detections is not None:
        raise InputError("--detections and --detector: each gives the boxes; choose one")
    detector = Detector(args.detector, threads=1)
    log(detector.description)

    def detect(clip: Clip, frame: Frame, picture: Image) -> tuple[Double, Double]:
        found = detector(picture)
        return found.boxes.astype(np.float64), found.score.astype(np.float64)

    return detect


def measure(
    pose: PoseEstimator, sigmas: tuple[float, ...], clips: Sequence[Clip], detect: Detect, name: str, every: int
) -> tuple[list[dict[str, Any]], Counts]:
    """Follow people through all clips: results in COCO's format, and what was counted."""
    results: list[dict[str, Any]] = []
    total, seconds, processor, frames, rows = ClearMot(), 0.0, 0.0, 0, 0
    for clip in clips:
        follower, count = open_tracker(name, sigmas), ClearMot()
        for index, frame in enumerate(clip.frames):
            picture, begin = frame.read(), time.process_time()
            found = detect(clip, frame, picture) if index % every == 0 else None
            people, ids, spent = _step(pose, follower, picture, found)
            processor += time.process_time() - begin
            frames, rows, seconds = frames + 1, rows + len(people), seconds + spent
            results += _records(frame, people, ids)
            _count(count, frame, people, ids, np.array(sigmas))
        total += count
    return results, {
        "MOTA": total.mota,
        "switches": total.switches,
        "misses": total.misses,
        "false_positives": total.false_positives,
        "people": total.objects,
        "crops_per_frame": rows / frames,
        "tracker_ms_per_frame": 1e3 * seconds / frames,
        "processor_ms_per_frame": 1e3 * processor / frames,
    }


def _step(
    pose: PoseEstimator, follower: Follower, picture: Image, found: tuple[Double, Double] | None
) -> tuple[Keypoints, Ids, float]:
    """People of a frame, their ids, and the seconds that the tracker took."""
    size = picture.shape[0], picture.shape[1]
    start = time.perf_counter()
    boxes, scores = follower.detected(*found, size) if found else (follower.between(size), None)
    spent = time.perf_counter() - start
    last = np.minimum(boxes[:, 2:], size[::-1])
    visible = (last > np.maximum(boxes[:, :2], 0)).all(axis=1)  # boxes outside the picture are refused
    boxes, scores = boxes[visible], None if scores is None else scores[visible]
    people = pose(picture, boxes)
    start = time.perf_counter()
    ids = follower.update(people, scores)
    return people, ids, spent + time.perf_counter() - start


def _records(frame: Frame, people: Keypoints, ids: Ids) -> Iterator[dict[str, Any]]:
    """Results of the rows with an identity; their score is the mean of the joints above 0.2, as in MMPose."""
    for xy, joint, box, number in zip(people.xy, people.score, people.boxes, ids.tolist(), strict=True):
        if number >= 0:
            sure = joint[joint > 0.2]
            yield {
                "image_id": frame.image_id,
                "category_id": 1,
                "keypoints": np.concatenate([xy, joint[:, None]], axis=1).round(3).ravel().tolist(),
                "score": float(sure.mean()) if len(sure) else 0.0,
                "bbox": [*box[:2].round(2).tolist(), *(box[2:] - box[:2]).round(2).tolist()],
                "track_id": number,
            }


def _count(count: ClearMot, frame: Frame, people: Keypoints, ids: Ids, sigmas: Double) -> None:
    """Compare a frame's identities with the true ones."""
    rows = np.flatnonzero(ids >= 0)
    joints = np.concatenate([people.xy, people.score[..., None]], axis=2)[rows].astype(np.float64)
    known = [person for person in frame.people if any(person["keypoints"][2::3])]
    alike = np.zeros((len(known), len(rows)))
    for line, person in zip(alike, known, strict=True):
        truth, box = np.array(person["keypoints"], np.float64).reshape(-1, 3), np.array(person["bbox"], np.float64)
        line[:] = similarity(truth, box, person.get("area", box[2] * box[3] * BOX_AREA), joints, sigmas)
    near = np.where(alike >= _FOUND, 1 - alike, np.nan)
    hidden = [person["bbox"] for person in frame.people if not any(person["keypoints"][2::3])]
    counted = np.isfinite(near).any(axis=0) | ~_inside(people.boxes[rows].astype(np.float64), hidden)
    count.add([person["track_id"] for person in known], ids[rows][counted].tolist(), near[:, counted])


def _inside(boxes: Double, hidden: Sequence[Sequence[float]]) -> NDArray[np.bool_]:
    """Which boxes `(N, 4)` xyxy lie mostly in one of those of hidden people, xywh."""
    inside = np.zeros(len(boxes), np.bool_)
    for x, y, width, height in hidden:
        first, last = np.maximum(boxes[:, :2], (x, y)), np.minimum(boxes[:, 2:], (x + width, y + height))
        inside |= np.maximum(last - first, 0).prod(axis=1) > _INSIDE * (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return inside


def table(rows: Iterator[Mapping[str, Any]]) -> str:
    """A line for each tracker and interval; `all` is the processor time per frame of detector, network and tracker."""
    head = "tracker | frames per detection | AP | MOTA | id switches | missed | false"
    head += " | crops per frame | tracker, ms | all, processor ms"
    lines = []
    for row in rows:
        counts = [f"{row[name]:.0f}" for name in ("switches", "misses", "false_positives")]
        costs = [f"{row[name]:.2f}" for name in ("crops_per_frame", "tracker_ms_per_frame", "processor_ms_per_frame")]
        lines.append([row["tracker"], str(row["every"]), f"{row['AP']:.4f}", f"{row['MOTA']:.4f}", *counts, *costs])
    return markdown(head, lines)


if __name__ == "__main__":
    raise SystemExit(main())
