"""Jitter of a graph on labelled videos: what AP cannot see, because it looks at one frame at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..metrics.acceleration import acceleration_error
from .people import People

_CLIPS = ("video_id", "vid_id")  # of COCO's video data sets, and of PoseTrack18


class Videos:
    """Which people are one and the same in frames that follow one another.

    Args:
        coco: annotations; images of videos have `frame_id` and `video_id` (or PoseTrack18's `vid_id`), and people in
            them a `track_id`.
        people: from them, all with labelled joints.
    """

    def __init__(self, coco: Mapping[str, Any], people: People) -> None:
        images, annotations = coco["images"], [coco["annotations"][i] for i in people.source]
        self._image, self._joints = people.image, people.joints
        self._clip = _numbered([next((r[key] for key in _CLIPS if key in r), None) for r in images])
        frames = [r.get("frame_id") for r in images]
        tracks = [a.get("track_id") for a in annotations]
        whole = all(type(number) is int for number in (*frames, *tracks)) and self._clip.min(initial=0) >= 0
        self._frame = np.array(frames if whole else [], np.int64)
        self._track = np.array(tracks if whole else [], np.int64)

    def acceleration_error(self, xy: NDArray[np.floating]) -> float | None:
        """Mean error of the acceleration of the labelled joints, px of the frame per frame squared.

        None where the frames are not of videos, or nobody is labelled in three frames that follow one another.

        Args:
            xy: `(N, K, 2)` what was found of the people, px of the frame.
        """
        if not len(self._frame):
            return None
        assert self._joints is not None  # labelled people have joints
        clip, frame = self._clip[self._image], self._frame[self._image]
        truth, labelled = self._joints[..., :2], self._joints[..., 2] > 0
        found = acceleration_error(clip, frame, self._track, truth, xy, labelled)
        return found.mean if found.count else None


def _numbered(names: list[Any]) -> NDArray[np.int64]:
    """A number for each different name; -1 for None."""
    numbers: dict[str, int] = {}
    return np.array([-1 if n is None else numbers.setdefault(str(n), len(numbers)) for n in names], np.int64)
