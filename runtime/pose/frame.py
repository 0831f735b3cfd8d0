"""The check of a frame, before anything looks at its pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError


def check_frame(frame: ArrayLike) -> NDArray[np.uint8]:
    """The frame as an array `(H, W, 3)` uint8, without a copy.

    Raises InputError: anything else; the message holds the line that converts it.
    """
    if type(frame) is np.ndarray and frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3 and frame.size:
        return frame
    try:
        image = np.asarray(frame)
    except Exception as error:  # an object that gives an array may raise what it likes: a tensor with gradients does
        raise InputError(f"the frame is no array: {error}; expected uint8 (H, W, 3) BGR") from error
    if isinstance(frame, np.ndarray) and np.ma.is_masked(frame):
        raise InputError("pixels of the frame are masked; give an array without a mask, such as frame.filled(0)")
    if image.ndim == 0:
        raise InputError(
            f"frame is {type(frame).__name__}, expected an array uint8 (H, W, 3) BGR. A file is read by "
            "cv2.imread, which gives None where it cannot"
        )
    seen = f"frame is {image.dtype} {image.shape}, expected uint8 (H, W, 3) BGR"
    if image.size == 0:
        raise InputError(f"{seen}: it is empty. Did cv2.imread or VideoCapture.read fail?")
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        raise InputError(f"{seen}: convert grey with cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)")
    if image.ndim == 3 and image.shape[2] == 4:
        raise InputError(f"{seen}: drop the alpha channel with cv2.cvtColor(frame, cv2.COLOR_BGRA2BGR)")
    if image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"{seen}. One frame at a time, channels last")
    if image.dtype != np.uint8:
        raise InputError(f"{seen}: convert with (frame * 255).clip(0, 255).astype('uint8') if it is 0..1")
    return image
