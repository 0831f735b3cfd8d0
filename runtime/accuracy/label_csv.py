"""Labels of DeepLabCut and Lightning Pose: a CSV of one row per image, as COCO's keypoint format.

Its head has the rows `scorer`, with several animals `individuals`, `bodyparts` and `coords`. An image is named in the
first column, or by its folders in the first three (DeepLabCut since 2.2). Joints without a label are empty.
"""

from __future__ import annotations

import csv
import math
import os
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..system.input_file import check_text_file

_HEAD = ("scorer", "individuals", "bodyparts", "coords")
_SINGLE = "single"  # DeepLabCut's name for what is no part of an animal, such as the corners of its cage
_MOST_ROWS = 50_000
_MARGIN = 0.05  # of the joints' extent, added on each side: an animal ends beyond its joints


def is_label_csv(path: Path) -> bool:
    """Whether a file begins as such a table does."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_HEAD[0]) + 1).rstrip(b",") == _HEAD[0].encode()


def read_label_csv(path: Path, folder: Path) -> dict[str, Any]:
    """The labels as `images`, `annotations` and `categories` in COCO's keypoint format.

    An animal's box is the extent of its joints and 5 % of it on each side. Images are looked for in `folder` by the
    path in the file, then by their name.

    Raises:
        InputError: the file is no table of labels; the message names the line.
    """
    rows = _read(path)
    head = {row[0]: row for row in rows[:4] if row and row[0] in _HEAD}
    columns = _columns(path, head)
    names = Counter(tuple(parts) for parts in columns.values()).most_common(1)[0][0]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    first = _name_columns(head["coords"])
    for number, row in enumerate(rows[len(head) :], len(head) + 1):
        if not any(row):
            continue
        if len(row) != len(head["coords"]):
            raise InputError(f"{path} line {number} has {len(row)} columns, expected {len(head['coords'])}")
        images.append({"id": len(images) + 1, "file_name": _file_name(folder, row[:first])})
        for parts in columns.values():
            if tuple(parts) == names:
                joints = [value for part in names for value in _joint(path, number, row, parts[part])]
                if any(joints[2::3]):
                    annotations.append(with_box({"id": len(annotations) + 1, "image_id": len(images)}, joints))
    if not annotations:
        raise InputError(f"{path} labels no joint in {len(images)} images")
    return {"images": images, "annotations": annotations, "categories": [_category(names)]}


def table_of(path: Path, folder: Path) -> tuple[list[list[str]], list[tuple[str, list[str]]]]:
    """The rows of the head of a table that `read_label_csv` reads, and the other rows, each with its image's name."""
    rows = [row for row in _read(path) if any(row)]
    count = sum(bool(row) and row[0] in _HEAD for row in rows[:4])
    coords = next(row for row in rows[:count] if row[0] == "coords")
    first = _name_columns(coords)
    return rows[:count], [(_file_name(folder, row[:first]), row) for row in rows[count:]]


def _read(path: Path) -> list[list[str]]:
    try:
        check_text_file(path)
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(islice(csv.reader(file), _MOST_ROWS + 1))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if len(rows) > _MOST_ROWS:
        raise InputError(f"{path} has more than {_MOST_ROWS} rows, which no table of labels has")
    return rows


def _name_columns(coords: Sequence[str]) -> int:
    """How many columns name the image."""
    return 3 if coords[1:3] == ["", ""] else 1


def with_box(record: dict[str, Any], joints: Sequence[float]) -> dict[str, Any]:
    """An annotation with the box around its labelled joints, K x [x, y, v]."""
    points = [(x, y) for x, y, v in zip(joints[::3], joints[1::3], joints[2::3], strict=True) if v > 0]
    sides = []
    for values in zip(*points, strict=True):
        low, high = min(values), max(values)
        margin = _MARGIN * (high - low)
        sides.append((max(low - margin, 0.0), high + margin))
    (left, right), (top, bottom) = sides
    box = [left, top, right - left, bottom - top]
    own = {"category_id": 1, "iscrowd": 0, "keypoints": list(joints), "num_keypoints": len(points)}
    return {**own, **record, "bbox": box}


def _columns(path: Path, head: dict[str, list[str]]) -> dict[str, dict[str, int]]:
    """The column of x of each joint, by animal."""
    missing = [name for name in ("scorer", "bodyparts", "coords") if name not in head]
    if missing or len({len(row) for row in head.values()}) != 1:
        raise InputError(
            f"{path} is no table of labels: its first rows are {', '.join(head)}; expected scorer, bodyparts and "
            "coords (and individuals), as DeepLabCut and Lightning Pose write them"
        )
    found: dict[str, dict[str, int]] = {}
    coords, parts = head["coords"], head["bodyparts"]
    animals = head.get("individuals", ["" for _ in parts])
    if "likelihood" in coords:
        raise InputError(
            f"{path} holds predictions (it has a likelihood); expected labels, such as CollectedData_NAME.csv"
        )
    for column in range(1, len(coords) - 1):
        if (coords[column], coords[column + 1]) == ("x", "y") and animals[column] != _SINGLE:
            found.setdefault(animals[column], {})[parts[column]] = column
    if not found:
        raise InputError(f"{path} has no columns x, y of a joint: its coords are {', '.join(sorted(set(coords[1:])))}")
    return found


def _joint(path: Path, number: int, row: list[str], column: int) -> tuple[float, float, int]:
    texts = row[column : column + 2]
    if not all(text.strip() for text in texts):
        return 0.0, 0.0, 0
    try:
        x, y = (float(text) for text in texts)
    except ValueError:
        shown = [text[:40] for text in texts]
        raise InputError(f"{path} line {number} has {shown} where x and y of a joint were expected") from None
    if math.isinf(x) or math.isinf(y):
        shown = [text[:40] for text in texts]
        raise InputError(f"{path} line {number} has {shown}, which is no place in an image")
    return (0.0, 0.0, 0) if math.isnan(x) or math.isnan(y) else (x, y, 2)


def _file_name(folder: Path, parts: list[str]) -> str:
    name = "/".join(part.replace("\\", "/") for part in parts if part)
    return name if os.path.isfile(folder / name) else name.rsplit("/", 1)[-1]


def _category(names: Sequence[str]) -> dict[str, Any]:
    return {"id": 1, "name": "animal", "keypoints": list(names), "skeleton": []}
