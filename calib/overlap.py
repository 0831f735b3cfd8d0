"""Overlap of calibration and evaluation images.

Ranges fitted to the images that accuracy is measured on make the quantised network look better than it is. Two kinds of
overlap are found. Copies have the same bytes (sha256) or the same decoded pixels. Lookalikes show a person whose
perceptual hash (looks.py) is near that of one in the evaluation set: in the two boxes, or in the same place of both
frames, where the boxes are of different origin.

The people are compared and not the frames, because frames of a fixed camera differ in little else: as whole pictures
they are 4 bits apart and more, and so are copies. Measured on 90 photographs of a mouse and on 96 synthetic people
before static backgrounds: people of different frames are at least 78 bits apart, the mouse of two photographs 54, but
for two pairs of frames that follow each other (28 and 30). Copies in JPEG of quality 30, at half or one and a half
size, 40 % darker, with another gamma, blurred, or with boxes that are 8 % off are at most 38 bits apart; so are those
with 2 % cut off at each side. Beyond that not all are found: of those with 8 % cut off 9 in 10, and half of the people
36 px high at half size.

Names and ids are no test: many folders begin with 000000.png, and a copy may have any name. But where they say that two
frames are less than a third of a second apart in one video, people who look less alike are taken for the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import CalibrationError
from ..runtime.media.image_file import decode_image
from .looks import ALIKE, Facts, Hash, Moment, Picture, bits_apart, phash, stack

ALIKE_IN_TIME = 60  # bits of 255, of frames that follow each other
_SAME_PIXELS = 12  # bits of 255, that the same pixels of a JPEG and of a lossless file may differ in
_NAMED = 10  # images in a message


@dataclass(frozen=True)
class Overlap:
    """Calibration images that are in the evaluation set, or look like an image of it.

    Attributes:
        copies: names of the images that have the same bytes or the same pixels as one of the evaluation set, and its
            name there.
        similar: the same of those that show somebody who looks alike.
    """

    copies: dict[str, str]
    similar: dict[str, str]

    def refuse_copies(self) -> None:
        """Raise CalibrationError, which names the copies."""
        if self.copies:
            count = f"{len(self.copies)} calibration image{'s are' if len(self.copies) > 1 else ' is'}"
            raise CalibrationError(
                f"{count} also in the evaluation set: {in_words(self.copies, 'there')}. Accuracy measured there would "
                "be too high. Calibrate on training images: remove these from one of the two sets, or make sets that "
                "share nothing with posert split"
            )


class EvaluationImages:
    """The images that accuracy is measured on, indexed by sha256 and perceptual hash.

    Args:
        names: file names.
        read: returns the encoded bytes of an image by its file name.
        facts: `image_facts` of their annotations; images without any are compared as a whole.
        allow_similar: whether images that look alike may stay in a calibration set. Copies never may.

    Attributes:
        allow_similar: as given.
        suspects: the images found so far that look alike, each with its name in this set.
    """

    def __init__(
        self,
        names: Iterable[str],
        read: Callable[[str], bytes],
        facts: Mapping[str, Facts] | None = None,
        allow_similar: bool = False,
    ) -> None:
        self.allow_similar = allow_similar
        self.suspects: dict[str, str] = {}
        self._read = read
        self._facts = facts or {}
        self._names: list[str] = []
        self._digests: dict[str, str] = {}
        self._pixels: dict[str, str] = {}
        frames: list[Hash] = []
        people: list[Hash] = []
        self._owners: list[str] = []
        self._boxes: dict[str, list[tuple[Hash, NDArray[np.float64]]]] = {}
        for name in names:
            data = read(name)
            self._digests[hashlib.sha256(data).hexdigest()] = name
            found = phash(data)
            if found is not None:
                self._names.append(name)
                frames.append(found)
            self._boxes[name] = Picture(data).people(self._of(name).boxes)
            people += [one for one, _ in self._boxes[name]]
            self._owners += [name] * len(self._boxes[name])
        self._phashes, self._people = stack(frames), stack(people)

    def overlap(
        self, names: Iterable[str], read: Callable[[str], bytes], facts: Mapping[str, Facts] | None = None
    ) -> Overlap:
        """Which of these images, `read` as for `EvaluationImages` and with `facts` of their own, are in the set or look
        like one of it."""
        found = Overlap({}, {})
        for name in names:
            data, own = read(name), (facts or {}).get(name, Facts())
            near = self._near(phash(data))
            copied = self.file(hashlib.sha256(data).hexdigest()) or self._same_pixels(data, near)
            if copied is not None:
                found.copies[name] = copied
                continue
            picture = Picture(data)
            like = self.similar([one for one, _ in picture.people(own.boxes)], own.moment)
            like = like or self._same_place(picture, near)
            if like is not None:
                found.similar[name] = like
        self.suspects |= found.similar
        return found

    def all_alike(self) -> bool:
        """Whether there are several images and all show the same."""
        if len(self._boxes) < 2 or not len(self._people):
            return False
        return bool((bits_apart(self._people, self._people[0]) <= ALIKE).all())

    def file(self, sha256: str) -> str | None:
        """The image with these bytes."""
        return self._digests.get(sha256)

    def similar(self, people: Sequence[Hash], moment: Moment | None = None) -> str | None:
        """The image with somebody who looks most like one of these `people` of an image that was taken at `moment`, if
        anybody looks alike."""
        best: tuple[int, str] | None = None
        for one in people if len(self._owners) else ():
            bits = bits_apart(self._people, one)
            for i in np.flatnonzero(bits <= ALIKE_IN_TIME).tolist():
                name = self._owners[i]
                alike = bits[i] <= ALIKE or (moment is not None and moment.near(self._of(name).moment))
                if alike and (best is None or bits[i] < best[0]):
                    best = int(bits[i]), name
        return None if best is None else best[1]

    def _of(self, name: str) -> Facts:
        return self._facts.get(name, Facts())

    def _same_place(self, picture: Picture, near: list[tuple[int, str]]) -> str | None:
        """The first of these frames with somebody who looks like what the picture shows in the same place."""
        for _, name in near:
            for one, fractions in self._boxes[name]:
                here = picture.region(fractions)
                if here is not None and bits_apart(one[None], here)[0] <= ALIKE:
                    return name
        return None

    def _near(self, perceptual: Hash | None) -> list[tuple[int, str]]:
        """Bits of difference and names of the images that look alike as a whole, the nearest first."""
        if perceptual is None or not self._names:
            return []
        bits = bits_apart(self._phashes, perceptual)
        return [(int(bits[i]), self._names[i]) for i in np.argsort(bits, kind="stable") if bits[i] <= ALIKE]

    def _same_pixels(self, data: bytes, near: list[tuple[int, str]]) -> str | None:
        candidates = [name for bits, name in near if bits <= _SAME_PIXELS]
        if not candidates:
            return None
        for name in candidates:
            if name not in self._pixels:
                self._pixels[name] = pixel_digest(self._read(name))
        own = pixel_digest(data)
        return next((name for name in candidates if self._pixels[name] == own), None)


def in_words(names: Mapping[str, str], relation: str, most: int = _NAMED) -> str:
    """Images with their names in the evaluation set, such as "'a.png' (there 'b.png') and 3 more"."""
    shown = [f"{a!r} ({relation} {b!r})" for a, b in list(names.items())[:most]]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")


def pixel_digest(data: bytes) -> str:
    """The sha256 of the decoded pixels of an image that has a `phash`."""
    image = decode_image(data)
    assert image is not None, "it has a phash"
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
