"""The table that CSV and Parquet hold: one row a person."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..pose.keypoints import BOX_COLUMNS, Keypoints, joint_columns


def number_columns(names: Sequence[str]) -> list[str]:
    """The columns that hold a float: the box, the detection score, the joints.

    Raises InputError: two columns would have one name.
    """
    return [*BOX_COLUMNS, "detection_score", *joint_columns(names)]


def numbers(people: Keypoints) -> NDArray[np.float32]:
    """Those columns of N people `(N, 5 + 3 K)`; NaN where a number is not known."""
    table = np.empty((len(people), 5 + 3 * len(people.names)), np.float32)
    table[:, :4] = people.boxes
    table[:, 4] = np.nan if people.detection_score is None else people.detection_score
    joints = table[:, 5:].reshape(len(people), len(people.names), 3)
    joints[..., :2], joints[..., 2] = people.xy, people.score
    return table


def ids(people: Keypoints) -> list[int | None]:
    """The column `id` of N people."""
    return [None] * len(people) if people.ids is None else people.ids.tolist()
