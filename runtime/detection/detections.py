"""What a detector found in one frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Detections:
    """N boxes of one frame, the surest first.

    Attributes:
        boxes: `(N, 4)` float32, xyxy px of the frame, clipped to it.
        score: `(N,)` float32, from 0 to 1.
        label: `(N,)` int64, numbers of the detector's classes.
    """

    boxes: NDArray[np.float32]
    score: NDArray[np.float32]
    label: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.boxes)
