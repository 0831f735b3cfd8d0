"""Image files and encoded images as pixels, within bounds: a few bytes may declare gigabytes."""

from __future__ import annotations

import errno
import os
import stat

import cv2
import numpy as np
from numpy.typing import NDArray

from ..system.input_file import read_file
from .image_size import declared_size, png_chunks_fit

MAX_PIXELS = 1 << 28
"""Images of more are refused before anything is allocated for them: this is 0.8 GB. FFmpeg's limit is the same."""
MAX_BYTES = 1 << 30
"""Of an image file: with all that its pixels take, this is 2 GB."""
_HEADER = 1 << 20  # bytes in which a file says its size; before it there may be a preview and colour profiles


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The bytes of an image file. Raises OSError: it cannot be read, is no regular file, or is above `MAX_BYTES`."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe waits for a writer, and a device may never end
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return read_file(path, MAX_BYTES)


def decode_image(data: bytes, flags: int = cv2.IMREAD_COLOR) -> NDArray[np.uint8] | None:
    """An encoded image as `(H, W, 3)` uint8 BGR, or as OpenCV's `flags` say; upright by its EXIF orientation.

    Grey becomes BGR, 16 bits become 8, alpha is dropped. None if OpenCV cannot decode it, or it declares more than
    `MAX_PIXELS`.
    """
    size = declared_size(data[:_HEADER])
    if not data or (size is not None and size[0] * size[1] > MAX_PIXELS) or not png_chunks_fit(data):
        return None
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    return None if image is None else np.asarray(image, np.uint8)


def read_pixels(path: str | os.PathLike[str]) -> NDArray[np.uint8] | None:
    """An image file as by `decode_image`; None if `read_bytes` cannot read it, too."""
    try:
        # Python opens the file, because OpenCV on Windows takes only names in the system's code page.
        return decode_image(read_bytes(path))
    except (OSError, ValueError):  # a ValueError: a name that no file can have
        return None
