"""Overlap of calibration and evaluation images.

Ranges fitted to the images that accuracy is measured on make the quantised network look better than it is. Three tests:
the file's sha256, the decoded pixels, and a perceptual hash, the signs of the picture's 255 lowest DCT coefficients
about their median (Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010). Measured on 400
pictures: copies in JPEG of quality 30, at half size, brightened by 10 % or blurred differ in at most 12 bits; unrelated
pictures in 88 and more. Different frames of one fixed camera lie between, at 26 bits for instance: the hash cannot tell
them from copies that were changed more, so both are left out of calibration.

Names and ids are no test: many folders begin with 000000.png, and a copy may have any name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import CalibrationError

_SIDE, _LOWEST = 64, 16
PHASH_BYTES = _LOWEST**2 // 8
_SIMILAR = 40  # bits of 255
_SAME_PIXELS = 12  # bits of 255, that the same pixels of a JPEG and of a lossless file may differ in
_NAMED = 10  # images in a message


@dataclass(frozen=True)
class Overlap:
    """Calibration images that are in the evaluation set, or look like an image of it.

    Attributes:
        copies: names of the images that have the same bytes or the same pixels as one of the evaluation set, and its
            name there.
        similar: the same of those that only look alike: changed copies, and other frames of a fixed camera.
    """

    copies: dict[str, str]
    similar: dict[str, str]

    def refuse_copies(self) -> None:
        """Raise CalibrationError, which names the copies."""
        if self.copies:
            count = f"{len(self.copies)} calibration image{'s are' if len(self.copies) > 1 else ' is'}"
            raise CalibrationError(
                f"{count} also in the evaluation set: {in_words(self.copies, 'there')}. Accuracy measured there would "
                "be too high. Calibrate on training images: remove these from one of the two sets"
            )


class EvaluationImages:
    """The images that accuracy is measured on, indexed by sha256 and perceptual hash.

    Args:
        names: file names.
        read: returns the encoded bytes of an image by its file name.
    """

    def __init__(self, names: Iterable[str], read: Callable[[str], bytes]) -> None:
        self._read = read
        self._names: list[str] = []
        self._digests: dict[str, str] = {}
        self._pixels: dict[str, str] = {}
        hashes = []
        for name in names:
            data = read(name)
            self._digests[hashlib.sha256(data).hexdigest()] = name
            found = phash(data)
            if found is not None:
                self._names.append(name)
                hashes.append(found)
        self._phashes = np.array(hashes, np.uint8).reshape(-1, PHASH_BYTES)

    def overlap(self, names: Iterable[str], read: Callable[[str], bytes]) -> Overlap:
        """Which of these images, `read` as for `EvaluationImages`, are in the set or look like one of it."""
        found = Overlap({}, {})
        for name in names:
            data = read(name)
            near = self._near(phash(data))
            copied = self.file(hashlib.sha256(data).hexdigest()) or self._same_pixels(data, near)
            if copied is not None:
                found.copies[name] = copied
            elif near:
                found.similar[name] = near[0][1]
        return found

    def file(self, sha256: str) -> str | None:
        """The image with these bytes."""
        return self._digests.get(sha256)

    def similar(self, perceptual: NDArray[np.uint8] | None) -> str | None:
        """The image that looks most like the one with this `phash`, if any looks like it."""
        return next((name for _, name in self._near(perceptual)), None)

    def _near(self, perceptual: NDArray[np.uint8] | None) -> list[tuple[int, str]]:
        """Bits of difference and names of the images that look alike, the nearest first."""
        if perceptual is None or not self._names:
            return []
        bits = np.unpackbits(self._phashes ^ perceptual, axis=1).sum(axis=1)
        return [(int(bits[i]), self._names[i]) for i in np.argsort(bits, kind="stable") if bits[i] <= _SIMILAR]

    def _same_pixels(self, data: bytes, near: list[tuple[int, str]]) -> str | None:
        candidates = [name for bits, name in near if bits <= _SAME_PIXELS]
        if not candidates:
            return None
        for name in candidates:
            if name not in self._pixels:
                self._pixels[name] = _pixel_digest(self._read(name))
        own = _pixel_digest(data)
        return next((name for name in candidates if self._pixels[name] == own), None)


def in_words(names: Mapping[str, str], relation: str, most: int = _NAMED) -> str:
    """Images with their names in the evaluation set, such as "'a.png' (there 'b.png') and 3 more"."""
    shown = [f"{a!r} ({relation} {b!r})" for a, b in list(names.items())[:most]]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")


def _pixel_digest(data: bytes) -> str:
    """The sha256 of the decoded pixels of an image that has a `phash`."""
    image = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()


def phash(data: bytes) -> NDArray[np.uint8] | None:
    """The perceptual hash `(32,)` of an encoded image; None if it cannot be decoded, is one px wide or high, or shows a
    single colour."""
    # Half size: a JPEG is then decoded from a part of its coefficients, several times faster.
    flags = cv2.IMREAD_REDUCED_GRAYSCALE_2
    try:
        grey = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error:  # one px wide or high: it cannot be halved
        return None
    if grey is None or grey.min() == grey.max():
        return None
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    waves = cv2.dct(small)[:_LOWEST, :_LOWEST].reshape(-1)[1:]
    return np.packbits(waves > np.median(waves))
