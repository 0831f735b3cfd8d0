"""From heatmaps to joints, by the rule that a model was published with.

Every rule starts from the highest cell of a map; the rules differ in how they go below one cell:

| rule | below one cell | from |
|---|---|---|
| `none` | not at all | |
| `default` | a quarter cell towards the higher neighbour | HRNet, MMPose |
| `unbiased` | Newton step on the logarithm of the blurred map (DARK, Zhang et al., CVPR 2020) | MMPose |
| `udp` | the same with other borders and differences (Huang et al., CVPR 2020) | MMPose `use_udp` |
| `udp_combined` | offset maps: three channels per joint (class, x, y) | MMPose `CombinedTarget` |
| `megvii` | quarter cell on the blurred map, half a cell added | MMPose |
| `megvii_original` | quarter cell towards the second highest cell, half a cell added | Megvii's MSPN repository |
| `hourglass` | quarter cell towards the higher neighbour, half a cell added | Princeton's stacked hourglass |

Coordinates are px of the heatmap, (0, 0) its first cell; `to_frame` takes them to the frame. A joint whose map has no
value above zero is at (-1, -1) in the heatmap.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..registry import unknown_name
from .blur import blur, blur_matrix, blurred_windows

Float = NDArray[np.float32]
Double = NDArray[np.float64]
Index = NDArray[np.intp]

_LOG_FLOOR = 1e-10
_MEGVII_AMPLITUDE = 255
_MEGVII_MARGIN = 10
_UDP_RADIUS = 0.0546875  # of the map's height: the radius within which offsets are trained


def decode(heatmaps: NDArray[np.floating], rule: str = "default", kernel: int = 11) -> tuple[Float, Float]:
    """Joints of N people from their heatmaps.

    Args:
        heatmaps: `(N, K, h, w)` float32; `(N, 3 * K, h, w)` for `udp_combined`.
        rule: one of the rules above.
        kernel: size of the Gaussian that the rule blurs with, cells; not used by `none` and `default`.

    Returns:
        xy `(N, K, 2)` float32, px of the heatmap, and score `(N, K)` float32, the highest value of each map (of the
        blurred map in `udp_combined`; `max / 255 + 0.5` in the Megvii rules, whose maps have the amplitude 255).

    Raises:
        InputError: an unknown rule, a wrong shape, or maps that are not finite; the first person and joint are named.
    """
    if rule not in _RULES:
        raise InputError(unknown_name("decode rule", rule, _RULES))
    maps = np.ascontiguousarray(heatmaps, np.float32)
    channels = 3 if rule == "udp_combined" else 1
    if maps.ndim != 4 or 0 in maps.shape[1:] or maps.shape[1] % channels:
        raise InputError(
            f"heatmaps must have the shape (people, {'3 * ' if channels == 3 else ''}joints, height, width), "
            f"not {maps.shape}"
        )
    people, joints = maps.shape[0], maps.shape[1] // channels
    if people == 0:
        return np.zeros((0, joints, 2), np.float32), np.zeros((0, joints), np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        points, values = _RULES[rule](maps.reshape(people * joints, channels, *maps.shape[2:]), kernel)
    xy, score = points.astype(np.float32).reshape(people, joints, 2), values.reshape(people, joints)
    # argmax stops at the first NaN, so one in any cell arrives here: the maps need not be searched for it
    if not (np.isfinite(score).all() and np.isfinite(xy).all()):
        bad = ~(np.isfinite(score) & np.isfinite(xy).all(axis=2))
        person, joint = np.argwhere(bad)[0]
        raise InputError(
            f"the heatmaps of {int(bad.sum())} of {bad.size} joints hold NaN or infinity, the first at person {person} "
            f"joint {joint}: the network overflowed; use the precision fp32"
        )
    return xy, score


def to_frame(xy: Float, center: Float, extent: Float, width: int, height: int, udp: bool = False) -> Float:
    """Take joints from the heatmap to the frame.

    Args:
        xy: `(N, K, 2)`, px of the heatmap.
        center, extent: `(N, 2)`, px of the frame, of the crops that the maps belong to.
        width, height: size of the heatmaps, cells.
        udp: whether the extent spans `width - 1` cells (as in `crop_matrices`) or `width`.

    Returns:
        `(N, K, 2)` float32, px of the frame.
    """
    span = np.asarray(extent, np.float64)
    cell = span / ((width - 1, height - 1) if udp else (width, height))
    first = np.asarray(center, np.float64) - span * 0.5
    return np.asarray(xy * cell[:, None] + first[:, None], np.float32)


# In all that follows M = N * K maps lie in one row: `(M, h, w)`.


def _highest(maps: Float) -> tuple[Index, Index, Float]:
    """Column, row and value `(M,)` of each map's first highest cell in reading order; -1, -1 if it is not above 0."""
    cells = maps.reshape(len(maps), -1)
    index = cells.argmax(axis=1)
    value = cells[np.arange(len(cells)), index]
    y, x = np.divmod(index, maps.shape[2])
    empty = value <= 0
    if empty.any():
        x[empty] = y[empty] = -1
    return x, y, value


def _points(x: Index, y: Index) -> Double:
    """`(M, 2)` of columns and rows. np.stack takes three times as long when it is not in the CPU's caches."""
    points = np.empty((len(x), 2))
    points[:, 0], points[:, 1] = x, y
    return points


def _none(maps: Float, kernel: int) -> tuple[Double, Float]:
    x, y, value = _highest(maps[:, 0])
    return _points(x, y), value


def _default(maps: Float, kernel: int) -> tuple[Double, Float]:
    x, y, value = _highest(maps[:, 0])
    return _points(x, y) + 0.25 * _uphill(maps[:, 0], x, y)[0], value


def _uphill(maps: Float, x: Index, y: Index) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Sign of the slope at each cell `(M, 2)`, 0 unless the cell is inside, and which cells are `(M,)`.

    Inside leaves out two cells at the left and the top, one at the right and the bottom, as the reference does.
    """
    height, width = maps.shape[1:]
    inside = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
    # cells near the border look at some other cell of the batch, and are then set to 0
    at = (np.arange(len(maps)) * height + y) * width + x
    cells = maps.reshape(-1)
    neighbours = cells.take(at[:, None] + np.array([1, width, -1, -width]), mode="clip")
    return np.sign(neighbours[:, :2] - neighbours[:, 2:]) * inside[:, None], inside


def _unbiased(maps: Float, kernel: int) -> tuple[Double, Float]:
    maps = maps[:, 0]
    height, width = maps.shape[1:]
    x, y, value = _highest(maps)
    xy = _points(x, y)
    at = np.flatnonzero((x > 1) & (x < width - 2) & (y > 1) & (y < height - 2))
    blurred = blurred_windows(maps[at], x[at], y[at], kernel, "zero", 2)
    # The reference scales the blurred map to the old maximum. That adds a constant to the logarithm, so it is only
    # done where some value of the window lies under the floor of the logarithm.
    low = np.flatnonzero(blurred.min(axis=(1, 2)) < _LOG_FLOOR)
    if len(low):
        peak = blur(maps[at[low]], kernel, "zero").max(axis=(1, 2))
        blurred[low] *= (value[at[low]] / peak)[:, None, None]
    log = np.log(np.maximum(blurred, _LOG_FLOOR))
    slope = 0.5 * np.stack([log[:, 2, 3] - log[:, 2, 1], log[:, 3, 2] - log[:, 1, 2]], axis=1)
    dxx = 0.25 * (log[:, 2, 4] - 2 * log[:, 2, 2] + log[:, 2, 0])
    dyy = 0.25 * (log[:, 4, 2] - 2 * log[:, 2, 2] + log[:, 0, 2])
    dxy = 0.25 * (log[:, 3, 3] - log[:, 1, 3] - log[:, 3, 1] + log[:, 1, 1])
    xy[at] -= _newton(dxx, dyy, dxy, slope)
    return xy, value


def _udp(maps: Float, kernel: int) -> tuple[Double, Float]:
    maps = maps[:, 0]
    x, y, value = _highest(maps)
    xy = _points(x, y)
    at = np.flatnonzero(value > 0)
    log = np.log(np.clip(blurred_windows(maps[at], x[at], y[at], kernel, "reflect", 1), 0.001, 50))
    slope = 0.5 * np.stack([log[:, 1, 2] - log[:, 1, 0], log[:, 2, 1] - log[:, 0, 1]], axis=1)
    epsilon = np.finfo(np.float32).eps
    dxx = log[:, 1, 2] - 2 * log[:, 1, 1] + log[:, 1, 0] + epsilon
    dyy = log[:, 2, 1] - 2 * log[:, 1, 1] + log[:, 0, 1] + epsilon
    dxy = 0.5 * (
        log[:, 2, 2] - log[:, 1, 2] - log[:, 2, 1] + 2 * log[:, 1, 1] - log[:, 1, 0] - log[:, 0, 1] + log[:, 0, 0]
    )
    xy[at] -= _newton(dxx, dyy, dxy, slope)
    return xy, value


def _newton(dxx: Double, dyy: Double, dxy: Double, slope: Double) -> Double:
    """Inverse Hessian times slope `(M, 2)`; zero where there is no inverse."""
    det = dxx * dyy - dxy * dxy
    step = np.stack([dyy * slope[:, 0] - dxy * slope[:, 1], dxx * slope[:, 1] - dxy * slope[:, 0]], axis=1)
    return np.divide(step, det[:, None], out=np.zeros_like(step), where=(det != 0)[:, None])


def _udp_combined(maps: Float, kernel: int) -> tuple[Double, Float]:
    height = maps.shape[2]
    # OpenCV's single precision decides the score's last digits in the reference
    size = (2 * kernel + 1, 2 * kernel + 1)
    x, y, value = _highest(np.stack([cv2.GaussianBlur(one, size, 0) for one in maps[:, 0]]))
    # the offsets are read at one cell, so only that one is blurred
    at = np.arange(len(maps))
    rows = blur_matrix(height, kernel, "reflect")[y][:, None, None, :]
    columns = blur_matrix(maps.shape[3], kernel, "reflect")[x][:, None, :, None]
    offset = (rows @ maps[at, 1:] @ columns)[:, :, 0, 0]
    xy = _points(x, y) + _UDP_RADIUS * height * offset
    xy[value <= 0] = -1
    return xy, value


def _megvii(maps: Float, kernel: int) -> tuple[Double, Float]:
    maps = maps[:, 0]
    highest = _highest(maps)[2].astype(np.float64)
    blurred = blur(maps, kernel, "zero").astype(np.float32)
    peak = blurred.max(axis=(1, 2))
    scale = np.divide(highest, peak, out=np.ones_like(highest), where=peak != 0)
    blurred = (blurred * scale[:, None, None]).astype(np.float32)
    x, y, value = _highest(blurred)
    uphill, inside = _uphill(blurred, x, y)
    xy = _points(x, y) + 0.25 * uphill + 0.5 * inside[:, None]
    # a map of zeros has no score in the reference (0 / 0): it is certain that nothing was seen
    score = np.where(peak != 0, value / np.float32(_MEGVII_AMPLITUDE) + np.float32(0.5), np.float32(0))
    return xy, score


def _megvii_original(maps: Float, kernel: int) -> tuple[Double, Float]:
    maps = maps[:, 0]
    height, width = maps.shape[1:]
    margin = _MEGVII_MARGIN
    cells = blur(maps, kernel, "zero", margin).reshape(len(maps), -1)
    every = np.arange(len(maps))

    def take_highest() -> tuple[Double, Double]:
        index = cells.argmax(axis=1)
        value = cells[every, index]
        cells[every, index] = 0
        y, x = np.divmod(index, width + 2 * margin)
        return np.stack([x - margin, y - margin], axis=1).astype(np.float64), value

    xy, peak = take_highest()
    step = take_highest()[0] - xy
    length = np.linalg.norm(step, axis=1, keepdims=True)
    xy += 0.25 * np.divide(step, length, out=np.zeros_like(step), where=length > 1e-3)
    xy = np.clip(xy, 0, [width - 1, height - 1])
    x, y = np.rint(xy).astype(np.intp).T
    # the score is the map's own value there; a NaN elsewhere shows in the blurred peak only
    value = np.where(np.isfinite(peak), maps[every, y, x], np.float32(np.nan)).astype(np.float32)
    return xy + 0.5, value / np.float32(_MEGVII_AMPLITUDE) + np.float32(0.5)


def _hourglass(maps: Float, kernel: int) -> tuple[Double, Float]:
    peak = maps[:, 0].max(axis=(1, 2))
    maps = np.minimum(maps[:, 0], 1)
    height, width = maps.shape[1:]
    x, y, value = _highest(maps)
    value[np.isposinf(peak)] = np.inf  # which the limit of 1 would hide
    every = np.arange(len(maps))
    # At the border the cell itself stands for the neighbour that is not there; equal neighbours count as downhill.
    right = maps[every, y, np.minimum(x + 1, width - 1)] > maps[every, y, np.maximum(x - 1, 0)]
    below = maps[every, np.minimum(y + 1, height - 1), x] > maps[every, np.maximum(y - 1, 0), x]
    xy = _points(x, y)
    xy += np.where(np.stack([right, below], axis=1), 0.75, 0.25)
    xy[value <= 0] = -1
    return xy, value


_RULES: dict[str, Callable[[Float, int], tuple[Double, Float]]] = {
    "default": _default,
    "none": _none,
    "unbiased": _unbiased,
    "udp": _udp,
    "udp_combined": _udp_combined,
    "megvii": _megvii,
    "megvii_original": _megvii_original,
    "hourglass": _hourglass,
}
