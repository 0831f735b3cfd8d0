"""Calibration frames apart from the gate's: copies are refused, frames that look alike are left out."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

from ...calib.looks import image_facts
from ...calib.overlap import EvaluationImages, Overlap, in_words
from ...runtime.accuracy.frames import Frames
from ...runtime.errors import CalibrationError

log = logging.getLogger("posert")

FEWEST = 8  # people that ranges can be found on
_SHOWN = 3  # images in a note


def evaluation_images(frames: Frames, allow_similar: bool = False) -> EvaluationImages:
    """The gate's images, whose people calibration frames are compared with."""
    names = [record["file_name"] for record in frames.coco["images"]]
    return EvaluationImages(names, frames.read, image_facts(frames.coco), allow_similar)


def apart(frames: Frames, held_out: EvaluationImages, chosen: Callable[[Frames], Iterable[str]]) -> Frames:
    """The calibration frames without those that show somebody who looks like one of the gate's images, `held_out`,
    unless that allows them; a warning names some.

    Only the images that `chosen` takes of the frames are looked at, because a training set may have a hundred thousand;
    where some are left out it chooses again.

    Raises:
        CalibrationError: some are the gate's own images, all of which are named; or fewer than `FEWEST` people are
            left.
    """
    everything = [record["file_name"] for record in frames.coco["images"]]
    facts = image_facts(frames.coco)
    known = set(held_out.suspects)  # told already
    seen: set[str] = set()
    similar: dict[str, str] = {}
    left = frames
    while names := set(chosen(left)) - seen:
        found = held_out.overlap([name for name in everything if name in names], frames.read, facts)
        if found.copies:
            _with_all_copies(found, held_out, frames, everything).refuse_copies()
        seen |= names
        similar |= found.similar
        if held_out.allow_similar:
            similar = {name: like for name, like in similar.items() if name not in known}
            break
        left = _without(frames, similar)
        people = len(left.coco["annotations"])
        if similar and people < FEWEST:
            raise CalibrationError(
                f"{people} crops are left to calibrate on: {len(similar)} of {len(everything)} calibration images "
                f"look like images of the evaluation set: {in_words(similar, 'like')}. At least {FEWEST} are needed, "
                "a dozen are enough: give frames of other moments or recordings (--calib, --calib-images); posert "
                "split makes sets that share nothing. --allow-similar keeps these images; the report shows each pair"
            )
    if not similar:
        return frames
    count, like = f"{len(similar)} of {len(everything)} images", "look like images of the evaluation set"
    note = f"{count} {like} (--allow-similar)" if held_out.allow_similar else f"{count} left out because they {like}"
    log.warning("calibration: %s, such as %s", note, in_words(dict(list(similar.items())[:_SHOWN]), "like"))
    return replace(left, note=f"{frames.note}; {note}")


def _with_all_copies(found: Overlap, held_out: EvaluationImages, frames: Frames, everything: list[str]) -> Overlap:
    """Also those that were not chosen, by the bytes of their files, so that one message names them all."""
    copies = dict(found.copies)
    for name in everything:
        copied = held_out.file(hashlib.sha256(frames.read(name)).hexdigest())
        if copied is not None:
            copies[name] = copied
    return Overlap(copies, found.similar)


def _without(frames: Frames, names: Iterable[str]) -> Frames:
    gone = set(names)
    images = [record for record in frames.coco["images"] if record["file_name"] not in gone]
    kept = {record["id"] for record in images}
    annotations = [a for a in frames.coco["annotations"] if a["image_id"] in kept]
    return replace(frames, coco={**frames.coco, "images": images, "annotations": annotations})
