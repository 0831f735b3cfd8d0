"""Defects that are put into posert on purpose, to see that the campaign finds them: one of each kind."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from posert.runtime.bundle import archive, members
from posert.runtime.errors import InputError
from posert.runtime.estimator import PoseEstimator
from posert.runtime.media import box_file
from posert.runtime.pose.keypoints import Keypoints


def _around(owner: Any, name: str, change: Callable[..., Any]) -> None:
    """Replace a function by `change(original, *arguments)`."""
    before = vars(owner)[name]

    def changed(*arguments: Any, **more: Any) -> Any:
        return change(before, *arguments, **more)

    setattr(owner, name, changed)


def _silent_difference() -> None:
    """The joints of another person, where a frame's rows do not lie one behind the other."""

    def wrong(before: Any, self: Any, frame: Any, *given: Any) -> Keypoints:
        found: Keypoints = before(self, frame, *given)
        return found[::-1] if isinstance(frame, np.ndarray) and not frame.flags.c_contiguous else found

    _around(PoseEstimator, "__call__", wrong)


def _traceback() -> None:
    """A check that is not there: numbers are parsed as they come."""

    def unchecked(before: Any, self: Any, where: str, values: Any) -> list[float]:
        return [float(v) for v in values]

    _around(box_file.BoxFile, "_numbers", unchecked)


def _lost_boxes() -> None:
    """Boxes that are hard to read are left out without a word."""

    def kept(before: Any, self: Any, records: Any, where: str, names: Any) -> Any:
        good = (
            [r for r in records if isinstance(r, dict) and isinstance(r.get("bbox"), list)]
            if isinstance(records, list)
            else records
        )
        return before(self, good[:-1], where, names)

    _around(box_file.BoxFile, "_coco", kept)


def _no_name() -> None:
    """Messages without the file."""

    def bare(before: Any, self: Any, path: Any, *more: Any) -> None:
        try:
            before(self, path, *more)
        except InputError as error:
            raise InputError(str(error).replace(str(path), "the file")) from error

    _around(box_file.BoxFile, "__init__", bare)


def _ran_code() -> None:
    """A reader that runs what it is given."""

    def run(before: Any, self: Any, path: Any, *more: Any) -> None:
        os.system("true")
        before(self, path, *more)

    _around(box_file.BoxFile, "__init__", run)


def _read_outside() -> None:
    """A file of the current folder is read, though nobody named it."""

    def look(before: Any, *given: Any) -> Any:
        Path("weights.bin").read_bytes()
        return before(*given)

    _around(box_file, "parse_json", look)


def _left_over() -> None:
    """A temporary file stays beside the input."""

    def leave(before: Any, self: Any, path: Any, *more: Any) -> None:
        Path(path).with_name(".boxes.tmp").write_text("x")
        before(self, path, *more)

    _around(box_file.BoxFile, "__init__", leave)


def _memory() -> None:
    """As much is taken as a file's size asks for, a million times over."""

    def take(before: Any, self: Any, path: Any, *more: Any) -> None:
        size = Path(path).stat().st_size
        if size % 3 == 0:
            np.ones(min(size * 10_000_000, 2_200_000_000), np.uint8)
        before(self, path, *more)

    _around(box_file.BoxFile, "__init__", take)


def _crash() -> None:
    """The process ends."""

    def end(before: Any, *given: Any) -> Any:
        os.abort()

    _around(box_file, "parse_json", end)


def _hang() -> None:
    """Nothing happens any more."""

    def wait(before: Any, *given: Any) -> Any:
        time.sleep(3600)

    _around(box_file, "parse_json", wait)


def _broken_seal() -> None:
    """Nobody looks at the seal and the hashes of a bundle."""

    def unsealed(before: Any, self: Any, name: str, sha256: str, size: int) -> bytes:
        return members.read_member(self._zip, self.path, name, archive.MAX_MEMBER)

    _around(archive.Bundle, "_member", unsealed)
    _around(members, "seal", lambda before, manifest: _Any(before(manifest)))


class _Any(bytes):
    """Equal to whatever it is compared with."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = bytes.__hash__


PLANTED: dict[str, tuple[str, Callable[[], None], str]] = {
    "silent difference": ("arrays", _silent_difference, "other joints"),
    "broken seal": ("bundle_bytes", _broken_seal, "in silence"),
    "traceback": ("boxes", _traceback, "traceback"),
    "lost boxes": ("boxes", _lost_boxes, "boxes lost"),
    "no name": ("boxes", _no_name, "names no file"),
    "ran code": ("boxes", _ran_code, "ran code"),
    "read outside": ("boxes", _read_outside, "read outside"),
    "left over": ("boxes", _left_over, "left-over"),
    "memory": ("boxes", _memory, "memory"),
    "crash": ("boxes", _crash, "crash"),
    "hang": ("boxes", _hang, "hang"),
}
"""By name: the part that must find it, what plants it, and the kind under which it is found."""


def plant(name: str) -> None:
    """Put a defect into this process."""
    PLANTED[name][1]()
