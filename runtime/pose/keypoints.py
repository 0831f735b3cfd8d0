"""The result of the runtime: the joints of all people of one frame."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError, PosertError

_COUNTED = 0.2  # joints with a lower score do not count in a person's score


@dataclass(frozen=True)
class Keypoints:
    """Joints of N people, in the order of the boxes that were given.

    `people[people.score.mean(1) > 0.5]` and other masks, indices and slices give the people they select.

    Attributes:
        xy: `(N, K, 2)` float32, px of the frame; x to the right, y down, (0, 0) is the centre of the first pixel.
        score: `(N, K)` float32, the network's confidence in each joint (peak of its heatmap).
        boxes: `(N, 4)` float32, xyxy px of the frame, as they were used.
        names: the K joint names.
        ids: `(N,)` int64, who is who from frame to frame; None without a tracker.
        detection_score: `(N,)` float32, the detector's confidence in each box; None without a detector.
        raw: `(N, K, 2)` float32, `xy` as the network gave it, where `xy` was smoothed; None elsewhere.
        subject: what one of them is called, "person" or, of a data set of your own, "instance".
    """

    xy: NDArray[np.float32]
    score: NDArray[np.float32]
    boxes: NDArray[np.float32]
    names: tuple[str, ...]
    ids: NDArray[np.int64] | None = None
    detection_score: NDArray[np.float32] | None = None
    raw: NDArray[np.float32] | None = None
    subject: str = "person"

    def __len__(self) -> int:
        return len(self.xy)

    def __getitem__(self, which: Any) -> Keypoints:
        """The people that a mask `(N,)`, an array or list of indices, a slice or one index selects.

        Raises IndexError: there is no such person, or the mask has another length.
        """
        rows = np.atleast_1d(np.arange(len(self))[which])
        return Keypoints(
            self.xy[rows],
            self.score[rows],
            self.boxes[rows],
            self.names,
            None if self.ids is None else self.ids[rows],
            None if self.detection_score is None else self.detection_score[rows],
            None if self.raw is None else self.raw[rows],
            self.subject,
        )

    def to_json(self) -> list[dict[str, Any]]:
        """A record per person: `box`, `keypoints` K x [x, y, score]; and `id`, `detection_score` and `raw` if known."""
        joints = np.concatenate([self.xy, self.score[..., None]], axis=2)
        records: list[dict[str, Any]] = [
            {"box": box, "keypoints": person}
            for box, person in zip(
                np.round(self.boxes, 3).tolist(), np.round(joints.astype(np.float64), 4).tolist(), strict=True
            )
        ]
        if self.ids is not None:
            for record, number in zip(records, self.ids.tolist(), strict=True):
                record["id"] = number
        if self.detection_score is not None:
            for record, score in zip(records, np.round(self.detection_score.astype(np.float64), 4), strict=True):
                record["detection_score"] = float(score)
        if self.raw is not None:
            for record, person in zip(records, np.round(self.raw.astype(np.float64), 4).tolist(), strict=True):
                record["raw"] = person
        return records

    def to_coco(
        self, image_id: int | str, *, category_id: int = 1, parts: Sequence[tuple[str, int, int]] = ()
    ) -> list[dict[str, Any]]:
        """Records of a COCO results file, as `pycocotools` and `posert evaluate --results` read them.

        `score` is the mean of the joint scores above 0.2, times the detection score: the rule of the published figures
        (see `person_scores`). `track_id` is there if the people have ids. Boxes are left out: pycocotools would take
        the records for detections.

        Args:
            image_id: the image's `id` in the annotations.
            category_id: 1 is COCO's person.
            parts: (field, first joint, last joint + 1), for data sets that keep the joints in several fields, as
                COCO-WholeBody; empty: all in `keypoints`.
        """
        joints = np.concatenate([self.xy, self.score[..., None]], axis=2).astype(np.float64).round(4)
        certain = np.ones(len(self)) if self.detection_score is None else self.detection_score
        scores = person_scores(self.score, certain).tolist()
        fields = parts or (("keypoints", 0, len(self.names)),)
        ids: list[dict[str, Any]] = (
            [{}] * len(self) if self.ids is None else [{"track_id": i} for i in self.ids.tolist()]
        )
        return [
            {
                "image_id": image_id,
                "category_id": category_id,
                **{field: person[first:last].ravel().tolist() for field, first, last in fields},
                "score": score,
                **more,
            }
            for person, score, more in zip(joints, scores, ids, strict=True)
        ]

    def columns(self) -> dict[str, NDArray[Any]]:
        """The people as a table, one row a person: columns `(N,)` by name.

        `person`, the index in the frame; `id`; `x1, y1, x2, y2`, the box; `detection_score`; then `NAME_x`, `NAME_y`
        and `NAME_score` of each joint; of smoothed people then `NAME_raw_x` and `NAME_raw_y`. `id` and
        `detection_score` are there only if they are known.

        Raises InputError: two columns would have one name.
        """
        table: dict[str, NDArray[Any]] = {"person": np.arange(len(self))}
        if self.ids is not None:
            table["id"] = self.ids
        table.update(zip(BOX_COLUMNS, self.boxes.T, strict=True))
        if self.detection_score is not None:
            table["detection_score"] = self.detection_score
        joints = np.concatenate([self.xy, self.score[..., None]], axis=2).reshape(len(self), 3 * len(self.names))
        columns = joint_columns(self.names, raw=self.raw is not None)
        if self.raw is not None:
            joints = np.concatenate([joints, self.raw.reshape(len(self), -1)], axis=1)
        return table | dict(zip(columns, joints.T, strict=True))

    def to_dataframe(self) -> Any:
        """`columns` as a polars DataFrame, or as a pandas one where polars is not installed.

        Raises PosertError: neither is installed.
        """
        try:
            return _library("polars", "to_dataframe").DataFrame(self.columns())
        except PosertError:
            return _library("pandas", "to_dataframe", "polars (or pandas)").DataFrame(self.columns())

    def to_supervision(self) -> Any:
        """`supervision.KeyPoints`, whose annotators draw them; `data` holds `xyxy` and, if there are ids, `tracker_id`.

        All are of the class 0, whose name is `subject`.

        Raises PosertError: supervision is not installed, or older than 0.29.
        """
        supervision = _library("supervision", "to_supervision")
        data: dict[str, Any] = {"class_name": np.full(len(self), self.subject), "xyxy": self.boxes}
        if self.ids is not None:
            data["tracker_id"] = self.ids
        try:
            return supervision.KeyPoints(
                xy=self.xy,
                class_id=np.zeros(len(self), int),
                keypoint_confidence=self.score,
                detection_confidence=self.detection_score,
                data=data,
            )
        except TypeError as error:  # 0.28 and older have `confidence` in place of the two
            raise PosertError(
                f"to_supervision needs supervision 0.29 or newer, {supervision.__version__} is installed: "
                "pip install --upgrade supervision"
            ) from error

    def to_fiftyone(self, width: int, height: int) -> Any:
        """`fiftyone.Keypoints`: points relative to the frame's size, the scores as `confidence`, the id as `index`.

        Points are divided by the size as FiftyOne's own importer of COCO files does, so that both lie in one place.
        The detection score becomes the attribute `detection_score`.

        Args:
            width, height: of the frame, px.

        Raises PosertError: fiftyone is not installed.
        """
        fiftyone = _library("fiftyone", "to_fiftyone")
        points = (self.xy.astype(np.float64) / (width, height)).tolist()
        found = []
        for i, (person, scores) in enumerate(zip(points, self.score.astype(np.float64).tolist(), strict=True)):
            more: dict[str, Any] = {}
            if self.ids is not None:
                more["index"] = int(self.ids[i])
            if self.detection_score is not None:
                more["detection_score"] = float(self.detection_score[i])
            found.append(fiftyone.Keypoint(label=self.subject, points=person, confidence=scores, **more))
        return fiftyone.Keypoints(keypoints=found)


BOX_COLUMNS = ("x1", "y1", "x2", "y2")


def joint_columns(names: Sequence[str], raw: bool = False) -> list[str]:
    """The 3 K columns of a table for K joints, "nose_x", "nose_y", "nose_score", ...

    With `raw` 2 K more follow for the joints before smoothing, "nose_raw_x", "nose_raw_y", ...

    Raises InputError: two columns would have one name.
    """
    columns = [f"{name}_{what}" for name in names for what in ("x", "y", "score")]
    if raw:
        columns += [f"{name}_raw_{what}" for name in names for what in ("x", "y")]
    known = {"detection_score"}
    for column in columns:
        if column in known:
            raise InputError(f"a table of these joints has two columns {column!r}: give the joints names of their own")
        known.add(column)
    return columns


def person_scores(score: NDArray[np.floating], box_score: ArrayLike) -> NDArray[np.float64]:
    """Scores `(N,)` of N people: the mean of the joint scores `(N, K)` above 0.2 times the box score `(N,)`.

    The mean is 0 if no joint score is above 0.2. Annotated boxes have the score 1. The rule of the published figures
    (MMPose 0.x `TopDownCocoDataset.evaluate`; the HRNet repository's is the same).
    """
    joints = score.astype(np.float64)  # in single precision 0.2 is above 0.2
    counted = joints > _COUNTED
    mean = np.where(counted, joints, 0).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
    return np.asarray(mean * np.asarray(box_score, np.float64))


def _library(name: str, method: str, packages: str = "") -> ModuleType:
    """An optional library; PosertError with the pip line if it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise PosertError(
            f"{method} needs the package {packages or name}, which is not installed: "
            f"pip install {(packages or name).split()[0]}"
        ) from error
