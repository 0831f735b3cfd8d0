"""Outputs that were recorded are those of a run of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from posert.runtime import PoseEstimator
from posert.runtime.accuracy.recorder import Recorder


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_equal_to_a_run_of_their_own(narrow_bundle: Path, backend: str) -> None:
    rng = np.random.default_rng(0)
    pose, plain = (PoseEstimator(narrow_bundle, backend=backend) for _ in range(2))
    recorder = Recorder(pose)
    for people in (1, 3, 40):  # 40 take several batches
        frame = rng.integers(0, 256, (120, 160, 3), np.uint8)
        corner = rng.uniform(0, 60, (people, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(10, 60, (people, 2))], axis=1)
        found = recorder(frame, boxes)
        np.testing.assert_array_equal(found.xy, plain(frame, boxes).xy)
        recorded, own = recorder.outputs(frame, boxes), plain.outputs(frame, boxes)
        assert len(recorded) == len(own)
        for one, other in zip(recorded, own, strict=True):
            np.testing.assert_array_equal(one, other)
