"""A network on photos: what it sees and finds, and with labels whether its contract is right."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.accuracy.frames import Frames
from ...runtime.accuracy.people import People, all_annotated, labelled_people
from ...runtime.bundle.contract import Contract
from ...runtime.errors import InputError
from ...runtime.metrics.pck import evaluate_pck
from ...runtime.system.progress import Report
from ..graph.onnx_reference import OnnxReference
from ..graph.reference import Reference
from .judgement import Judgement, judge
from .network import Subjects
from .sight import Sight, Twins, look

SHOWN = 8
"""People on a page."""


@dataclass(frozen=True)
class Trial:
    """What a network sees and finds in photos.

    Attributes:
        contract: that was tried.
        people, images: how many there are in the photos; `sights` are some of them.
        note: whose boxes and labels these are.
        sights: people as the network sees them.
        twins: their mirror images, over all of `sights`.
        photos: the frames `(H, W, 3)` uint8 BGR of `sights`, by index, and their names.
        judgement: what labels say, of these photos or of others; None without labels.
    """

    contract: Contract
    people: int
    images: int
    note: str
    sights: tuple[Sight, ...] = field(repr=False)
    twins: Twins
    photos: dict[int, tuple[str, NDArray[np.uint8]]] = field(repr=False)
    judgement: Judgement | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values, without pictures."""
        judged = None if self.judgement is None else self.judgement.to_json()
        counts = {"people": self.people, "images": self.images, "note": self.note}
        return {**counts, "contract": self.contract.to_json(), "twins": vars(self.twins), "judgement": judged}


def try_out(
    reference: Reference | OnnxReference,
    photos: Frames | None,
    labels: Frames | None = None,
    *,
    limit: int | None = None,
    report: Report = lambda what, done, total: None,
) -> Trial:
    """Run a network on the people of some photos; with labels, look for mistakes in its contract.

    Args:
        reference: the network and the contract to try.
        photos: what to show, with boxes alone (`read_photos`). None: some of the labelled people.
        labels: labelled frames, whose labels say something about this network.
        limit: at most this many images of each, spread evenly.
        report: told of progress.

    Raises:
        InputError: there is nobody, the labels are of other joints, or a photo or a box cannot be used.
    """
    judgement, shown, frames = None, None, photos
    if labels is not None:
        labels = _spread(labels.with_joints_of(reference.contract), limit)
        subjects = Subjects(reference, _not_empty(labelled_people(labels.coco), labels), labels.load_index)
        judgement = judge(subjects, report)
        if photos is None:
            frames, shown = labels, _choose(subjects, judgement)
    assert frames is not None, "photos or labels"
    if photos is not None:
        frames = _spread(photos, limit)
        subjects = Subjects(reference, _not_empty(all_annotated(frames.coco), frames), frames.load_index)
    people = subjects.people
    report("pictures", 0, 0)
    sights, twins = look(subjects, np.arange(min(SHOWN, len(people))) if shown is None else shown)
    pictures = {i: (people.files[i], frames.load_index(i)) for i in sorted({s.image for s in sights})}
    counts = len(people), len(np.unique(people.image))
    return Trial(reference.contract, *counts, frames.note, tuple(sights), twins, pictures, judgement)


def _not_empty(people: People, frames: Frames) -> People:
    if not len(people):
        raise InputError(f"{frames.note}: expected people with a box, and with labelled joints where there are labels")
    return people


def _choose(subjects: Subjects, judgement: Judgement) -> NDArray[np.intp]:
    """The labelled people to show: from those that agree best to those that agree least."""
    people = subjects.people
    assert people.joints is not None  # labelled people have joints
    distance = evaluate_pck(people.joints, people.xyxy, people.image, judgement.xy).distance
    order = np.argsort(np.nanmean(distance, axis=1), kind="stable")
    chosen: NDArray[np.intp] = order[np.linspace(0, len(order) - 1, min(SHOWN, len(order))).astype(int)]
    return chosen


def _spread(frames: Frames, limit: int | None) -> Frames:
    """The same with at most so many of its images that have people."""
    with_people = {a["image_id"] for a in frames.coco["annotations"]}
    records = [r for r in frames.coco["images"] if r["id"] in with_people]
    if limit is not None and len(records) > limit:
        records = [records[i] for i in np.linspace(0, len(records) - 1, limit).astype(int)]
    kept = {r["id"] for r in records}
    people = [a for a in frames.coco["annotations"] if a["image_id"] in kept]
    return replace(frames, coco={**frames.coco, "images": records, "annotations": people})
