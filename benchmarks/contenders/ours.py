"""posert itself, on OpenVINO."""

from __future__ import annotations

from collections import deque
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import PosertError
from ...runtime.estimator import PoseEstimator
from .worker import Absent, Given, Joints, Opened

_FRAMES = 12
"""Of the video that a call in throughput mode goes through."""


def open(given: Given) -> Opened:
    """The bundle in the `precision` and `mode` ("latency" or "throughput") that are given."""
    stream = given["mode"] == "throughput"
    try:
        pose = PoseEstimator(given["bundle"], backend="openvino", precision=given["precision"], throughput=stream)
    except PosertError as error:
        raise Absent(str(error)) from error

    def call(frame: NDArray[np.uint8], boxes: NDArray[np.float64]) -> Joints:
        if stream:
            (found,) = deque(pose.stream((frame, boxes) for _ in range(_FRAMES)), maxlen=1)
        else:
            found = pose(frame, boxes)
        return found.xy, found.score

    does = {
        "tool": f"posert {version('posert')} on OpenVINO {version('openvino')}",
        "precision": given["precision"],
        "threads": "default",
        "people": "a batch",
        "decode": f"the model's own, rule {pose.contract.decode}",
        "pipeline": f"a video of {_FRAMES} frames, overlapped" if stream else "frame by frame",
    }
    return Opened(call, does, _FRAMES if stream else 1)
