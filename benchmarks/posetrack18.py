"""Results with COCO's joints as PoseTrack18 names them, for `posert evaluate --dataset posetrack18`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posert.runtime.datasets import dataset

_LEAST = 0.3  # score from which a joint is given: a joint that is given and wrong counts twice, as miss and as false


def posetrack18(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Records of PoseTrack18 from records of COCO's 17 joints.

    `head_bottom` is the middle of the shoulders. COCO has nothing for `head_top`, which is left out and counts as
    missed, and so are joints with a score below 0.3.
    """
    wanted, known = dataset("posetrack18").keypoints, dataset("coco").keypoints
    records = []
    for record in results:
        joints = dict(zip(known, np.array(record["keypoints"], np.float64).reshape(-1, 3), strict=True))
        shoulders = np.stack([joints["left_shoulder"], joints["right_shoulder"]])
        joints["head_bottom"] = np.append(shoulders[:, :2].mean(axis=0), shoulders[:, 2].min())
        given = [joints.get(name, np.zeros(3)) for name in wanted]
        kept = [joint if joint[2] >= _LEAST else np.zeros(3) for joint in given]
        numbers = np.concatenate(kept).round(3).tolist()
        records.append({**record, "keypoints": numbers, "scores": numbers[2::3]})
    return records
