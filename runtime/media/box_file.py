"""Boxes of people from a file, as detectors and annotation tools write them."""

from __future__ import annotations

import csv
import json
import logging
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..metrics.coco_files import to_xyxy

log = logging.getLogger("posert")

FORMATS = (
    'COCO annotations, a COCO list of detections, {"name or frame number": [[x1, y1, x2, y2], ...]}, or CSV with the '
    "header file,x1,y1,x2,y2 (or frame,x1,y1,x2,y2)"
)
_PERSON = 1  # COCO's category; a detector's list holds cars and dogs too


class BoxFile:
    """Boxes by image name or frame number, from a file of one of `FORMATS`.

    Of COCO files only people are used, and no crowd regions; boxes with a score below `min_score` are left out.

    Raises:
        InputError: the file is in none of the formats, or a box does not have four numbers.
    """

    def __init__(self, path: str | os.PathLike[str], min_score: float = 0.0) -> None:
        self.path = Path(path)
        try:
            text = self.path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{self.path}: cannot read the boxes ({error})") from error
        rows = self._csv(text) if self.path.suffix.lower() == ".csv" else self._json(text)
        found: dict[str, list[Any]] = {}
        owner: dict[str, str] = {}
        for name, boxes in rows:
            key = Path(name).name
            if owner.setdefault(key, name) != name:
                raise InputError(
                    f"{self.path}: {owner[key]} and {name} have one file name; give boxes for one folder at a time"
                )
            found.setdefault(key, []).extend(box[:4] for box in boxes if len(box) < 5 or float(box[4]) >= min_score)
        self._boxes = {key: np.array(boxes, np.float32).reshape(-1, 4) for key, boxes in found.items()}

    def of(self, key: str | int) -> NDArray[np.float32]:
        """Boxes `(N, 4)` float32 xyxy, px of the frame, of an image name or a frame number; empty if it has none.

        An image is also found by its COCO id, the number that its name ends in.
        """
        name = self._key(key)
        return np.empty((0, 4), np.float32) if name is None else self._boxes[name]

    def check(self, images: Sequence[str]) -> None:
        """Check that the file has boxes for these images; an empty list stands for the frames of a video.

        Boxes of no image, and images that the file does not name, are logged as warnings. An image that it names
        without a box has no people. Raises InputError: it has boxes, but for none of these images.
        """
        keys = [self._key(image) for image in images]
        if images:
            known = {key for key in keys if key is not None}
            wanted = f"none for {_some(images)}: images go by file name or COCO id"
        else:
            known = {key for key in self._boxes if key.isdecimal() and key == str(int(key))}
            wanted = "frames of a video go by number: 0, 1, 2, ..."
        if self._boxes and not known:
            raise InputError(f"{self.path}: has boxes for {_some(self._boxes)}; {wanted}")
        boxed = [key for key, boxes in self._boxes.items() if len(boxes)]
        lost = [key for key in boxed if key not in known]
        warnings = []
        if lost and len(images) != 1:  # one image is often picked from the folder that the boxes are for
            kind, hint = ("images", "") if images else ("frames", f": {wanted}")
            warnings.append(f"boxes of {len(lost)} of {len(boxed)} {kind} are not used, such as of {lost[0]}{hint}")
        if None in keys:
            warnings.append(f"{keys.count(None)} of {len(images)} images have no boxes")
        if warnings:
            log.warning("%s: %s", self.path, "; ".join(warnings))

    def _key(self, image: str | int) -> str | None:
        """The name of an image or a frame in the file; None if it is not there."""
        stem = Path(str(image)).stem
        digits = stem[len(stem.rstrip("0123456789")) :]
        names = [str(image), stem, *([str(int(digits))] if digits else [])]
        return next((name for name in names if name in self._boxes), None)

    def _csv(self, text: str) -> Iterator[tuple[str, list[Any]]]:
        reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
        names = reader.fieldnames or []
        key = next((n for n in ("file", "frame") if n in names), None)
        if key is None or not {"x1", "y1", "x2", "y2"} <= set(names):
            raise InputError(f"{self.path}: the header is {names}; expected file,x1,y1,x2,y2 or frame,x1,y1,x2,y2")
        columns = ["x1", "y1", "x2", "y2", *(["score"] if "score" in names else [])]
        for row in reader:
            line = f"line {reader.line_num}"
            if not row[key]:
                raise InputError(f"{self.path}: {line} has no {key}")
            yield row[key], [self._numbers(line, [row[c] for c in columns])]

    def _json(self, text: str) -> Iterator[tuple[str, list[Any]]]:
        try:
            data = json.loads(text)
        except ValueError as error:
            raise InputError(f"{self.path}: not JSON ({error}); boxes may be {FORMATS}") from error
        try:
            if isinstance(data, list):
                yield from self._coco(data, {})
            elif isinstance(data, dict) and "annotations" in data:
                yield from self._coco(data["annotations"], {i["id"]: str(i["file_name"]) for i in data["images"]})
            elif isinstance(data, dict):
                for name, boxes in data.items():
                    yield name, [self._numbers(f"an entry of {name}", box) for box in boxes]
            else:
                raise TypeError(f"found {type(data).__name__}")
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self.path}: not a list of boxes ({type(error).__name__}: {error}); boxes may be {FORMATS}"
            ) from error

    def _coco(self, records: list[dict[str, Any]], names: dict[Any, str]) -> Iterator[tuple[str, list[Any]]]:
        for name in names.values():
            yield name, []  # an image without people is still in the file
        for record in records:
            if record.get("category_id", _PERSON) != _PERSON or record.get("iscrowd", 0):
                continue
            image = record["image_id"]
            row = self._numbers(f"image {image}", [*record["bbox"], *([record["score"]] if "score" in record else [])])
            box = to_xyxy(np.array([row[:4]]))[0].tolist()
            yield str(names.get(image, image)), [[*box, *row[4:]]]

    def _numbers(self, where: str, values: Any) -> list[float]:
        try:
            numbers = [float(v) for v in values]
        except (TypeError, ValueError):
            numbers = []
        if len(numbers) not in (4, 5):
            raise InputError(f"{self.path}: {where}: {values!r} is not a box of four numbers (and a score)")
        return numbers


def _some(names: Collection[str]) -> str:
    first = list(names)
    return ", ".join(first[:3]) + (f" and {len(first) - 3} more" if len(first) > 3 else "")
