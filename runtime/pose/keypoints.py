"""The result of the runtime: the joints of all people of one frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Keypoints:
    """Joints of N people, in the order of the boxes that were given.

    Attributes:
        xy: `(N, K, 2)` float32, px of the frame; x to the right, y down, (0, 0) is the centre of the first pixel.
        score: `(N, K)` float32, the network's confidence in each joint (peak of its heatmap).
        boxes: `(N, 4)` float32, xyxy px of the frame, as they were used.
        names: the K joint names.
    """

    xy: NDArray[np.float32]
    score: NDArray[np.float32]
    boxes: NDArray[np.float32]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.xy)

    def to_json(self) -> list[dict[str, Any]]:
        """One record per person: `box` xyxy, `keypoints` K x [x, y, score]."""
        joints = np.concatenate([self.xy, self.score[..., None]], axis=2)
        return [
            {"box": box, "keypoints": person}
            for box, person in zip(
                np.round(self.boxes, 3).tolist(), np.round(joints.astype(np.float64), 4).tolist(), strict=True
            )
        ]
