"""posert itself, on OpenVINO."""

from __future__ import annotations

from collections import deque
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import PosertError
from ...runtime.estimator import PoseEstimator
from .adapter import Adapter, Inputs, Joints, UnavailableError

_FRAMES = 12
"""Of the video that one call in throughput mode processes."""


def open_adapter(inputs: Inputs) -> Adapter:
    """The bundle in the options `precision` and `mode` ("latency" or "throughput")."""
    stream = inputs["mode"] == "throughput"
    try:
        pose = PoseEstimator(inputs["bundle"], backend="openvino", precision=inputs["precision"], throughput=stream)
    except PosertError as error:
        raise UnavailableError(str(error)) from error

    def call(frame: NDArray[np.uint8], boxes: NDArray[np.float64]) -> Joints:
        if stream:
            (found,) = deque(pose.stream((frame, boxes) for _ in range(_FRAMES)), maxlen=1)
        else:
            found = pose(frame, boxes)
        return found.xy, found.score

    description = {
        "tool": f"posert {version('posert')} on OpenVINO {version('openvino')}",
        "precision": inputs["precision"],
        "threads": "default",
        "people": "a batch",
        "decode": f"the model's own, rule {pose.contract.decode}",
        "pipeline": f"a video of {_FRAMES} frames, overlapped" if stream else "frame by frame",
    }
    return Adapter(call, description, _FRAMES if stream else 1)
