"""The calibration set: crops of annotated people, cut by the runtime's own code, with their provenance.

People are drawn evenly from strata of size, visible joints and occlusion, because ranges are set by the unusual: a set
of large unoccluded people alone never shows the network what a blurred, half-hidden one does to its activations.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..runtime.bundle.contract import Contract
from ..runtime.errors import CalibrationError
from ..runtime.pose.preprocess import check_boxes, crop, crop_matrices, crop_regions
from .overlap import EvaluationSet

log = logging.getLogger("posert")

_BATCH = 8
_JITTER = 0.05  # of the box side, as a detector errs
_NO_BOX = "with a box that is not finite or at most 1 px wide or high"


@dataclass(frozen=True)
class Person:
    """One annotated person that was drawn.

    Attributes:
        file_name: of the image, as the annotations spell it.
        annotation: its id.
        box: x1, y1, x2, y2 in px of the image, jittered.
        stratum: what kind of person this is, such as "medium/most/occluded".
        given: the box as the annotations have it, which is what a message must name.
        label: what the user calls that box.
    """

    file_name: str
    annotation: int
    box: tuple[float, float, float, float]
    stratum: str
    given: tuple[float, float, float, float]
    label: str


class CalibrationSet:
    """Crops of people; iterating over it yields batches `(N, height, width, 3)` uint8 BGR, the same each time.

    Args:
        people: whom to cut out.
        read: gives the encoded bytes (JPEG, PNG, ...) of an image by its file name.
        contract: size and geometry of the crops.
        evaluation: the images that accuracy is measured on, which must not be among these.

    Raises (while iterating):
        CalibrationError: an image cannot be read or is in the evaluation set, a box lies outside its image (the image
            is named), or no crop shows anything but a single colour.
    """

    def __init__(
        self,
        people: Sequence[Person],
        read: Callable[[str], bytes],
        contract: Contract,
        evaluation: EvaluationSet | None = None,
    ) -> None:
        if not people:
            raise CalibrationError("the calibration set has no people; a few hundred annotated people are usual")
        self.people = sorted(people, key=lambda p: (p.file_name, p.annotation))
        self.contract = contract
        self._read = read
        self._evaluation = evaluation
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
                f"{self.people[0].file_name!r}: ranges found there would fit no picture. Look at the images and the "
                "boxes."
            )

    def provenance(self) -> dict[str, Any]:
        """What the set is made of, for the manifest: files with sha256, people per stratum, a hash of it all."""
        files = {p.file_name: self._digest(p.file_name) for p in self.people}
        strata: dict[str, int] = {}
        for p in self.people:
            strata[p.stratum] = strata.get(p.stratum, 0) + 1
        boxes = "".join(f"{p.file_name} {files[p.file_name]} {p.annotation} {p.box}\n" for p in self.people)
        return {
            "people": len(self),
            "images": len(files),
            "strata": dict(sorted(strata.items())),
            "files": files,
            "sha256": hashlib.sha256(boxes.encode()).hexdigest(),
        }

    def _digest(self, name: str, data: bytes | None = None) -> str:
        if name not in self._sha256:
            self._sha256[name] = hashlib.sha256(self._bytes(name) if data is None else data).hexdigest()
        return self._sha256[name]

    def _bytes(self, name: str) -> bytes:
        try:
            return self._read(name)
        except OSError as error:
            raise CalibrationError(f"calibration image {name!r} cannot be read: {error}") from error

    def _frame(self, name: str) -> NDArray[np.uint8]:
        """An image `(H, W, 3)` uint8 BGR, after the check that it is not one that accuracy is measured on."""
        data = self._bytes(name)
        copied = self._evaluation.find(data) if self._evaluation else None
        if copied is not None:
            raise CalibrationError(
                f"calibration image {name!r} is also in the evaluation set, as {copied}: accuracy measured there would "
                "flatter the quantised network. Calibrate on training images."
            )
        self._digest(name, data)
        # Turned as the EXIF tag says, as the gate and the runtime read images.
        frame = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
        if frame is None:
            raise CalibrationError(
                f"calibration image {name!r} ({len(data)} bytes) is not an image that OpenCV can decode; "
                "download it again or leave it out of the annotations"
            )
        return np.asarray(frame, np.uint8)


def crops_from_coco(
    annotations: Mapping[str, Any],
    read: Callable[[str], bytes],
    contract: Contract,
    count: int = 256,
    seed: int = 0,
    evaluation: EvaluationSet | None = None,
) -> CalibrationSet:
    """Draw a calibration set from COCO-format keypoint annotations.

    Args:
        annotations: a loaded person-keypoints JSON: "images" (id, file_name), "annotations" (id, image_id, bbox xywh,
            keypoints). An empty list of keypoints says that only the box is known, as `frames.box_frames` has it, and
            `box_index` that it is to be called by that number.
        read: gives the encoded bytes of an image by its file_name; `folder(path)` makes one.
        contract: of the network; its crops are cut as at run time.
        count: people wanted; all are taken where there are fewer.
        seed: of the draw; the same seed gives the same set.
        evaluation: as for `CalibrationSet`.

    Raises:
        CalibrationError: the annotations hold nobody to calibrate on, or are not COCO-format.
    """
    try:
        names = {image["id"]: str(image["file_name"]) for image in annotations["images"]}
        everybody = [(a, _fault(a)) for a in annotations["annotations"]]
        rows = [a for a, fault in everybody if not fault]
        strata: dict[str, list[Mapping[str, Any]]] = {}
        for a in sorted(rows, key=lambda a: int(a["id"])):
            strata.setdefault(_stratum(a), []).append(a)
        files = {a["id"]: names[a["image_id"]] for a in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise CalibrationError(
            f"the annotations are not COCO keypoints ({type(error).__name__}: {error}); expected lists 'images' with "
            "id and file_name and 'annotations' with id, image_id, bbox and keypoints"
        ) from error
    if not rows:
        faults = Counter(fault for _, fault in everybody)
        seen = ", ".join(f"{n} {fault}" for fault, n in faults.items()) or "nobody with labelled joints is there"
        raise CalibrationError(
            f"none of the {len(everybody)} annotations can be calibrated on: {seen}. Expected single people with a box "
            "and at least one labelled joint, or boxes alone, in a file as `posert run --boxes` takes it"
        )
    # Crowds and people without joints belong to every data set; such a box is a mistake.
    left = [a for a, fault in everybody if fault == _NO_BOX]
    if left:
        log.warning(
            "calibration leaves out %d of %d people %s, such as %s",
            *(len(left), len(everybody), _NO_BOX, _label(left[0], names.get(left[0]["image_id"], ""))),
        )
    rng = np.random.default_rng(seed)
    queues = [[group[i] for i in rng.permutation(len(group))] for _, group in sorted(strata.items())]
    drawn: list[Mapping[str, Any]] = []
    while len(drawn) < count and queues:
        for queue in queues:
            if len(drawn) < count:
                drawn.append(queue.pop())
        queues = [queue for queue in queues if queue]
    people = []
    for a in drawn:
        x, y, w, h = (float(v) for v in a["bbox"])
        dx, dy, dw, dh = rng.uniform(-_JITTER, _JITTER, 4) * (w, h, w, h)
        box = (x + dx - dw, y + dy - dh, x + w + dx + dw, y + h + dy + dh)
        name = files[a["id"]]
        people.append(Person(name, int(a["id"]), box, _stratum(a), (x, y, x + w, y + h), _label(a, name)))
    return CalibrationSet(people, read, contract, evaluation)


def folder(path: Path) -> Callable[[str], bytes]:
    """A `read` for images in a folder."""
    return lambda name: (path / name).read_bytes()


def _fault(a: Mapping[str, Any]) -> str:
    """Why an annotation cannot be calibrated on; empty if it can."""
    x, y, w, h = (float(v) for v in a["bbox"])
    joints = np.asarray(a["keypoints"], np.float64).reshape(-1, 3)
    if a.get("iscrowd"):
        return "of a crowd"
    if len(joints) and not (joints[:, 2] > 0).any():
        return "without a labelled joint"
    return "" if np.isfinite([x, y, w, h]).all() and w > 1 and h > 1 else _NO_BOX


def _label(a: Mapping[str, Any], file_name: str) -> str:
    """What the user calls a box: the annotations that `frames.box_frames` makes have ids that they never saw."""
    return f"box {a['box_index']} of {file_name}" if "box_index" in a else f"the box of annotation {a['id']}"


def _check_inside(person: Person, frame: NDArray[np.uint8]) -> None:
    height, width = frame.shape[:2]
    # As given, not as jittered: of a box at the border the crop shows some of the picture either way.
    x1, y1, x2, y2 = person.given
    if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
        a, b, c, d = (f"{round(v, 2):.10g}" for v in person.given)  # boxes from a file are float32
        raise CalibrationError(
            f"{person.label}, {a}, {b} to {c}, {d}, lies outside its image {person.file_name!r} of {width} x {height} "
            "px; mend the box, or leave it out"
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
