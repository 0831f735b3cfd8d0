"""OpenPose's JSON 1.3: a folder with one file per frame, as `openpose --write_json` writes it and Pose2Sim reads it.

The joints stand in OpenPose's order, not in the network's: BODY_25 if the network has feet, else OpenPose's COCO order
of 18. Both have a neck: the middle of the shoulders where the network has none. BODY_25 has a middle of the hips, too.
A joint made of two has the lower score of the two. Scores are clipped to 0 to 1. Fingers and faces are left out.

Source: OpenPose, doc/02_output.md and include/openpose/pose/poseParameters.hpp.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..pose.keypoints import Keypoints
from ..system.files import atomic_folder, write_file
from ._format import Format, FrameResult, Subject, Writer

_ARMS = tuple(f"{side}_{joint}" for side in ("right", "left") for joint in ("shoulder", "elbow", "wrist"))
_LEGS = tuple(f"{side}_{joint}" for side in ("right", "left") for joint in ("hip", "knee", "ankle"))
_FACE = ("right_eye", "left_eye", "right_ear", "left_ear")
_FEET = tuple(f"{side}_{part}" for side in ("left", "right") for part in ("big_toe", "small_toe", "heel"))
COCO_18 = ("nose", "neck", *_ARMS, *_LEGS, *_FACE)
BODY_25 = ("nose", "neck", *_ARMS, "hip", *_LEGS, *_FACE, *_FEET)
_MIDDLES = {"neck": ("left_shoulder", "right_shoulder"), "hip": ("left_hip", "right_hip")}

_EMPTY: dict[str, list[float]] = {
    f"{part}_keypoints_{space}": []
    for space in ("2d", "3d")
    for part in ("pose", "face", "hand_left", "hand_right")
    if (part, space) != ("pose", "2d")
}


class _OpenPoseWriter(Writer):
    def __init__(self, folder: Path, subject: Subject) -> None:
        self._folder, self._images = folder, bool(subject.keys)
        self._order = body_order(subject.contract.keypoints)
        self._stem = Path(subject.source).stem or "camera"
        stems = [Path(key).stem for key in subject.keys]
        if len(set(stems)) < len(stems):
            twice = next(stem for stem in stems if stems.count(stem) > 1)
            raise InputError(f"OpenPose's files are named by image: two images are called {twice}; rename one of them")

    def add(self, result: FrameResult) -> None:
        if result.people is None:  # OpenPose writes no file for a frame that it could not read
            return
        stem = Path(str(result.key)).stem if self._images else f"{self._stem}_{result.index:012d}"
        joints = reorder(result.people, self._order).tolist()
        ids = [-1] * len(joints) if result.people.ids is None else result.people.ids.tolist()
        people = [
            {"person_id": [number], "pose_keypoints_2d": person, **_EMPTY}
            for number, person in zip(ids, joints, strict=True)
        ]
        text = json.dumps({"version": 1.3, "people": people}, allow_nan=False)
        write_file(self._folder / f"{stem}_keypoints.json", text.encode())

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Nothing: each frame is a file."""


def body_order(names: Sequence[str]) -> list[tuple[int, ...]]:
    """For each joint of OpenPose's BODY_25 or COCO order the joint of the network, or the two whose middle it is.

    Raises InputError: the network lacks one of them.
    """
    place: dict[str, tuple[int, ...]] = {name: (i,) for i, name in enumerate(names)}
    for name, (left, right) in _MIDDLES.items():
        if name not in place and left in place and right in place:
            place[name] = (*place[left], *place[right])
    wanted = BODY_25 if set(_FEET) <= set(names) else COCO_18
    missing = [name for name in wanted if name not in place]
    if missing:
        raise InputError(
            f"OpenPose's format holds bodies: this network has no {', '.join(missing[:4])}"
            f"{' and others' if len(missing) > 4 else ''}; write .json, .csv or .parquet instead"
        )
    return [place[name] for name in wanted]


def reorder(people: Keypoints, order: Sequence[tuple[int, ...]]) -> NDArray[np.float64]:
    """The joints `(N, 3 * J)` x, y, score in OpenPose's order; a joint without a place is 0, 0, 0, as in OpenPose."""
    found = np.zeros((len(people), len(order), 3))
    for place, joints in enumerate(order):
        found[:, place, :2] = people.xy[:, joints].mean(axis=1, dtype=np.float64)
        found[:, place, 2] = people.score[:, joints].min(axis=1).clip(0, 1)
    found[~np.isfinite(found).all(axis=2)] = 0
    return found.round(4).reshape(len(people), 3 * len(order))


@contextlib.contextmanager
def _open(path: Path, subject: Subject) -> Iterator[Writer]:
    with atomic_folder(path, "*_keypoints.json") as folder:
        yield _OpenPoseWriter(folder, subject)


FORMAT = Format("openpose", ".openpose", "a folder of OpenPose's JSON 1.3, a file per frame, body joints", _open)
