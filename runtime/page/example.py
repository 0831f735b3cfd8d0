"""One frame of a run, before and after, and the keypoints that were found in it."""

from __future__ import annotations

from html import escape

import numpy as np
from numpy.typing import NDArray

from ..bundle.contract import Contract
from ..pose.keypoints import Keypoints
from .document import section, table
from .pictures import Pictures

_PEOPLE = 3  # of the table


def example(contract: Contract, key: str | int, image: NDArray[np.uint8], people: Keypoints) -> list[str]:
    """Two sections of a page: a frame as it was read and with its people drawn, and their keypoints as a table.

    Args:
        contract: of the network.
        key: the image's file name, or the frame's number in a video.
        image: `(H, W, 3)` uint8 BGR, without drawings; it is not changed.
        people: who was found in it.
    """
    pictures = Pictures(contract, 0.3, boxes=True)
    for index, drawn in enumerate((True, False)):
        pictures.add(index, key, image, drawn, people, "")
    name = f"frame {key}" if isinstance(key, int) else key
    figures = "".join(
        f'<figure><img src="{one.source}" alt="{escape(what)}"><figcaption>{escape(what)}</figcaption></figure>'
        for one, what in zip(
            pictures.all(), (f"{name}, as it was read", "the same, with boxes and joints"), strict=True
        )
    )
    pair = section(
        "Before and after", "A frame in which the joints have high scores.", f'<div class="pair">{figures}</div>'
    )
    return [pair, _joints(people, name)]


def _joints(people: Keypoints, name: str) -> str:
    """The keypoints of the first people, a row per joint."""
    shown = range(min(len(people), _PEOPLE))
    ids = [i if people.ids is None else int(people.ids[i]) for i in shown]
    head = ["joint", *(part for number in ids for part in (f"x, id {number}", "y", "score"))]
    rows = [
        (joint.replace("_", " "), *(f"{v:.{digits}f}" for i in shown for v, digits in _values(people, i, k)))
        for k, joint in enumerate(people.names)
    ]
    note = f"Keypoints.xy, px of {name}, and Keypoints.score."
    if len(people) > _PEOPLE:
        note += f" The first {_PEOPLE} of {len(people)} people; the results hold all."
    return section("Keypoints", note, table(head, rows))


def _values(people: Keypoints, person: int, joint: int) -> tuple[tuple[float, int], ...]:
    x, y = people.xy[person, joint]
    return (float(x), 1), (float(y), 1), (float(people.score[person, joint]), 2)
