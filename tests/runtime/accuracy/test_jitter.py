"""Jitter of people in labelled videos, against plain second differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from posert.runtime.accuracy.jitter import Videos
from posert.runtime.accuracy.people import labelled_people

JOINTS, FRAMES = 17, 6


def labels(clip_key: str = "video_id", clips: int = 2) -> dict[str, Any]:
    """Two people who walk in each clip; images of the clips take turns, as a shuffled file has them."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for frame in range(FRAMES):
        for clip in range(clips):
            image = len(images)
            name = f"{clip}/{frame}.png"
            images.append({"id": image, "file_name": name, clip_key: f"{clip:06}", "frame_id": 10 + frame})
            for person in (0, 1):
                xy = np.add.outer(np.arange(JOINTS) * 3.0, [20 + 4 * frame + 200 * person, 50 + frame**2])
                keypoints = np.concatenate([xy, np.full((JOINTS, 1), 2)], axis=1).ravel().tolist()
                box = [*xy.min(axis=0), *np.ptp(xy, axis=0)]
                annotations.append(
                    {"id": len(annotations), "image_id": image, "category_id": 1, "track_id": person, "bbox": box}
                    | {"keypoints": keypoints, "num_keypoints": JOINTS, "area": 900.0, "iscrowd": 0}
                )
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}


@pytest.mark.parametrize("clip_key", ["video_id", "vid_id"])
def test_it_is_the_mean_second_difference_of_the_error(clip_key: str) -> None:
    coco = labels(clip_key)
    people = labelled_people(coco)
    assert people.joints is not None
    truth = people.joints[..., :2]
    rng = np.random.default_rng(0)
    error = rng.normal(0, 2, truth.shape)
    videos = Videos(coco, people)
    assert videos.acceleration_error(truth) == pytest.approx(0, abs=1e-12)
    lengths = []
    clip = np.array([coco["images"][i]["file_name"][0] for i in people.image])
    frame = np.array([coco["images"][i]["frame_id"] for i in people.image])
    track = np.array([coco["annotations"][i]["track_id"] for i in people.source])
    for which in {*zip(clip.tolist(), track.tolist(), strict=True)}:
        rows = np.flatnonzero((clip == which[0]) & (track == which[1]))
        series = error[rows[np.argsort(frame[rows])]]
        lengths.append(np.linalg.norm(np.diff(series, n=2, axis=0), axis=2))
    assert videos.acceleration_error(truth + error) == pytest.approx(np.concatenate(lengths).mean())


def test_a_constant_offset_is_no_jitter() -> None:
    coco = labels()
    people = labelled_people(coco)
    assert people.joints is not None
    assert Videos(coco, people).acceleration_error(people.joints[..., :2] + 7) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("missing", ["frame_id", "video_id", "track_id", "neighbours"])
def test_pictures_that_are_no_videos_have_none(missing: str) -> None:
    coco = labels()
    if missing == "neighbours":
        for record in coco["images"]:
            record["frame_id"] *= 2
    else:
        for record in coco["annotations" if missing == "track_id" else "images"]:
            del record[missing]
    people = labelled_people(coco)
    assert people.joints is not None
    assert Videos(coco, people).acceleration_error(people.joints[..., :2]) is None
