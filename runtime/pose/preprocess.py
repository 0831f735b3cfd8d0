"""From boxes in a frame to the crops that a network takes.

A box becomes a centre and an extent (the region that the crop shows, in px of the frame), these become a 2x3 matrix,
and the matrix a crop. The rules are those that the published models were trained with; what depends on
single-precision rounding in the reference is rounded the same way here, so that crops are the same to the last bit.

The crop itself is *defined* by the integer arithmetic in `_warp_fixed_point`, which is what OpenCV 4's
`warpAffine(INTER_LINEAR)` computes. The installed OpenCV is used where it gives these integers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..bundle.contract import Contract
from ..errors import InputError

Image = NDArray[np.uint8]
Matrix = NDArray[np.float64]

PIXEL_STD = np.float32(200)
"""MMPose and the HRNet repository store an extent as a `scale` in units of 200 px, and round it in that unit."""

FARTHEST = 1e9
"""Coordinates beyond this, px, are no box: sizes and products of them would not fit single precision."""

_OPENCV_LIMIT = 32766
"""OpenCV keeps source coordinates in 16 bits: larger frames are refused by it."""
_REACH = 2**20
"""And computes them in 32 bits with 10 behind the point; one more is left as room."""


def crop_regions(boxes: NDArray[np.float64], contract: Contract) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The regions of the frame that the crops of N boxes show (MMPose 0.x `TopDownGetBboxCenterScale`).

    A box grows in one direction to the aspect ratio of the crop, then in both by the contract's `padding`. Megvii's
    MSPN repository enlarges it before that, by 1.09 and 1.135, and pads by 1: the contract's `enlarge`.

    Args:
        boxes: `(N, 4)` float64 xyxy, px of the frame, as `check_boxes` returns them. They may reach outside the frame.
        contract: of the network that takes the crops.

    Returns:
        center `(N, 2)` and extent `(N, 2)` float32, px of the frame: the crop shows `center - extent / 2` to
        `center + extent / 2`.
    """
    c, ratio = contract, contract.width / contract.height
    size = boxes[:, 2:] - boxes[:, :2]
    center = (boxes[:, :2] + size * 0.5).astype(np.float32)
    if c.enlarge != (1, 1):
        size = size * c.enlarge
    grown = np.empty_like(size)
    np.maximum(size[:, 0], size[:, 1] * ratio, out=grown[:, 0])
    np.maximum(size[:, 1], size[:, 0] / ratio, out=grown[:, 1])
    # in the reference's float32 steps
    return center, grown.astype(np.float32) / PIXEL_STD * np.float32(c.padding) * PIXEL_STD


def mpii_center_scale(center: ArrayLike, scale: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centre and extent of the square crops of MPII, which annotates people by a centre and a scale, not a box.

    The centre moves down by 15 px per unit of the (unpadded) scale, where there is one (x is not -1), then from MPII's
    1-based pixels to 0-based ones; the extent is 1.25 x 200 px x scale (MMPose 0.x `TopDownMpiiDataset`).

    Args:
        center: `(N, 2)`, 1-based px, as annotated.
        scale: `(N,)`, units of 200 px, as annotated.

    Returns:
        center `(N, 2)`, 0-based px, and extent `(N, 2)`, px, both float32.
    """
    points = np.array(center, np.float32).reshape(-1, 2)
    scales = np.asarray(scale, np.float32).reshape(-1)
    # The rounded scale, but the shift in double precision: NumPy 1, which MMPose 0.x ran on, computes 15 * scale so.
    points[:, 1] += np.where(points[:, 0] != -1, 15 * scales.astype(np.float64), 0)
    extent = scales * np.float32(1.25) * PIXEL_STD
    return points - np.float32(1), np.repeat(extent[:, None], 2, axis=1)


def clip_ground_truth(
    boxes: ArrayLike, image_size: ArrayLike, legacy: bool
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Annotated boxes, cut to their images, as the published evaluations with ground-truth boxes use them.

    Args:
        boxes: `(N, 4)` x, y, width, height, px.
        image_size: `(N, 2)` width, height of each box's image, px.
        legacy: the rule up to MMPose 0.26 and of the HRNet repository, whose boxes are 1 px narrower and lower.

    Returns:
        boxes `(N, 4)` xyxy float64 and a mask `(N,)` of those that have an area left.
    """
    box = np.asarray(boxes, np.float64).reshape(-1, 4)
    first = np.maximum(box[:, :2], 0)
    side = np.maximum(box[:, 2:] - (1 if legacy else 0), 0)
    last = np.minimum(np.asarray(image_size, np.float64).reshape(-1, 2) - 1, first + side)
    return np.concatenate([first, last], axis=1), (last > first).all(axis=1)


def check_boxes(boxes: ArrayLike) -> NDArray[np.float64]:
    """`(N, 4)` xyxy boxes as float64.

    Raises InputError: they are no real numbers (text, complex, true and false, masked), or a box is beyond `FARTHEST`
    or has no area; the first one is named.
    """
    try:
        given = np.asarray(boxes)
    except Exception as error:  # an object that gives an array may raise what it likes: a tensor with gradients does
        raise InputError(f"boxes must be numbers, x1 y1 x2 y2 per person: {error}") from error
    if given.size == 0:
        return np.zeros((0, 4))
    masked = type(boxes) is not np.ndarray and isinstance(boxes, np.ndarray) and np.ma.is_masked(boxes)
    if given.dtype.kind not in "fiu" or masked:
        seen = "masked" if masked else f"of the type {given.dtype}"
        raise InputError(f"boxes must be numbers, x1 y1 x2 y2 per person, and these are {seen}; leave out what is none")
    if given.ndim != 2 or given.shape[1] != 4:
        raise InputError(f"boxes must have the shape (people, 4), x1 y1 x2 y2 in px, not {given.shape}")
    box = given.astype(np.float64, copy=False)
    # written so that NaN fails too
    bad = ~((box[:, 2:] > box[:, :2]).all(axis=1) & (np.abs(box) <= FARTHEST).all(axis=1))
    if bad.any():
        index = int(bad.argmax())
        raise InputError(
            f"box {index} is {box[index].tolist()} ({int(bad.sum())} of {len(box)} boxes like it): expected finite "
            f"x1 y1 x2 y2 of at most {FARTHEST:g} px with x2 > x1 and y2 > y1; leave such boxes out"
        )
    return box


def crop_matrices(
    center: NDArray[np.float32], extent: NDArray[np.float32], width: int, height: int, udp: bool = False
) -> NDArray[np.float64]:
    """Matrices that take px of the frame to px of the crop.

    Plain (MMPose 0.x `get_affine_transform`): one scale for both axes, from the width; `center - extent / 2` falls on 0
    and `center + extent / 2` on `width`. UDP (Huang et al., CVPR 2020): it falls on `width - 1`.

    Args:
        center, extent: `(N, 2)` float32, px of the frame.
        width, height: size of the crop, px.
        udp: which of the two.

    Returns:
        `(N, 2, 3)` float64.

    Raises:
        InputError: an extent is too small for single precision at its distance from the origin.
    """
    c = np.asarray(center, np.float32)
    e = np.asarray(extent, np.float32)
    out = np.zeros((len(c), 2, 3))
    with np.errstate(divide="ignore", invalid="ignore"):
        if udp:
            scale = (np.array([width, height]) - 1) / e.astype(np.float64)
            shift = scale * (e.astype(np.float64) / 2 - c)
        else:
            # The reference solves for three float32 points, (0, 0), up and left: the scale carries their rounding.
            up = c[:, 1] - (c[:, 1] - e[:, 0].astype(np.float64) * 0.5).astype(np.float32)
            left = c[:, 0] - (c[:, 0] + -up)
            scale = width * 0.5 / np.stack([left, up], axis=1).astype(np.float64)
            shift = np.array([width, height]) * 0.5 - scale * c
    out[:, 0, 0], out[:, 1, 1], out[:, :, 2] = scale[:, 0], scale[:, 1], shift
    if not np.isfinite(out).all():
        index = int((~np.isfinite(out)).any(axis=(1, 2)).argmax())
        raise InputError(
            f"box {index} (centre {c[index].tolist()}, extent {e[index].tolist()} px) is too small or too far away to "
            "be cropped; leave such boxes out"
        )
    return out.astype(np.float32).astype(np.float64) if udp else out


def crop(frame: Image, matrices: Matrix, width: int, height: int, out: Image | None = None) -> Image:
    """Cut the crops of N people out of a frame, bilinearly; what lies outside the frame is black.

    Args:
        frame: `(H, W, 3)` uint8, any channel order, which the crops keep. Views are fine.
        matrices: `(N, 2, 3)` frame -> crop.
        width, height: size of the crops, px.
        out: C-contiguous `(N, height, width, 3)` uint8 to write into.

    Returns:
        `(N, height, width, 3)` uint8, equal to OpenCV 4's `warpAffine(INTER_LINEAR)` with a zero border.

    Raises:
        InputError: the frame is not `(H, W, 3)` uint8, or is empty.
    """
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        seen = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise InputError(f"the frame must be a uint8 array (height, width, 3), not {seen}")
    if frame.size == 0:
        raise InputError(f"the frame is empty: {frame.shape}")
    shape = (len(matrices), height, width, 3)
    if out is None:
        out = np.empty(shape, np.uint8)
    elif out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise InputError(f"out must be a C-contiguous uint8 array {shape}, not {out.dtype} {out.shape}")
    if frame.strides[2] != 1 or frame.strides[1] != 3 or frame.strides[0] < 0:
        frame = np.ascontiguousarray(frame)  # once, instead of once per person inside OpenCV
    matrices = np.asarray(matrices, np.float64)
    warp = _fastest_warp() if _within_opencv(frame, matrices, width, height) else _warp_fixed_point
    inverse = matrices if warp is _warp_affine else invert(matrices)  # which OpenCV does itself
    for matrix, back, target in zip(matrices, inverse, out, strict=True):
        warp(frame, matrix, back, target)
    return out


def invert(matrices: Matrix) -> Matrix:
    """Crop -> frame, in the order of operations of OpenCV: the result is rounded to integers afterwards."""
    m = np.asarray(matrices, np.float64)
    a, b, c, d, tx, ty = m[:, 0, 0], m[:, 0, 1], m[:, 1, 0], m[:, 1, 1], m[:, 0, 2], m[:, 1, 2]
    det = a * d - b * c
    det = np.divide(1.0, det, out=np.zeros_like(det), where=det != 0)
    a, b, c, d = d * det, -b * det, -c * det, a * det
    return np.stack([a, b, -a * tx - b * ty, c, d, -c * tx - d * ty], axis=1).reshape(-1, 2, 3)


def _within_opencv(frame: Image, matrices: Matrix, width: int, height: int) -> bool:
    """Whether OpenCV's 16-bit frame sizes and 32-bit fixed-point coordinates suffice."""
    if max(frame.shape[:2]) >= _OPENCV_LIMIT:
        return False
    for a, b, tx, c, d, ty in matrices.reshape(-1, 6).tolist():
        # Upright crops, as all that come from boxes are, need no inverse: plain numbers suffice. After a run of
        # the network nothing of numpy is in the caches, and each of its functions costs tens of microseconds.
        if b or c or not (width + abs(tx) < a * _REACH and height + abs(ty) < d * _REACH):
            reach = np.abs(invert(matrices)) @ np.array([width, height, 1.0])
            return bool((reach < _REACH).all())
    return True


# Three ways to the same crop: `(frame, matrix, its inverse, out)`, of which each takes the matrix that it needs.


@cache
def _fastest_warp() -> Callable[[Image, Matrix, Matrix, Image], None]:
    """The fastest way that gives the defined integers with this build of OpenCV.

    OpenCV 4 passes with `warpAffine`, OpenCV 5 only with `remap`; a vendor's build may pass with neither.
    """
    pattern = np.random.default_rng(0).integers(0, 256, (97, 131, 3)).astype(np.uint8)
    turned = [[1.7, -0.6, 40.3], [0.5, 1.9, -21.7]]
    matrices = np.array([[[1.3, 0, 11.1], [0, 1.3, -9.9]], [[0.37, 0, 50.2], [0, 0.37, 60.8]], turned])
    shape = (128, 96, 3)
    expected, seen = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
    for warp in (_warp_affine, _warp_remap):
        for matrix, inverse in zip(matrices, invert(matrices), strict=True):
            _warp_fixed_point(pattern, matrix, inverse, expected)
            warp(pattern, matrix, inverse, seen)
            if not np.array_equal(seen, expected):
                break
        else:
            return warp
    return _warp_fixed_point


def _warp_affine(frame: Image, matrix: Matrix, inverse: Matrix, out: Image) -> None:
    cv2.warpAffine(frame, matrix, out.shape[1::-1], dst=out, flags=cv2.INTER_LINEAR)


def _warp_remap(frame: Image, matrix: Matrix, inverse: Matrix, out: Image) -> None:
    u, v = _source(inverse, out.shape[1], out.shape[0])
    # cells inside the frame fit in 16 bits; for the others any cell outside will do
    cell = np.stack([u >> 5, v >> 5], axis=2).clip(-2, _OPENCV_LIMIT).astype(np.int16)
    fraction = ((v & 31) * 32 + (u & 31)).astype(np.uint16)
    cv2.remap(frame, cell, fraction, cv2.INTER_LINEAR, dst=out)


def _warp_fixed_point(frame: Image, matrix: Matrix, inverse: Matrix, out: Image) -> None:
    """The definition of a crop: source coordinates in 1/32 px and weights in 1/1024, all in integers."""
    u, v = _source(inverse, out.shape[1], out.shape[0])
    column, row, f, g = u >> 5, v >> 5, (u & 31)[..., None], (v & 31)[..., None]
    total = np.full(out.shape, 512, np.int64)
    for dy, wy in ((0, 32 - g), (1, g)):
        for dx, wx in ((0, 32 - f), (1, f)):
            r, c = row + dy, column + dx
            inside = (r >= 0) & (r < frame.shape[0]) & (c >= 0) & (c < frame.shape[1])
            total += wy * wx * inside[..., None] * frame[np.where(inside, r, 0), np.where(inside, c, 0)]
    out[...] = total >> 10


def _source(inverse: Matrix, width: int, height: int) -> NDArray[np.int64]:
    """For each cell of a crop its place in the frame `(2, height, width)`, x and y in 1/32 px."""
    x, y = np.arange(width) * 1.0, np.arange(height) * 1.0
    # 1/1024 px, each term rounded half to even; + 16 rounds the sum to 1/32 px
    along = np.rint(inverse[:, 0, None] * x * 1024).astype(np.int64)
    down = np.rint((inverse[:, 1, None] * y + inverse[:, 2, None]) * 1024).astype(np.int64) + 16
    source: NDArray[np.int64] = (down[:, :, None] + along[:, None, :]) >> 5
    return source
