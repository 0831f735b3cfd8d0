"""The joints of MMPose's own data set files, and which of its data set classes uses which: mmpose_datasets.json."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(Path(__file__).with_name("mmpose_datasets.json").read_text(encoding="utf-8"))
    return table


def dataset_file(name: str) -> dict[str, Any] | None:
    """What `configs/_base_/datasets/NAME.py` says: dataset_name, keypoints, flip_pairs, skeleton, sigmas."""
    found: dict[str, Any] | None = _table()["files"].get(name)
    return found


def of_class(name: str, subset: str | None, version: int) -> str | None:
    """The data set file of a data set class of MMPose 0.x (version 0) or 1.x (version 1)."""
    found = _table()["types" if version else "types_0"].get(name)
    if isinstance(found, dict):
        return found["subset"].get(subset)
    return found


def metainfo(name: str) -> dict[str, Any] | None:
    """A data set file in MMPose's own form, as far as joints go."""
    found = dataset_file(name)
    if found is None:
        return None
    keypoints = found["keypoints"]
    swap = {i: keypoints[j] for a, b in found["flip_pairs"] for i, j in ((a, b), (b, a))}
    return {
        "dataset_name": found["dataset_name"],
        "keypoint_info": {i: {"name": name, "swap": swap.get(i, "")} for i, name in enumerate(keypoints)},
        "skeleton_info": {i: {"link": [keypoints[a], keypoints[b]]} for i, (a, b) in enumerate(found["skeleton"])},
        "sigmas": list(found["sigmas"]),
    }
