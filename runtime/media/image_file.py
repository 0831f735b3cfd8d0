"""Image files and encoded images as pixels, within bounds: a few bytes may declare gigabytes."""

from __future__ import annotations

import errno
import os
import stat

import cv2
import numpy as np
from numpy.typing import NDArray

from ..system.input_file import read_file
from .image_size import declared_size, is_bounded

MAX_PIXELS = 1 << 27
"""Images of more are refused before anything is allocated for them: decoding one of this size takes 0.8 to 1.2 GB."""
_MAX_PIXELS_OF_COSTLY = 50_000_000  # of GIF, JPEG 2000 and AVIF, which take 12, 15 and 17 bytes a pixel
MAX_BYTES = 1 << 30
"""Of an image file: 16 bits for each of red, green and blue take less."""
UNREADABLE = f"cannot be read as an image, or has more than {MAX_PIXELS // 10**6} million pixels"


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The bytes of an image file. Raises OSError: it cannot be read, is no regular file, or is above `MAX_BYTES`."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe waits for a writer, and a device may never end
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return read_file(path, MAX_BYTES)


def decode_image(data: bytes, flags: int = cv2.IMREAD_COLOR) -> NDArray[np.uint8] | None:
    """An encoded image as `(H, W, 3)` uint8 BGR, or as OpenCV's `flags` say; upright by its EXIF orientation.

    Grey becomes BGR, 16 bits become 8, alpha is dropped. None if OpenCV cannot decode it, it declares more than
    `MAX_PIXELS`, or it is in none of the formats of `declared_size`.
    """
    costly = data.startswith((b"GIF8", b"\xff\x4f\xff\x51")) or data[4:8] in (b"jP  ", b"ftyp")
    if not 0 < declared_pixels(data) <= (_MAX_PIXELS_OF_COSTLY if costly else MAX_PIXELS) or not is_bounded(data):
        return None
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    return None if image is None else np.asarray(image, np.uint8)


def declared_pixels(data: bytes) -> int:
    """The number of pixels that an encoded image declares; 0 if that cannot be told."""
    width, height = declared_size(data) or (0, 0)
    return width * height


def read_pixels(path: str | os.PathLike[str]) -> NDArray[np.uint8] | None:
    """An image file as by `decode_image`; None if `read_bytes` cannot read it, too."""
    try:
        # Python opens the file, because OpenCV on Windows takes only names in the system's code page.
        return decode_image(read_bytes(path))
    except (OSError, ValueError):  # a ValueError: a name that no file can have
        return None
