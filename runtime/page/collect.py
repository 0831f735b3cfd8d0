"""Collect what a run's page shows while the frames come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..bundle.contract import Contract
from ..pose.keypoints import Keypoints
from .pictures import Pictures
from .series import Lanes, Series

_LISTED = 200  # failures; the others are counted


@dataclass
class Failure:
    """Frames one after the other that failed for one reason."""

    first: str | int
    last: str | int
    error: str
    index: int  # of the last
    frames: int = 1


@dataclass(frozen=True)
class Figure:
    """A row of figures that was measured elsewhere: its name, what it says, its unit, and values by name."""

    name: str
    meaning: str
    unit: str
    values: Mapping[str, float]


class Collected:
    """What was collected of a run; see `RunPage`."""

    def __init__(
        self,
        contract: Contract,
        title: str,
        facts: Mapping[str, str],
        *,
        fps: float = 0.0,
        threshold: float = 0.3,
        boxes: bool = False,
        program: str = "posert run",
    ) -> None:
        self.contract, self.title, self.facts = contract, title, dict(facts)
        self.fps, self.threshold, self.program = fps, threshold, program
        self.before: list[str] = []
        self.after: list[str] = []
        self.tiles: list[tuple[str, str]] = []
        self.pictures = Pictures(contract, threshold, boxes)
        self.lanes = Lanes()
        self.failures: list[Failure] = []
        self.failed = self.people = 0
        self.figures: list[Figure] = []
        self.joints = len(contract.keypoints)
        # sums: frames with a result, people, failed frames, scores of the joints; maxima: people
        self.series = Series(3 + self.joints, 1)
        self.stages: dict[str, Series] = {}

    @property
    def frames(self) -> int:
        """The number of frames, with those that failed."""
        return self.series.frames

    def add(
        self,
        key: str | int,
        image: NDArray[np.uint8] | None,
        drawn: bool,
        people: Keypoints | None,
        seconds: Mapping[str, float],
        error: str = "",
    ) -> None:
        """Add a frame; the frames come in order.

        Args:
            key: the image's file name, or the frame's number in a video.
            image: the frame `(H, W, 3)` uint8 BGR, which is not changed; None if it could not be read.
            drawn: whether the skeletons are drawn in it already; if not, the page draws them on its pictures.
            people: who is in it; None if it could not be used.
            seconds: the time it took, by stage.
            error: why there are no people, where `people` is None.
        """
        index = self.frames
        numbers = np.zeros(3 + self.joints)
        if people is None:
            numbers[2] = 1
            self.failed += 1
            self._fail(index, key, error)
        else:
            numbers[:2] = 1, len(people)
            numbers[3:] = np.where(np.isfinite(people.score), people.score, 0).sum(axis=0)
            self.people += len(people)
        for stage in seconds:
            if stage not in self.stages:
                self.stages[stage] = self._late()
        for stage, series in self.stages.items():
            series.add([seconds.get(stage, 0.0)], [])
        place = self.series.add(numbers, [0 if people is None else len(people)])
        if people is not None and people.ids is not None:
            self.lanes.add(people.ids.tolist(), place, self.series.length)
        if image is not None:
            self.pictures.add(index, key, image, drawn, people, error)

    def add_figure(self, name: str, meaning: str, unit: str, values: Mapping[str, float]) -> None:
        """Add a row of figures: `add_figure("jitter", "mean acceleration", "px per frame²", {"raw": 1.9})`."""
        self.figures.append(Figure(name, meaning, unit, dict(values)))

    def _fail(self, index: int, key: str | int, error: str) -> None:
        before = self.failures[-1] if self.failures else None
        if before is not None and (before.index, before.error) == (index - 1, error):
            before.last, before.index, before.frames = key, index, before.frames + 1
        elif len(self.failures) < _LISTED:
            self.failures.append(Failure(key, key, error, index))

    def _late(self) -> Series:
        """A series for a stage that was not there before, such as a detector that runs in every third frame."""
        series = Series(1, 0)
        series.skip(self.frames)
        return series
