"""Images that belong on one side of a split: of one camera, of one video, or of people who look alike."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ...calib.looks import ALIKE, Facts, Hash, Picture, bits_apart, image_facts, stack
from ...calib.overlap import ALIKE_IN_TIME
from ...runtime.accuracy.frames import Frames
from ...runtime.system.progress import Report

FEWEST = 3
"""Videos or cameras that a split by them needs: one for each side."""


@dataclass(frozen=True)
class Group:
    """Images that stay together: their names, and why."""

    names: tuple[str, ...]
    why: tuple[str, ...]


@dataclass(frozen=True)
class Groups:
    """Every image is in one group. `notes`: what the groups do not keep apart, and why."""

    groups: tuple[Group, ...]
    notes: tuple[str, ...]


def find_groups(frames: Frames, report: Report) -> Groups:
    """Group images by the camera and the video of their records or names, and by people who look alike.

    Videos or cameras that are fewer than `FEWEST` cannot be kept apart; a note says so.
    """
    facts = image_facts(frames.coco)
    sets = _Sets(facts)
    videos = {name: f.moment.video for name, f in facts.items() if f.moment is not None}
    cameras = {name: f.camera for name, f in facts.items() if f.camera}
    notes = [note for kind, found in (("camera", cameras), ("video", videos)) if (note := _join(sets, kind, found))]
    _join_lookalikes(sets, frames, facts, report)
    return Groups(sets.groups(), tuple(notes))


class _Sets:
    """Disjoint sets of names, joined step by step."""

    def __init__(self, names: Iterable[str]) -> None:
        self._parent = {name: name for name in names}
        self._why: dict[str, list[str]] = defaultdict(list)

    def find(self, name: str) -> str:
        while self._parent[name] != name:
            self._parent[name] = name = self._parent[self._parent[name]]
        return name

    def join(self, a: str, b: str, why: str) -> None:
        first, second = self.find(a), self.find(b)
        if first != second:
            self._parent[second] = first
            self._why[first] += self._why.pop(second, [])
        if why not in self._why[first]:
            self._why[first].append(why)

    def groups(self) -> tuple[Group, ...]:
        members: dict[str, list[str]] = defaultdict(list)
        for name in self._parent:
            members[self.find(name)].append(name)
        return tuple(Group(tuple(names), tuple(self._why.get(root, ()))) for root, names in members.items())


def _join(sets: _Sets, kind: str, found: Mapping[str, str]) -> str:
    """Join the images of each video or camera; a note where there are too few."""
    distinct = sorted(set(found.values()))
    if not distinct:
        return f"neither records nor names tell of a {kind}"
    if len(distinct) < FEWEST:
        return (
            f"by their records or names all images are of {len(distinct)} {kind}{'s' * (len(distinct) != 1)} "
            f"({', '.join(distinct)}), which {FEWEST} sets cannot share out: the test set says nothing about others"
        )
    first: dict[str, str] = {}
    for name, value in found.items():
        if value in first:
            sets.join(first[value], name, f"{kind} {value}")
        first.setdefault(value, name)
    return ""


def _join_lookalikes(sets: _Sets, frames: Frames, facts: Mapping[str, Facts], report: Report) -> None:
    owners: list[str] = []
    hashes: list[Hash] = []
    same: dict[str, str] = {}
    for done, (name, known) in enumerate(facts.items(), 1):
        data = frames.read(name)
        digest = hashlib.sha256(data).hexdigest()
        if digest in same:
            sets.join(same[digest], name, f"{same[digest]} and {name} are the same file")
        same.setdefault(digest, name)
        for one, _ in Picture(data).people(known.boxes):
            owners.append(name)
            hashes.append(one)
        report("looks", done, len(facts))
    people = stack(hashes)
    for i, one in enumerate(hashes):
        bits = bits_apart(people[:i], one)
        for j in np.flatnonzero(bits <= ALIKE_IN_TIME).tolist():
            a, b = owners[j], owners[i]
            moment = facts[a].moment
            near = moment is not None and moment.near(facts[b].moment)
            if a != b and (bits[j] <= ALIKE or near):
                sets.join(a, b, f"{a} and {b} look alike")
