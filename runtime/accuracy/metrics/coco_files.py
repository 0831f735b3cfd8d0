"""Annotations and results in COCO's format, checked and turned into arrays.

Nothing is dropped in silence: what does not fit is named, with its place in the file and how many are like it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...datasets import dataset, datasets
from ...errors import InputError

Entry = Mapping[str, Any]
Double = NDArray[np.float64]


@dataclass(frozen=True)
class Images:
    """The images of an evaluation, in ascending order of their ids: `position[id]` is an image's index."""

    ids: tuple[Any, ...]
    position: dict[Any, int]


@dataclass(frozen=True)
class People:
    """N annotated people or N detections.

    Attributes:
        image: `(N,)` index of each one's image.
        joints: `(N, K, 3)` x, y in px of the image and visibility (annotations) or score (detections).
    """

    image: NDArray[np.intp]
    joints: Double


def read_json(path: str | Path) -> Any:
    """The content of a JSON file; InputError says where it is damaged."""
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is not a JSON file: {error}") from error


def images_of(coco: Any) -> Images:
    """The images of an annotation file, after a look at its outline.

    Raises:
        InputError: `images` or `annotations` are missing, or image ids are missing or repeated.
    """
    if not isinstance(coco, Mapping) or not all(isinstance(coco.get(k), list) for k in ("images", "annotations")):
        seen = sorted(coco) if isinstance(coco, Mapping) else type(coco).__name__
        raise InputError(f"an annotation file holds the lists `images` and `annotations`, this one has {seen}")
    require(coco["images"], "images", ("id",))
    ids = [image["id"] for image in coco["images"]]
    check_unique(ids, "images")
    try:
        ordered = sorted(ids)
    except TypeError as error:
        raise InputError(f"image ids must be all numbers or all names: {error}") from error
    return Images(tuple(ordered), {name: index for index, name in enumerate(ordered)})


def people_of(entries: Sequence[Entry], where: str, images: Images, fields: Iterable[tuple[str, int]]) -> People:
    """Turn annotations or results into arrays.

    Args:
        entries: the records.
        where: what to call them in a message, "annotations" or "results".
        images: the known images.
        fields: (field, joints in it); the joints of all fields are put together.

    Raises:
        InputError: an entry lacks a field, lies in an unknown image, has another number of joints or a joint that is
            not a finite number.
    """
    fields = list(fields)
    require(entries, where, ("image_id", *(name for name, _ in fields)))
    image = [images.position.get(entry["image_id"], -1) for entry in entries]
    check(entries, where, (i < 0 for i in image), lambda e: f"is in image {e['image_id']!r}, which is not annotated")
    parts = [numbers(entries, where, name, 3 * joints).reshape(-1, joints, 3) for name, joints in fields]
    return People(np.array(image, np.intp), np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0])


def numbers(entries: Sequence[Entry], where: str, field: str, count: int) -> Double:
    """A field of `count` finite numbers per entry as `(N, count)`; `(N,)` of single numbers for `count` 0."""
    values = [entry[field] for entry in entries]
    if count:
        check(
            entries,
            where,
            (not isinstance(v, Sequence | np.ndarray) or len(v) != count for v in values),
            lambda e: f"has {_describe(e[field])} in {field!r}, expected {count} numbers{_joints(e[field], count)}",
        )
    finite: list[bool]
    try:
        array = np.array(values, np.float64).reshape((-1, count) if count else -1)
        finite = [bool(row.all()) for row in np.isfinite(array)]
    except (TypeError, ValueError):
        array, finite = np.zeros(0), [_is_numbers(v, count) for v in values]
    check(entries, where, (not ok for ok in finite), lambda e: f"has values in {field!r} that are not finite numbers")
    return array


def require(entries: Sequence[Any], where: str, fields: Sequence[str]) -> None:
    """InputError unless every entry is an object that has all the fields."""
    if not isinstance(entries, Sequence) or isinstance(entries, str | bytes):
        raise InputError(f"{where} must be a list, not {type(entries).__name__}")
    wanted = set(fields)
    check(
        entries,
        where,
        (not isinstance(e, Mapping) or not wanted <= e.keys() for e in entries),
        lambda e: (
            f"lacks {', '.join(repr(f) for f in fields if f not in e)} (it has {', '.join(sorted(e))})"
            if isinstance(e, Mapping)
            else f"is {type(e).__name__}, expected an object with {', '.join(fields)}"
        ),
    )


def check_unique(ids: Sequence[Any], where: str) -> None:
    """InputError if an id is there twice."""
    seen: set[Any] = set()
    twice = [name for name in ids if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    if twice:
        raise InputError(f"{where}: the id {twice[0]!r} is there more than once ({len(twice)} repeated ids)")


def check(entries: Sequence[Any], where: str, bad: Iterable[Any], say: Callable[[Any], str]) -> None:
    """InputError about the first entry that is bad, and the number of them."""
    wrong = [index for index, is_bad in enumerate(bad) if is_bad]
    if wrong:
        entry = entries[wrong[0]]
        name = f" (id {entry['id']!r})" if isinstance(entry, Mapping) and "id" in entry else ""
        raise InputError(f"{where}[{wrong[0]}]{name} {say(entry)}; {len(wrong)} of {len(entries)} {where} like it")


def _describe(value: Any) -> str:
    return f"{len(value)} numbers" if isinstance(value, Sequence | np.ndarray) else f"{value!r}"


def _joints(value: Any, count: int) -> str:
    """What the expected numbers are, and whose joints the seen ones may be."""
    if count % 3:
        return ""
    seen = len(value) if isinstance(value, Sequence | np.ndarray) else 0
    others = [name for name in datasets() if 3 * len(dataset(name).keypoints) == seen != count]
    hint = f"; as many as {' and '.join(others)} have" if others else ""
    return f" ({count // 3} joints x, y, v){hint}"


def _is_numbers(value: Any, count: int) -> bool:
    try:
        return bool(np.isfinite(np.array(value, np.float64)).all()) and np.size(value) == max(count, 1)
    except (TypeError, ValueError):
        return False
