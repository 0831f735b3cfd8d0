"""The labels of clips: COCO's keypoints with tracks, and PoseTrack18's files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.datasets.coco import DATASET as COCO
from ...runtime.datasets.posetrack18 import DATASET as POSETRACK18
from .mannequin import Vector
from .people import FACE
from .seen import BEHIND, COVERED, OUTSIDE, SURFACE, VISIBLE, outline, visibility
from .stage import HEIGHT, WIDTH

if TYPE_CHECKING:
    from .scenarios import Figure

Annotation = dict[str, Any]

_SEEN_AT_LEAST = 5  # joints; else COCO keeps a person without keypoints
_EARS = tuple(POSETRACK18.keypoints.index(name) for name in ("left_ear", "right_ear"))
_HEAD_SURFACE = 0.1  # statures: the ends of the head are inside it


@dataclass(frozen=True)
class Clip:
    """A labelled clip: annotations by frame, as `annotate` makes them."""

    split: str
    index: int
    scenario: str
    annotations: Sequence[list[Annotation]]


def annotate(track_id: int, figure: Figure, seen: NDArray[np.bool_], depth: NDArray[np.float32]) -> Annotation | None:
    """What is known of a person in a frame; None if (nearly) nothing of it is seen.

    Fields of COCO: bbox, area and segmentation of what is seen, keypoints, num_keypoints, iscrowd, category_id. Joints
    behind the own body are labelled 1 (faces are not), those that others hide and those outside are not labelled.
    Others: track_id; joints, 17 x [x, y] of the truth whether it is seen or not; visibility, 17 x 0 outside, 1 hidden
    by others, 2 hidden by the own body, 3 seen; bbox_head and posetrack18, PoseTrack18's keypoints, where a joint
    behind the own body is labelled and the ears never are.
    """
    found = outline(seen)
    if found is None:
        return None
    at = {name: figure.place(point) for name, point in figure.body.points.items()}
    states = visibility([at[name] for name in COCO.keypoints], SURFACE * figure.size, seen, depth)
    keypoints: list[float | int] = []
    for joint, (name, state) in enumerate(zip(COCO.keypoints, states, strict=True)):
        flag = 2 if state == VISIBLE else int(state == BEHIND and joint >= FACE)
        keypoints += [*_xy(at[name]), flag] if flag else [0.0, 0.0, 0]
    if keypoints[2::3].count(2) < _SEEN_AT_LEAST:
        keypoints = [0.0, 0.0, 0] * len(COCO.keypoints)
    head = figure.body.head
    at |= {"head_bottom": at["neck"], "head_top": at["head"] + _up(head[:, 1] * figure.body.head_radii[1], figure.size)}
    surface = [_HEAD_SURFACE * figure.size] * len(POSETRACK18.keypoints)
    tracked: list[float | int] = []
    places = [at[name] for name in POSETRACK18.keypoints]
    for joint, state in enumerate(visibility(places, surface, seen, depth)):
        labelled = state not in (COVERED, OUTSIDE) and joint not in _EARS
        tracked += [*_xy(places[joint]), 1] if labelled else [0.0, 0.0, 0]
    extent = np.sqrt(((head * figure.body.head_radii) ** 2).sum(1))[:2] * figure.size
    return {
        **found,
        "keypoints": keypoints,
        "num_keypoints": sum(v > 0 for v in keypoints[2::3]),
        "iscrowd": 0,
        "category_id": 1,
        "track_id": track_id,
        "joints": [_xy(at[name]) for name in COCO.keypoints],
        "visibility": states,
        "bbox_head": [round(float(v), 2) for v in (*(at["head"][:2] - extent), *(2 * extent))],
        "posetrack18": tracked,
    }


def _xy(point: Vector) -> list[float]:
    return [round(float(v), 2) for v in point[:2]]


def _up(vector: Vector, size: float) -> Vector:
    return vector * size * (1, -1, 1)


def clip_name(split: str, index: int) -> str:
    return f"{index:06d}_{split}"


def frame_name(split: str, index: int, number: int) -> str:
    """Path of a frame's picture below the clips' folder."""
    return f"images/{split}/{clip_name(split, index)}/{number:06d}.png"


def image_id(index: int, frame: int) -> int:
    """As PoseTrack18 numbers its frames: 1, six digits of the clip, four of the frame."""
    return (1_000_000 + index) * 10_000 + frame


def coco(clips: Sequence[Clip]) -> dict[str, Any]:
    """One COCO keypoint file of all frames; `videos`, `video_id` and `frame_id` as COCO-style video data sets have."""
    images, annotations = [], []
    for one in clips:
        for frame, people in enumerate(one.annotations):
            number = image_id(one.index, frame)
            images.append(
                {
                    "id": number,
                    "file_name": frame_name(one.split, one.index, frame),
                    "width": WIDTH,
                    "height": HEIGHT,
                    "video_id": one.index + 1,
                    "frame_id": frame,
                }
            )
            for person in people:
                rest = {key: value for key, value in person.items() if key not in ("posetrack18", "bbox_head")}
                annotations.append({**rest, "id": number * 100 + person["track_id"], "image_id": number})
    videos = [{"id": one.index + 1, "name": clip_name(one.split, one.index), "scenario": one.scenario} for one in clips]
    return {
        "info": {"description": "synthetic mannequins in motion"},
        "videos": videos,
        "images": images,
        "annotations": annotations,
        "categories": [_category(COCO.keypoints, COCO.skeleton)],
    }


def posetrack18(clip: Clip) -> dict[str, Any]:
    """The file of one sequence, as PoseTrack18 writes them."""
    frames = len(clip.annotations)
    images: list[dict[str, Any]] = [
        {
            "id": image_id(clip.index, frame),
            "frame_id": image_id(clip.index, frame),
            "file_name": frame_name(clip.split, clip.index, frame),
            "vid_id": f"{clip.index:06d}",
            "nframes": frames,
            "is_labeled": True,
            "has_no_densepose": True,
            "ignore_regions_x": [],
            "ignore_regions_y": [],
        }
        for frame in range(frames)
    ]
    annotations = [
        {
            "id": image["id"] * 100 + person["track_id"],
            "image_id": image["id"],
            "track_id": person["track_id"],
            "category_id": 1,
            "bbox": person["bbox"],
            "bbox_head": person["bbox_head"],
            "keypoints": person["posetrack18"],
            "scores": [],
        }
        for image, people in zip(images, clip.annotations, strict=True)
        for person in people
    ]
    category = _category(POSETRACK18.keypoints, POSETRACK18.skeleton)
    return {"images": images, "annotations": annotations, "categories": [category]}


def _category(keypoints: Sequence[str], skeleton: Sequence[tuple[int, int]]) -> dict[str, Any]:
    return {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(keypoints),
        "skeleton": [[a + 1, b + 1] for a, b in skeleton],
    }
