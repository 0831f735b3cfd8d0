"""Which of a detector's classes is wanted: by name or by number."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from ..errors import DetectorError
from ..registry import unknown_name

PERSON = {None: 0, 1: 0, 80: 0, 91: 1, 365: 0, 366: 0}
"""The class of people by the number of classes: one class, COCO's 80 in a row or 91 with gaps, Objects365 (as D-FINE
numbers it). None: outputs that do not say it, whose projects all number COCO's classes in a row."""


def names_of(metadata: Mapping[str, str]) -> dict[int, str]:
    """Names of classes by number, as ultralytics writes them into its files; empty where there are none."""
    try:
        names = ast.literal_eval(metadata.get("names", "{}"))
    except (ValueError, SyntaxError):
        return {}
    if isinstance(names, list):
        names = dict(enumerate(names))
    good = isinstance(names, dict) and all(isinstance(k, int) and isinstance(v, str) for k, v in names.items())
    return names if good else {}


def wanted_class(wanted: str | int | None, names: Mapping[int, str], count: int | None) -> int | None:
    """The number of a class; None for all.

    Args:
        wanted: its name or number.
        names: of the classes, where the file has them.
        count: of the classes, where it is known.

    Raises:
        DetectorError: there is no such class, or a name is asked of a detector that has none.
    """
    if wanted is None:
        return None
    if isinstance(wanted, int):
        if wanted < 0 or (count is not None and wanted >= count):
            raise DetectorError(f"classes={wanted}; the detector's classes are 0 to {count - 1 if count else '?'}")
        return wanted
    found = [number for number, name in names.items() if name.lower() == wanted.lower()]
    if found:
        return found[0]
    if names:
        raise DetectorError(f"{unknown_name('class', wanted, names.values())}. Or give a number, or None for all")
    if wanted == "person" and count in PERSON:
        return PERSON[count]
    many = "" if count is None else f", one of 0 to {count - 1}"
    raise DetectorError(
        f"the detector's file does not name its classes: give the number of {wanted!r}, such as classes=0{many}"
    )
