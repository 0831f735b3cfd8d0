"""The calibration set: crops of annotated people, cut by the runtime's own code, with their provenance.

People are drawn evenly from strata of size, visible joints and occlusion, because unusual people set the ranges: large,
unoccluded people alone never produce the activations of a blurred, half-hidden one.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.accuracy.people import all_annotated
from ..runtime.bundle.contract import Contract
from ..runtime.errors import CalibrationError, InputError
from ..runtime.media.image_file import decode_image, read_bytes
from ..runtime.pose.preprocess import check_boxes, crop, crop_matrices, crop_regions

log = logging.getLogger("posert")

_BATCH = 8
_JITTER = 0.05  # of the box side, as a detector errs
_NO_BOX = "with a box that is not finite or at most 1 px wide or high"


@dataclass(frozen=True)
class SampledPerson:
    """One annotated person of the calibration set.

    Attributes:
        file_name: of the image, as in the annotations.
        annotation: id of the annotation.
        box: x1, y1, x2, y2, px of the frame, jittered.
        stratum: kind of person, such as "medium/most/occluded".
        given: the box without jitter, which messages name.
        label: what messages call that box.
    """

    file_name: str
    annotation: int
    box: tuple[float, float, float, float]
    stratum: str
    given: tuple[float, float, float, float]
    label: str


class CalibrationSet:
    """Crops of people: iterating yields batches `(N, height, width, 3)` uint8 BGR, the same each time.

    Args:
        people: whose crops.
        read: the encoded bytes (JPEG, PNG, ...) of an image by its file name.
        contract: size and geometry of the crops.

    Raises (while iterating):
        CalibrationError: an image cannot be read, a box lies outside its image (the image is named), or every crop is
            of a single colour.
    """

    def __init__(self, people: Sequence[SampledPerson], read: Callable[[str], bytes], contract: Contract) -> None:
        if not people:
            raise CalibrationError("the calibration set has no people: give annotations of a few hundred people")
        self.people = sorted(people, key=lambda p: (p.file_name, p.annotation))
        self.contract = contract
        self._read = read
        self._sha256: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.people)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        c = self.contract
        batch = np.empty((min(_BATCH, len(self)), c.height, c.width, 3), np.uint8)
        filled, name, frame = 0, "", np.empty((0, 0, 3), np.uint8)
        plain = True
        for person in self.people:
            if person.file_name != name:
                name, frame = person.file_name, self._frame(person.file_name)
            _check_inside(person, frame)
            box = np.array([person.box])
            center, extent = crop_regions(check_boxes(box), c)
            matrices = crop_matrices(center, extent, c.width, c.height, c.udp)
            crop(frame, matrices, c.width, c.height, out=batch[filled : filled + 1])
            plain = plain and bool((batch[filled] == batch[filled, 0, 0]).all())
            filled += 1
            if filled == len(batch):
                yield batch.copy()
                filled = 0
        if filled:
            yield batch[:filled].copy()
        if plain:
            raise CalibrationError(
                f"each of the {len(self)} calibration crops shows a single colour, such as {self.people[0].label} in "
                f"{self.people[0].file_name!r}: ranges of such crops fit no real image. Check the images and the boxes."
            )

    def provenance(self) -> dict[str, Any]:
        """The origin of the set, for the manifest: files with sha256, people per stratum, and a hash over all of it."""
        for name in {p.file_name for p in self.people} - self._sha256.keys():
            self._sha256[name] = hashlib.sha256(self._bytes(name)).hexdigest()
        files = {p.file_name: self._sha256[p.file_name] for p in self.people}
        boxes = "".join(f"{p.file_name} {files[p.file_name]} {p.annotation} {p.box}\n" for p in self.people)
        return {
            "people": len(self),
            "images": len(files),
            "strata": dict(sorted(Counter(p.stratum for p in self.people).items())),
            "files": files,
            "sha256": hashlib.sha256(boxes.encode()).hexdigest(),
        }

    def _bytes(self, name: str) -> bytes:
        try:
            return self._read(name)
        except OSError as error:
            raise CalibrationError(f"calibration image {name!r} cannot be read: {error}") from error

    def _frame(self, name: str) -> NDArray[np.uint8]:
        """An image `(H, W, 3)` uint8 BGR."""
        data = self._bytes(name)
        self._sha256[name] = hashlib.sha256(data).hexdigest()
        # Rotated by its EXIF tag, as the gate and the runtime read images.
        frame = decode_image(data)
        if frame is None:
            raise CalibrationError(
                f"calibration image {name!r} ({len(data)} bytes) is not an image that OpenCV can decode; "
                "download it again or leave it out of the annotations"
            )
        return frame


def crops_from_coco(
    annotations: Mapping[str, Any],
    read: Callable[[str], bytes],
    contract: Contract,
    count: int = 256,
    seed: int = 0,
) -> CalibrationSet:
    """Draw a calibration set from COCO keypoint annotations.

    Args:
        annotations: content of a person-keypoints file: "images" (id, file_name), "annotations" (id, image_id, bbox
            xywh, keypoints). An empty list of keypoints means that only the box is known, as in `frames.box_frames`;
            messages then call it by its `box_index`.
        read: the encoded bytes of an image by its file_name; `folder(path)` makes such a function.
        contract: of the network; crops are cut as at run time.
        count: number of people; all are taken if there are fewer.
        seed: of the draw; the same seed gives the same set.

    Raises:
        CalibrationError: nobody in the annotations can be calibrated on, or they are not in COCO's format.
    """
    try:
        everybody = all_annotated(annotations)
        records: list[Mapping[str, Any]] = annotations["annotations"]
        faults = [_fault(a, box) for a, box in zip(records, everybody.xyxy, strict=True)]
        usable = sorted((i for i, fault in enumerate(faults) if not fault), key=lambda i: int(records[i]["id"]))
        strata: dict[str, list[int]] = {}
        for i in usable:
            strata.setdefault(_stratum(records[i]), []).append(i)
    except (InputError, KeyError, TypeError, ValueError) as error:
        raise CalibrationError(
            f"the annotations are not COCO keypoints ({type(error).__name__}: {error}); expected lists 'images' with "
            "id and file_name and 'annotations' with id, image_id, bbox and keypoints"
        ) from error
    if not usable:
        seen = ", ".join(f"{n} {fault}" for fault, n in Counter(faults).items()) or "there is no annotation"
        raise CalibrationError(
            f"none of the {len(records)} annotations can be calibrated on: {seen}. Expected single people with a box "
            "and at least one labelled joint, or a file of boxes as `posert run --boxes` takes it"
        )

    def file_of(i: int) -> str:
        return everybody.files[everybody.image[i]]

    # Every data set has crowds and people without joints; a bad box is a mistake.
    bad = [i for i, fault in enumerate(faults) if fault == _NO_BOX]
    if bad:
        log.warning(
            "calibration skips %d of %d people %s, such as %s",
            *(len(bad), len(records), _NO_BOX, _label(records[bad[0]], file_of(bad[0]))),
        )
    rng = np.random.default_rng(seed)
    queues = [[group[i] for i in rng.permutation(len(group))] for _, group in sorted(strata.items())]
    drawn = [i for turn in zip_longest(*map(reversed, queues)) for i in turn if i is not None]
    people = []
    for i in drawn[:count]:
        a, name = records[i], file_of(i)
        x1, y1, x2, y2 = everybody.xyxy[i].tolist()
        w, h = (float(v) for v in a["bbox"][2:])
        dx, dy, dw, dh = rng.uniform(-_JITTER, _JITTER, 4) * (w, h, w, h)
        box = (x1 + dx - dw, y1 + dy - dh, x2 + dx + dw, y2 + dy + dh)
        people.append(SampledPerson(name, int(a["id"]), box, _stratum(a), (x1, y1, x2, y2), _label(a, name)))
    return CalibrationSet(people, read, contract)


def folder(path: Path) -> Callable[[str], bytes]:
    """The `read` function of images in a folder."""
    return lambda name: read_bytes(path / name)


def _fault(a: Mapping[str, Any], xyxy: NDArray[np.float64]) -> str:
    """Why an annotation cannot be calibrated on; empty if it can."""
    joints = np.asarray(a["keypoints"], np.float64).reshape(-1, 3)
    if a.get("iscrowd"):
        return "of a crowd"
    if len(joints) and not (joints[:, 2] > 0).any():
        return "without a labelled joint"
    return "" if np.isfinite(xyxy).all() and min(a["bbox"][2:]) > 1 else _NO_BOX


def _label(a: Mapping[str, Any], file_name: str) -> str:
    """What messages call a box: the user never saw the annotation ids that `frames.box_frames` makes."""
    return f"box {a['box_index']} of {file_name}" if "box_index" in a else f"the box of annotation {a['id']}"


def _check_inside(person: SampledPerson, frame: NDArray[np.uint8]) -> None:
    height, width = frame.shape[:2]
    # Without the jitter: of a box at the border the crop shows some of the image either way.
    x1, y1, x2, y2 = person.given
    if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
        a, b, c, d = (f"{round(v, 2):.10g}" for v in person.given)  # boxes of a file are float32
        raise CalibrationError(
            f"{person.label}, {a}, {b} to {c}, {d}, lies outside its image {person.file_name!r} of {width} x {height} "
            "px; correct the box, or leave it out"
        )


def _stratum(a: Mapping[str, Any]) -> str:
    """Size by COCO's bounds (areas of 96 x 96 px), share of labelled joints, and whether any is hidden."""
    _, _, w, h = (float(v) for v in a["bbox"])
    flags = np.asarray(a["keypoints"], np.float64).reshape(-1, 3)[:, 2]
    size = "large" if float(a.get("area", w * h)) > 96**2 else "medium"
    if not len(flags):
        return f"{size}/box"
    labelled = float((flags > 0).mean())
    joints = "few" if labelled < 1 / 3 else "some" if labelled < 2 / 3 else "most"
    return f"{size}/{joints}/{'occluded' if (flags == 1).any() else 'clear'}"
