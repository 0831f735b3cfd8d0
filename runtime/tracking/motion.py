"""Constant velocity: where the joints of M tracks are, how fast they move, and how sure that is.

A Kalman filter for each joint, with the noise of DeepSORT (Wojke et al., ICIP 2017) as mmdeploy's pose_tracker applies
it to joints: positions and measurements deviate by 1/20 of the instance's size in a frame, velocities by 1/160. Both
axes of a joint share one covariance. All joints of all tracks are computed at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Double = NDArray[np.float64]
Bool = NDArray[np.bool_]

_POSITION, _VELOCITY = 1 / 20, 1 / 160  # standard deviations, of the size of the instance
_GATE = 5.991  # 95 % of chi-squared with two degrees of freedom: beyond it a joint has jumped, not moved
_LEAST_SCORE = 0.1


class Motion:
    """State of the joints of M tracks.

    Attributes:
        xy: `(M, K, 2)` position, px of the frame: of the last frame, or after `advance` of the next one.
        velocity: `(M, K, 2)` px per frame.
    """

    def __init__(self, joints: int) -> None:
        self.xy: Double = np.zeros((0, joints, 2))
        self.velocity: Double = np.zeros((0, joints, 2))
        self._covariance: Double = np.zeros((0, joints, 3))  # of position, of both, of velocity

    def add(self, xy: Double, size: Double) -> None:
        """Append tracks that stand still at `xy` `(N, K, 2)`; `size` `(N,)` px, the square root of a box's area."""
        self.xy = np.concatenate([self.xy, xy])
        self.velocity = np.concatenate([self.velocity, np.zeros_like(xy)])
        self._covariance = np.concatenate([self._covariance, _unsure(size, xy.shape[1])])

    def keep(self, kept: Bool) -> None:
        """Remove the tracks of which `kept` `(M,)` is False."""
        self.xy, self.velocity, self._covariance = self.xy[kept], self.velocity[kept], self._covariance[kept]

    def advance(self, size: Double) -> None:
        """Predict the next frame; `size` `(M,)` px of the tracks."""
        self.xy = self.xy + self.velocity
        p, c, v = np.moveaxis(self._covariance, -1, 0)
        noise = size[:, None] ** 2
        self._covariance = np.stack([p + 2 * c + v + noise * _POSITION**2, c + v, v + noise * _VELOCITY**2], axis=-1)

    def correct(self, tracks: NDArray[np.intp], xy: Double, score: Double, size: Double) -> None:
        """Move some tracks towards what was measured; a joint that has jumped is set there.

        Args:
            tracks: `(N,)` which ones.
            xy: `(N, K, 2)` measured, px of the frame.
            score: `(N, K)`: the lower the score of a joint, the less it moves its track.
            size: `(N,)` px.
        """
        p, c, v = np.moveaxis(self._covariance[tracks], -1, 0)
        deviation = _POSITION * size[:, None] / score.clip(_LEAST_SCORE, 1)
        total = p + deviation**2
        error = xy - self.xy[tracks]
        jumped = (error**2).sum(axis=2) > _GATE * total
        gain, pull = p / total, c / total
        self.xy[tracks] = np.where(jumped[..., None], xy, self.xy[tracks] + gain[..., None] * error)
        self.velocity[tracks] += np.where(jumped, 0, pull)[..., None] * error
        sure = np.stack([(1 - gain) * p, (1 - gain) * c, v - pull * c], axis=-1)
        self._covariance[tracks] = np.where(jumped[..., None], _unsure(size, xy.shape[1]), sure)

    def restart(self, tracks: NDArray[np.intp], xy: Double, size: Double) -> None:
        """Put tracks that were missing where they were found, at rest; arguments as for `correct`."""
        self.xy[tracks], self.velocity[tracks] = xy, 0
        self._covariance[tracks] = _unsure(size, xy.shape[1])

    def stiffen(self, tracks: Bool, weight: Double) -> None:
        """Let all joints of missing tracks move alike: limbs that go on swinging would soon leave their body.

        Args:
            tracks: `(M,)` which ones.
            weight: `(M, K)` of the joints in the mean velocity.
        """
        share = weight[tracks] + 1e-9  # without any weight: the plain mean
        mean = (self.velocity[tracks] * share[..., None]).sum(axis=1) / share.sum(axis=1)[:, None]
        self.velocity[tracks] = mean[:, None]


def _unsure(size: Double, joints: int) -> Double:
    """Covariance `(N, K, 3)` of joints that were seen once."""
    one = np.stack([(2 * _POSITION * size) ** 2, np.zeros_like(size), (10 * _VELOCITY * size) ** 2], axis=-1)
    return np.repeat(one[:, None], joints, axis=1)
