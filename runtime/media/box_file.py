"""Boxes of people from a file, as detectors and annotation tools write them."""

from __future__ import annotations

import csv
import io
import logging
import math
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..metrics.coco_files import check_categories, check_fields, check_unique, require, to_xyxy
from ..system.input_file import read_text_file
from ..system.json_text import StrictJsonError, parse_json

log = logging.getLogger("posert")

FORMATS = (
    'COCO annotations, a COCO list of detections, {"name or frame number": [[x1, y1, x2, y2], ...]}, or CSV with the '
    "header file,x1,y1,x2,y2 (or frame,x1,y1,x2,y2)"
)
_PERSON = 1  # COCO's category; a detector's list holds cars and dogs too
_NUMBER = re.compile(
    r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf)", re.ASCII | re.IGNORECASE
)  # Python's float() takes 1_0 and more


class BoxFile:
    """Boxes by image name or frame number, from a file of one of `FORMATS`.

    Of COCO files only people are used, and no crowd regions. Boxes with a score below `min_score`, if one is given, are
    left out.

    Raises:
        InputError: the file is in none of the formats, or a record does not fit: nothing is left out in silence.
    """

    def __init__(self, path: str | os.PathLike[str], min_score: float | None = None) -> None:
        self.path = Path(path)
        if min_score is not None and not math.isfinite(min_score):
            raise InputError(f"boxes with a score below {min_score} cannot be left out: expected a number")
        try:
            data = read_text_file(self.path)
            text = data.decode("utf-8-sig")
        except OSError as error:
            raise InputError(f"{self.path}: cannot read the boxes: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{self.path}: cannot read the boxes ({error})") from error
        rows = self._csv(text) if self.path.suffix.lower() == ".csv" else self._json(data)
        found: dict[str, list[Any]] = {}
        owner: dict[str, str] = {}
        for name, boxes in rows:
            key = Path(name).name
            if not key or "\0" in name:
                raise InputError(f"{self.path}: {name[:60]!r} is no name of an image and no number of a frame")
            if owner.setdefault(key, name) != name:
                raise InputError(
                    f"{self.path}: {owner[key]} and {name} have one file name; give boxes for one folder at a time"
                )
            least = -math.inf if min_score is None else min_score
            found.setdefault(key, []).extend(box[:4] for box in boxes if len(box) < 5 or box[4] >= least)
        with np.errstate(over="ignore"):  # what is too large for single precision is infinite, and refused as such
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
            known = {key for key in self._boxes if _FRAME.fullmatch(key)}
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
        names = [str(image), stem, *([digits.lstrip("0") or "0"] if digits else [])]
        return next((name for name in names if name in self._boxes), None)

    def _csv(self, text: str) -> Iterator[tuple[str, list[Any]]]:
        reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
        try:
            names = list(reader.fieldnames or [])
            key = next((n for n in ("file", "frame") if n in names), None)
            if key is None or not {"x1", "y1", "x2", "y2"} <= set(names):
                raise InputError(
                    f"{self.path}: the header is {_short(names)}; expected file,x1,y1,x2,y2 or frame,x1,y1,x2,y2"
                )
            if len(set(names)) != len(names):
                raise InputError(f"{self.path}: the header {_short(names)} has a column twice")
            columns = ["x1", "y1", "x2", "y2", *(["score"] if "score" in names else [])]
            for row in reader:
                line = f"line {reader.line_num}"
                if not row[key]:
                    raise InputError(f"{self.path}: {line} has no {key}")
                if None in row:
                    raise InputError(f"{self.path}: {line} has more columns than the header, {_short(names)}")
                texts = [row[c] for c in columns]
                fits = all(text is not None and _NUMBER.fullmatch(text.strip(" \t")) for text in texts)
                yield row[key], [self._numbers(line, [float(text) for text in texts] if fits else texts)]
        except csv.Error as error:
            raise InputError(f"{self.path}: line {reader.line_num + 1} is not CSV that can be read: {error}") from error

    def _json(self, data: bytes) -> Iterator[tuple[str, list[Any]]]:
        try:
            content = parse_json(data)
        except StrictJsonError as error:
            raise InputError(f"{self.path}: {error}; boxes may be {FORMATS}") from error
        except ValueError as error:
            raise InputError(f"{self.path}: not JSON ({error}); boxes may be {FORMATS}") from error
        try:
            if isinstance(content, list):
                yield from self._coco(content, "detections", {})
            elif isinstance(content, dict) and "annotations" in content:
                images = content.get("images", {})
                require(images, "images", ("id", "file_name"))
                check_unique([image["id"] for image in images], "images")
                check_categories(content)
                yield from self._coco(content["annotations"], "annotations", {i["id"]: i["file_name"] for i in images})
            elif isinstance(content, dict):
                for name, boxes in content.items():
                    if not isinstance(boxes, list):
                        raise InputError(f"{name[:60]!r} has {_short(boxes)}, expected a list of boxes")
                    yield name, [self._numbers(f"an entry of {name[:60]}", box) for box in boxes]
            else:
                raise InputError(f"found {type(content).__name__}")
        except InputError as error:
            if str(error).startswith(f"{self.path}: "):
                raise
            raise InputError(f"{self.path}: not a list of boxes: {error}; boxes may be {FORMATS}") from error

    def _coco(self, records: Any, where: str, names: dict[Any, str]) -> Iterator[tuple[str, list[Any]]]:
        require(records, where, ("image_id", "bbox"))
        check_fields(records, where, ("category_id", "iscrowd", "score"))
        for name in names.values():
            yield name, []  # an image without people is still in the file
        for index, record in enumerate(records):
            if record.get("category_id", _PERSON) != _PERSON or record.get("iscrowd", 0):
                continue
            image, box = record["image_id"], self._numbers(f"{where}[{index}]", record["bbox"])
            if len(box) != 4:
                raise InputError(f"{self.path}: {where}[{index}] has {_short(box)} in 'bbox', expected four numbers")
            score = [record["score"]] if "score" in record else []
            yield str(names.get(image, image)), [[*to_xyxy(np.array([box]))[0].tolist(), *score]]

    def _numbers(self, where: str, values: Any) -> list[float]:
        """A box and its score. A box that is nowhere (NaN) is refused later: it costs its own image only."""
        fits = isinstance(values, list) and len(values) in (4, 5) and {int, float}.issuperset(map(type, values))
        if not fits or not all(map(math.isfinite, values[4:])):
            raise InputError(f"{self.path}: {where}: {_short(values)} is not a box of four numbers (and a score)")
        return [float(value) for value in values]


def _short(value: Any) -> str:
    return f"{value!r:.80}"


_FRAME = re.compile(r"0|[1-9][0-9]*")


def _some(names: Collection[str]) -> str:
    first = list(names)
    return ", ".join(first[:3]) + (f" and {len(first) - 3} more" if len(first) > 3 else "")
