"""The network's outputs behind the joints that an estimator found, without a second run where they can be had."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..backends import Session
from ..estimator import PoseEstimator
from ..pose.heads import Outputs
from ..pose.keypoints import Keypoints


class Recorder:
    """Calls an estimator and keeps the network's outputs of the last call.

    They are copied as the session hands them to the decoder. Where decoding is on the GPU they never reach the host,
    and the network runs a second time when they are asked for.
    """

    def __init__(self, estimator: PoseEstimator) -> None:
        self._estimator = estimator
        self._recorded = estimator.session = _Recorded(estimator.session)

    def __call__(self, frame: ArrayLike, boxes: ArrayLike) -> Keypoints:
        """As the estimator."""
        self._recorded.batches.clear()
        return self._estimator(frame, boxes)

    def outputs(self, frame: ArrayLike, boxes: ArrayLike) -> Outputs:
        """The outputs `(N, ...)` float32 of the last call, which was with this frame and these boxes."""
        batches = self._recorded.batches
        if not batches:
            return self._estimator.outputs(frame, boxes)
        return tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))


class _Recorded:
    """A session that keeps a copy of what it gave."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.batches: list[Outputs] = []

    def infer(self, crops: NDArray[np.uint8]) -> Outputs:
        found = self._session.infer(crops)
        self.batches.append(tuple(output.copy() for output in found))
        return found
