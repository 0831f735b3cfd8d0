"""What smoothing gains and costs on labelled clips: jitter, error, lag, and AP, of raw and of smoothed joints.

    python -m posert.export.demo.videos --output clips --split val
    python -m posert.benchmarks.smoothing out/demo.pose clips/coco_val.json clips --output out/smoothing.jsonl

Joints are estimated in the labelled boxes, with the true identities. The truth is where joints are, seen or not, where
the labels say it (`joints`, as the demo's clips do), else the labelled joints. The lag is the shift in time that brings
the smoothed joints nearest to the truth. The last columns are of still people: whose joints move by less than half a
pixel per frame; their jitter needs no truth.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posert.benchmarks.labelled_video import Clip, read_clips
from posert.benchmarks.script import digest, log, markdown, open_journal, parser, run
from posert.runtime.accuracy.score import dataset_of, score
from posert.runtime.errors import InputError
from posert.runtime.estimator import PoseEstimator
from posert.runtime.metrics.acceleration import acceleration, acceleration_error, consecutive
from posert.runtime.metrics.coco_files import to_xyxy
from posert.runtime.smoothing import OneEuro, smooth_tracks
from posert.runtime.system.machine import versions
from posert.runtime.system.progress import track

Double = NDArray[np.float64]
Index = NDArray[np.int64]

FPS = 25.0
_STILL = 0.5  # px per frame


@dataclass(frozen=True)
class Rows:
    """R people in frames of clips: identities, joints as they were found and as they are.

    Attributes:
        image: image ids.
        clip, frame, ids: `(R,)`.
        xy, truth: `(R, K, 2)` px of the frame.
        score: `(R, K)`.
        valid: `(R, K)` joints whose truth is known.
    """

    image: Sequence[Any]
    clip: Index
    frame: Index
    ids: Index
    xy: Double
    score: Double
    truth: Double
    valid: NDArray[np.bool_]


def one_euro(rows: Rows, fps: float, **settings: float) -> Double:
    """Joints `(R, K, 2)` as the live filter gives them, frame by frame."""
    out = rows.xy.copy()
    for clip in np.unique(rows.clip):
        smoother = OneEuro(**settings)
        mine = np.flatnonzero(rows.clip == clip)
        for frame in np.unique(rows.frame[mine]):
            now = mine[rows.frame[mine] == frame]
            out[now] = smoother(rows.ids[now], rows.xy[now], rows.score[now], float(frame) / fps)
    return out


def savitzky_golay(rows: Rows, fps: float, **settings: int) -> Double:
    """Joints `(R, K, 2)` as the filter of whole recordings gives them."""
    out = rows.xy.copy()
    for clip in np.unique(rows.clip):
        mine = np.flatnonzero(rows.clip == clip)
        smooth = smooth_tracks(rows.frame[mine], rows.ids[mine], rows.xy[mine], rows.score[mine], **settings)
        out[mine] = smooth.xy[: len(mine)]
    return out


def mmdeploy(rows: Rows, fps: float) -> Double:
    """The one-euro filter of mmdeploy's pose_tracker with its defaults (0.007, 1, 1): px, and time in frames."""
    out = rows.xy.copy()
    share = 2 * np.pi / (2 * np.pi + 1)
    for clip, who in np.unique(np.stack([rows.clip, rows.ids]), axis=1).T:
        mine = np.flatnonzero((rows.clip == clip) & (rows.ids == who))
        mine = mine[np.argsort(rows.frame[mine])]
        x, v = rows.xy[mine[0]], np.zeros_like(rows.xy[0])
        for row in mine:
            v = v + share * (rows.xy[row] - x - v)
            cutoff = 2 * np.pi * (1 + 0.007 * np.linalg.norm(v, axis=-1, keepdims=True))
            x = x + cutoff / (cutoff + 1) * (rows.xy[row] - x)
            out[row] = x
    return out


FILTERS: dict[str, Callable[[Rows, float], Double]] = {
    "raw": lambda rows, fps: rows.xy,
    "one-euro": one_euro,
    "one-euro of mmdeploy": mmdeploy,
    "Savitzky-Golay 7, 2": savitzky_golay,
    "Savitzky-Golay 13, 2": lambda rows, fps: savitzky_golay(rows, fps, window=13),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; prints a table."""
    arguments = parser(__doc__, "out/smoothing.jsonl")
    arguments.add_argument("bundle", type=Path)
    arguments.add_argument("annotations", type=Path, help="COCO keypoints with video_id, frame_id and track_id")
    arguments.add_argument("images", type=Path, help="folder that its file names start from")
    arguments.add_argument("--precision", default="auto", help="one precision, or several: fp32,int8 (auto)")
    arguments.add_argument("--fps", type=float, default=FPS, help=f"frames per second of the clips ({FPS:g})")
    return run(arguments, _work, argv)


def _work(args: argparse.Namespace) -> int:
    coco, clips = read_clips(args.annotations, args.images)
    files = {name: digest(getattr(args, name)) for name in ("bundle", "annotations")}
    journal = open_journal(args.output, "smoothing", **files, fps=args.fps, versions=versions())
    rows = {(row["precision"], row["filter"]): row for row in journal.records}
    wanted = args.precision.split(",")
    for precision in wanted:
        left = [name for name in FILTERS if (precision, name) not in rows]
        if not left:
            continue
        pose = PoseEstimator(args.bundle, precision=precision)
        found, which = estimate(pose, clips), dataset_of(pose.contract)
        for name in left:
            log(f"{precision}, {name}")
            smooth = FILTERS[name](found, args.fps)
            ap = score(which, coco, _records(found, smooth), "v029")
            rows[precision, name] = {"precision": precision, "filter": name, **figures(found, smooth)}
            rows[precision, name] |= {key: ap[key] for key in ("AP", "PCK@0.2") if key in ap}
            journal.add(rows[precision, name])
    print(table([rows[precision, name] for precision in wanted for name in FILTERS]))
    return 0


def estimate(pose: PoseEstimator, clips: Sequence[Clip]) -> Rows:
    """The people of all clips, in their labelled boxes."""
    image, keys, joints = [], [], []
    for number, clip in enumerate(track(clips, "clips")):
        for frame in clip.frames:
            people = [person for person in frame.people if any(person["keypoints"][2::3]) or "joints" in person]
            if not people:
                continue
            found = pose(frame.read(), to_xyxy(np.array([person["bbox"] for person in people], np.float64)))
            for person, xy, joint in zip(people, found.xy, found.score, strict=True):
                labels = np.array(person["keypoints"], np.float64).reshape(-1, 3)
                truth, valid = labels[:, :2], labels[:, 2] > 0
                if "joints" in person:
                    truth, valid = np.array(person["joints"], np.float64), np.ones(len(labels), np.bool_)
                image.append(frame.image_id)
                keys.append((number, frame.number, person["track_id"]))
                joints.append(np.column_stack([xy, joint, truth, valid]))
    if not joints:
        raise InputError("the clips have no labelled people")
    clip_of, frame_of, ids = np.array(keys, np.int64).T
    every = np.stack(joints)
    return Rows(image, clip_of, frame_of, ids, every[..., :2], every[..., 2], every[..., 3:5], every[..., 5] > 0)


def figures(rows: Rows, smooth: Double) -> dict[str, float]:
    """What smoothing does to the joints of moving and of still people."""
    keys = rows.clip, rows.frame, rows.ids
    error = np.linalg.norm(smooth - rows.truth, axis=-1)
    still = rows.valid & _still(rows)
    at_rest = acceleration(*keys, smooth, still)
    moved = np.abs(smooth - rows.xy).max(axis=-1)
    return {
        "acceleration_error": acceleration_error(*keys, rows.truth, smooth, rows.valid).mean,
        "error": float(error[rows.valid].mean()),
        "lag": lag(rows, smooth),
        "still_acceleration": at_rest.mean,
        "still_count": at_rest.count,
        "still_moved": float(moved[still].max()) if still.any() else float("nan"),
    }


def lag(rows: Rows, smooth: Double) -> float:
    """Frames by which the smoothed joints are behind the truth; below 0: before it."""
    triples = consecutive(rows.clip, rows.frame, rows.ids)
    before, now, after = (rows.truth[row] for row in (triples.before, triples.middle, triples.after))
    valid = np.logical_and.reduce([rows.valid[row] for row in (triples.before, triples.middle, triples.after)])
    # At constant speed v, joints that are s frames behind are at x - s v: s by least squares, over joints that move.
    speed, off = (after - before)[valid] / 2, (now - smooth[triples.middle])[valid]
    return float((off * speed).sum() / (speed**2).sum())


def _still(rows: Rows) -> NDArray[np.bool_]:
    """`(R, K)` joints that hardly move from the frame before to the one after."""
    triples = consecutive(rows.clip, rows.frame, rows.ids)
    steps = [
        rows.truth[b] - rows.truth[a] for a, b in ((triples.before, triples.middle), (triples.middle, triples.after))
    ]
    slow = np.logical_and.reduce([np.linalg.norm(step, axis=-1) < _STILL for step in steps])
    still = np.zeros(rows.valid.shape, np.bool_)
    still[triples.middle] = slow
    return still


def _records(rows: Rows, xy: Double) -> list[dict[str, Any]]:
    joints = np.concatenate([xy, rows.score[..., None]], axis=2)
    return [
        {"image_id": image, "category_id": 1, "keypoints": one.ravel().tolist(), "score": float(one[:, 2].mean())}
        for image, one in zip(rows.image, joints, strict=True)
    ]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each precision and filter."""
    head = "precision | filter | acceleration error, px/frame² | error, px | lag, frames | AP | still: acceleration"
    lines = []
    for row in rows:
        values = f"{row['acceleration_error']:.3f}", f"{row['error']:.3f}", f"{row['lag']:.2f}"
        accuracy = f"{row['AP']:.4f}" if "AP" in row else "-"
        lines.append([row["precision"], row["filter"], *values, accuracy, f"{row['still_acceleration']:.3f}"])
    return markdown(head, lines)


if __name__ == "__main__":
    raise SystemExit(main())
