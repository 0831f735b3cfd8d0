"""The table that CSV and Parquet hold: one row a person."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..pose.keypoints import BOX_COLUMNS, Keypoints, joint_columns
from ._format import Subject

PARQUET_OPTIONS: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True}
"""For pyarrow's writer, of all tables. Readers can tell a page that was damaged by its sum."""


def number_columns(subject: Subject) -> list[str]:
    """The columns that hold a float: the box, the detection score, the joints, and the raw ones of smoothed people.

    Raises InputError: two columns would have one name.
    """
    return [*BOX_COLUMNS, "detection_score", *joint_columns(subject.contract.keypoints, subject.smoothed)]


def numbers(people: Keypoints, subject: Subject) -> NDArray[np.float32]:
    """Those columns of N people `(N, 5 + 3 K)`, or `(N, 5 + 5 K)` with raw joints; NaN where a number is not known."""
    joints = len(people.names)
    table = np.full((len(people), 5 + (5 if subject.smoothed else 3) * joints), np.nan, np.float32)
    table[:, :4] = people.boxes
    if people.detection_score is not None:
        table[:, 4] = people.detection_score
    found = table[:, 5 : 5 + 3 * joints].reshape(len(people), joints, 3)
    found[..., :2], found[..., 2] = people.xy, people.score
    if subject.smoothed and people.raw is not None:
        table[:, 5 + 3 * joints :] = people.raw.reshape(len(people), -1)
    return table


def ids(people: Keypoints) -> list[int | None]:
    """The column `id` of N people."""
    return [None] * len(people) if people.ids is None else people.ids.tolist()
