"""Annotations and results in COCO's format: read, checked and converted to arrays.

No record is dropped silently. An error names the first record that does not fit and how many are like it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..system.input_file import read_text_file
from ..system.json_text import StrictJsonError, parse_json

Entry = Mapping[str, Any]
Double = NDArray[np.float64]
Index = NDArray[np.intp]

_LARGEST = 1e18  # no image, area or score is near it, and its square still is a number


def _is_number(value: Any) -> bool:
    return _is_numeric(type(value)) and math.isfinite(value)


def _is_numeric(kind: type) -> bool:
    """Of one number, or of an array; true and false are none, although Python's are integers."""
    return issubclass(kind, int | float | np.integer | np.floating | np.ndarray) and kind is not bool


def _is_id(value: Any) -> bool:
    return isinstance(value, str) or _is_number(value)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool) or (_is_number(value) and value in (0, 1))


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value and value != ""


def _is_names(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)


_FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("id", "image_id"), (_is_id, "a number or a text")),
    "category_id": (_is_number, "a number"),
    "iscrowd": (_is_flag, "0 or 1"),
    **dict.fromkeys(("score", "area", "num_keypoints", "width", "height"), (_is_number, "a finite number")),
    **dict.fromkeys(("file_name", "image"), (_is_path, "a path")),
}
"""Fields of records in COCO's format (and in MPII's), whether a value fits, and what a message says of it."""


def read_json(path: str | Path) -> Any:
    """The content of a JSON file. Raises InputError: it cannot be read or is damaged; the message says where."""
    try:
        return parse_json(read_text_file(path))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except StrictJsonError as error:
        raise InputError(f"{path} cannot be used: {error}") from error
    except ValueError as error:
        raise InputError(f"{path} is not a JSON file: {error}") from error


def read_annotations(path: Path) -> Mapping[str, Any]:
    """An annotation file: an object with `images` and `annotations`."""
    content = read_json(path)
    if not isinstance(content, Mapping):
        raise InputError(f"{path} must be an object with `images` and `annotations`, not {type(content).__name__}")
    check_categories(content)
    return content


def read_results(path: Path) -> list[Entry]:
    """A results file: a list of records."""
    return records_of(read_json(path), path)


def records_of(content: Any, path: Path) -> list[Entry]:
    """The content of a results file; InputError unless it is a list."""
    if isinstance(content, list):
        return content
    seen = f"an object with {sorted(content)}" if isinstance(content, Mapping) else type(content).__name__
    raise InputError(f"{path} must be a list of results, not {seen}: are annotations and results swapped?")


def images_of(coco: Any) -> dict[Any, int]:
    """The index of each image of an annotation file by its id, in ascending order of the ids.

    Raises InputError: `images` or `annotations` are missing, or image ids are missing or repeated.
    """
    if not isinstance(coco, Mapping) or not all(isinstance(coco.get(k), list) for k in ("images", "annotations")):
        seen = str(sorted(coco) if isinstance(coco, Mapping) else type(coco).__name__)
        raise InputError(f"an annotation file holds the lists `images` and `annotations`, this one has {seen:.200}")
    check_categories(coco)
    require(coco["images"], "images", ("id",))
    check_fields(coco["annotations"], "annotations", ("id", "iscrowd", "num_keypoints", "area"))
    ids = [image["id"] for image in coco["images"]]
    check_unique(ids, "images")
    try:
        return {name: index for index, name in enumerate(sorted(ids))}
    except TypeError as error:
        raise InputError(f"image ids must be all numbers or all names: {error}") from error


def image_index(entries: Sequence[Entry], where: str, images: Mapping[Any, int]) -> Index:
    """`(N,)` index of each record's image; InputError for a record in none of `images`."""
    index = [images.get(entry["image_id"], -1) for entry in entries]
    check(entries, where, (i < 0 for i in index), lambda e: f"is in image {e['image_id']!r}, which is not annotated")
    return np.array(index, np.intp)


def joints_of(
    entries: Sequence[Entry], where: str, images: Mapping[Any, int], fields: Sequence[tuple[str, int]]
) -> tuple[Index, Double]:
    """The joints of N annotated people or N detections.

    Args:
        entries: the records.
        where: what a message calls them, "annotations" or "results".
        images: the known images, see `images_of`.
        fields: (field, joints in it); the joints of all fields are concatenated.

    Returns:
        `(N,)` index of each person's image, and `(N, K, 3)` x, y in px of the frame and visibility or score.

    Raises:
        InputError: a record lacks a field, lies in an unknown image, has another number of joints or a joint that is
            not a finite number.
    """
    require(entries, where, ("image_id", *(name for name, _ in fields)))
    image = image_index(entries, where, images)
    parts = [numbers(entries, where, name, 3 * joints).reshape(-1, joints, 3) for name, joints in fields]
    return image, np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]


def to_xyxy(xywh: Double) -> Double:
    """Boxes `(N, 4)` x, y, width, height as x1, y1, x2, y2."""
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def numbers(entries: Sequence[Entry], where: str, field: str, count: int, finite: bool = True) -> Double:
    """A field of `count` numbers per record as `(N, count)`, or of one number as `(N,)` if `count` is 0.

    Raises InputError: another number of values, or values that are not numbers or, with `finite`, not finite.
    """
    values = [entry[field] for entry in entries]
    if count:
        wrong = (not isinstance(v, Sequence | np.ndarray) or len(v) != count for v in values)
        check(entries, where, wrong, lambda e: f"has {wrong_count(e[field], field, count)}")
    types = (map(type, v) if count and not isinstance(v, np.ndarray) else [type(v)] for v in values)
    odd = (not all(map(_is_numeric, set(kinds))) for kinds in types)
    check(entries, where, odd, lambda e: f"has values in {field!r} that are not numbers: {e[field]!r:.60}")
    try:
        array = np.array(values, np.float64).reshape((-1, count) if count else -1)
        with np.errstate(invalid="ignore"):
            bad = [not row.all() for row in np.abs(array) <= _LARGEST] if finite else []
    except (TypeError, ValueError, OverflowError):  # an int that float64 cannot hold; arrays of other kinds
        array, bad = np.zeros(0), [not _is_numbers(v, count) for v in values]
    check(entries, where, bad, lambda e: f"has values in {field!r} that are not finite numbers")
    return array


def wrong_count(value: Any, field: str, count: int) -> str:
    """What a message says about a field that has not `count` numbers, such as "42 numbers in 'keypoints', ..."."""
    seen = f"{len(value)} numbers" if isinstance(value, Sequence | np.ndarray) else f"{value!r}"
    joints = "" if count % 3 else f" ({count // 3} joints x, y, v)"
    return f"{seen} in {field!r}, expected {count} numbers{joints}"


def require(entries: Sequence[Any], where: str, fields: Sequence[str]) -> None:
    """Raise InputError unless every record is an object that has all the fields, each as COCO's format has it."""
    if not isinstance(entries, Sequence) or isinstance(entries, str | bytes):
        raise InputError(f"{where} must be a list, not {type(entries).__name__}")
    wanted = set(fields)
    check(
        entries,
        where,
        (not isinstance(e, Mapping) or not wanted <= e.keys() for e in entries),
        lambda e: (
            f"lacks {', '.join(repr(f) for f in fields if f not in e)} (it has {', '.join(sorted(e)):.200})"
            if isinstance(e, Mapping)
            else f"is {type(e).__name__}, expected an object{' with ' * bool(fields)}{', '.join(fields)}"
        ),
    )
    check_fields(entries, where, fields)


def check_fields(entries: Sequence[Any], where: str, fields: Sequence[str]) -> None:
    """Raise InputError unless these fields of COCO's format, where a record has them, hold what they must."""
    for name in fields:
        if name in _FIELDS:
            fits, expected = _FIELDS[name]
            odd = (isinstance(e, Mapping) and name in e and not fits(e[name]) for e in entries)
            check(entries, where, odd, partial(_misfit, name, expected))


def _misfit(name: str, expected: str, entry: Entry) -> str:
    return f"has {entry[name]!r:.60} in {name!r}, expected {expected}"


def check_categories(coco: Mapping[str, Any]) -> None:
    """Raise InputError unless `categories`, where there are any, are objects with `id` and names in `keypoints`."""
    categories = coco.get("categories", [])
    require(categories, "categories", ())
    check_fields(categories, "categories", ("id",))
    odd = (not _is_names(category.get("keypoints", [])) for category in categories)
    check(categories, "categories", odd, lambda c: f"has {c['keypoints']!r:.60} in 'keypoints', expected names")


def check_unique(ids: Sequence[Any], where: str) -> None:
    """Raise InputError if an id occurs twice."""
    (name, count), *_ = Counter(ids).most_common(1) or [(None, 0)]
    if count > 1:
        repeated = len(ids) - len(set(ids))
        raise InputError(f"{where}: the id {name!r:.60} occurs more than once ({repeated} repeated ids)")


def check(entries: Sequence[Any], where: str, bad: Iterable[Any], say: Callable[[Any], str]) -> None:
    """Raise InputError about the first bad record, with the number of bad ones."""
    wrong = [index for index, is_bad in enumerate(bad) if is_bad]
    if wrong:
        entry = entries[wrong[0]]
        name = f" (id {entry['id']!r:.60})" if isinstance(entry, Mapping) and "id" in entry else ""
        raise InputError(f"{where}[{wrong[0]}]{name} {say(entry)}; {len(wrong)} of {len(entries)} {where} like it")


def _is_numbers(value: Any, count: int) -> bool:
    try:
        return bool(np.isfinite(np.array(value, np.float64)).all()) and np.size(value) == max(count, 1)
    except (TypeError, ValueError, OverflowError):
        return False
