"""Labelled clips for the benchmarks of tracking and smoothing: frames, people with identities, and detections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from posert.runtime.errors import InputError
from posert.runtime.metrics.coco_files import images_of, read_annotations, read_json, records_of, require, to_xyxy

Double = NDArray[np.float64]
Image = NDArray[np.uint8]

_MOVED, _MISSED, _GHOSTS = 0.03, 0.05, 0.02
"""What a mediocre detector does to labelled boxes: sides move by 3 % of the size, 5 % are missed, 2 % are nobody."""


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        number: within its clip; frames that follow one another differ by 1.
        image_id: as annotated.
        path: of the picture.
        people: annotations.
    """

    number: int
    image_id: Any
    path: Path
    people: Sequence[Mapping[str, Any]]

    def read(self) -> Image:
        """`(H, W, 3)` uint8 BGR. Raises InputError: the picture cannot be read."""
        picture = cv2.imread(str(self.path))
        if picture is None:
            raise InputError(f"{self.path} cannot be read: --images is the folder that the file names start from")
        return np.asarray(picture, np.uint8)


@dataclass(frozen=True)
class Clip:
    """The frames of a clip in their order, and its name."""

    name: str
    frames: Sequence[Frame]


def read_clips(annotations: Path, images: Path) -> tuple[Mapping[str, Any], list[Clip]]:
    """A COCO file with videos: its content, and the clips in it.

    Images have `video_id` (or PoseTrack18's `vid_id`) and `frame_id`, people a `track_id`.

    Raises InputError: the file cannot be read, or lacks one of these.
    """
    coco = read_annotations(annotations)
    images_of(coco)
    require(coco["annotations"], "annotations", ("image_id", "bbox", "track_id", "keypoints"))
    people: dict[Any, list[Mapping[str, Any]]] = {}
    for person in coco["annotations"]:
        people.setdefault(person["image_id"], []).append(person)
    clips: dict[str, list[Mapping[str, Any]]] = {}
    for image in coco["images"]:
        name = image.get("video_id", image.get("vid_id"))
        if name is None or "frame_id" not in image:
            raise InputError(f"image {image['id']!r} has no video_id and frame_id: {annotations} holds no clips")
        clips.setdefault(str(name), []).append(image)
    return coco, [
        Clip(
            name,
            [
                Frame(image["frame_id"], image["id"], images / image["file_name"], people.get(image["id"], ()))
                for image in sorted(frames, key=lambda image: image["frame_id"])
            ],
        )
        for name, frames in clips.items()
    ]


class Detections:
    """Boxes and scores of each frame: of a file, or labelled boxes with the errors of a mediocre detector.

    Args:
        path: a COCO list of detections; None: labelled boxes.
        seed: of the errors.
    """

    def __init__(self, path: Path | None, seed: int = 0) -> None:
        self._seed = seed
        self._given, self._rows = path is not None, dict[Any, list[Mapping[str, Any]]]()
        if path is not None:
            rows = records_of(read_json(path), path)
            require(rows, "detections", ("image_id", "bbox", "score"))
            for row in rows:
                self._rows.setdefault(row["image_id"], []).append(row)

    def of(self, clip: Clip, frame: Frame) -> tuple[Double, Double]:
        """Boxes `(N, 4)` xyxy px of the frame, and their scores `(N,)`."""
        if self._given:
            rows = self._rows.get(frame.image_id, [])
            boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
            return to_xyxy(boxes), np.array([row["score"] for row in rows], np.float64)
        rng = np.random.default_rng([self._seed, *clip.name.encode(), frame.number])
        boxes = to_xyxy(np.array([person["bbox"] for person in frame.people], np.float64).reshape(-1, 4))
        side = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        moved = boxes + rng.normal(size=boxes.shape) * _MOVED * side
        score = np.clip(rng.normal(0.85, 0.08, len(boxes)), 0.05, 1)
        ghosts = moved + side * rng.uniform(-2, 2, (len(boxes), 1))
        seen, ghost = rng.random(len(boxes)) >= _MISSED, rng.random(len(boxes)) < _GHOSTS
        every = np.concatenate([moved[seen], ghosts[ghost]])
        scores = np.concatenate([score[seen], rng.uniform(0.3, 0.7, int(ghost.sum()))])
        usable = (every[:, 2:] > every[:, :2]).all(axis=1)
        return every[usable], scores[usable]


def labelled(clips: Sequence[Clip]) -> Iterator[tuple[int, Frame]]:
    """Every frame, with the number of its clip."""
    for number, clip in enumerate(clips):
        for frame in clip.frames:
            yield number, frame
