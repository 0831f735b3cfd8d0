"""PoseTrack18's multi-person tracking, as its evaluation kit (poseval) counts it."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .clear_mot import ClearMot
from .coco_files import Entry, require
from .poseval_frames import Frame, frames
from .spec import Dataset

_log = logging.getLogger(__name__)

Double = NDArray[np.float64]

_HALF = 0.5
"""Share of a person's annotated joints that are right where the person was found."""


def has_tracks(coco: Mapping[str, Any], results: Sequence[Entry]) -> bool:
    """Whether annotations and results have identities.

    Tools that estimate without tracking, MMPose among them, write the same `track_id` for everyone in a frame: those
    are none.
    """
    if not results or not all("track_id" in entry for entry in [*results, *coco["annotations"]]):
        return False
    alike = len({(entry["image_id"], entry["track_id"]) for entry in results}) < len(results)
    if alike and len({entry["track_id"] for entry in results}) > 1:
        _log.warning("track_id repeats within a frame of the results: no MOTA; every result of a frame needs its own")
    return not alike


def tracking_metrics(dataset: Dataset, coco: Mapping[str, Any], results: Sequence[Entry]) -> tuple[Double, int]:
    """MOTA of each joint, and how often a person's identity changes.

    MOTA is poseval's, with its peculiarities: each joint is tracked on its own, the last frame of a sequence does not
    count, and a frame in which nobody was found is one miss and one false positive of each joint. A person's identity,
    which is not poseval's, changes where somebody with at least half of the joints right has another `track_id` than
    the last time (CLEAR MOT).

    Args:
        dataset: PoseTrack18.
        coco: as for `poseval_metrics`; annotations with `track_id`, images with `vid_id`.
        results: records with `track_id`.

    Returns:
        `(J,)` MOTA of the evaluated joints, NaN for one that is never annotated, and the number of changes.

    Raises:
        InputError: a record that does not fit.
    """
    annotations: Sequence[Entry] = coco["annotations"]
    require(annotations, "annotations", ("track_id",))
    require(results, "results", ("track_id",))
    sequences: dict[Hashable, list[Frame]] = {}
    for frame in frames(dataset, coco, results):
        require([frame.image], "images", ("vid_id",))
        sequences.setdefault(frame.image["vid_id"], []).append(frame)
    joints = [ClearMot() for _ in dataset.evaluated]
    switches = 0
    for sequence in sequences.values():
        mine, people = [ClearMot() for _ in dataset.evaluated], ClearMot()
        for frame in sequence:
            truth, found = _ids(annotations, frame.people), _ids(results, frame.predictions)
            _add_people(people, frame, truth, found)
            if frame is not sequence[-1]:
                _add_joints(mine, frame, truth, found)
        joints = [a + b for a, b in zip(joints, mine, strict=True)]
        switches += people.switches
    return np.array([joint.mota for joint in joints]), switches


def _add_joints(counts: Sequence[ClearMot], frame: Frame, truth: list[int], found: list[int]) -> None:
    seen, known = frame.here.any(axis=1), frame.there.any(axis=1)
    for joint, count in enumerate(counts):
        if not seen.any() or not known.any():
            count.add([0], [0], np.full((1, 1), np.nan))
            continue
        people, rows = np.flatnonzero(frame.there[:, joint]), np.flatnonzero(frame.here[:, joint])
        distance = np.where(frame.match, frame.distance, np.nan)[rows][:, people, joint].T
        count.add([truth[i] for i in people], [found[i] for i in rows], distance)


def _add_people(count: ClearMot, frame: Frame, truth: list[int], found: list[int]) -> None:
    share = (frame.match.sum(axis=2) / np.maximum(frame.there.sum(axis=1), 1)).T
    count.add(truth, found, np.where(share >= _HALF, 1 - share, np.nan))


def _ids(entries: Sequence[Entry], rows: NDArray[np.intp]) -> list[int]:
    ids = [entries[row]["track_id"] for row in rows]
    if not all(isinstance(number, int) for number in ids) or len(set(ids)) < len(ids):
        raise InputError(
            f"image {entries[rows[0]]['image_id']!r} has the track ids {ids}: expected a different whole number "
            "for each person"
        )
    return ids
