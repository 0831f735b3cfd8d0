"""A search for mistakes in a contract: one round compares every alternative with the contract as it is by then."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.bundle.contract import Contract
from ...runtime.metrics.pck import evaluate_pck
from ...runtime.pose.heads import Outputs, head
from ...runtime.system.progress import Report
from .agreement import FAR, Change, agreement, gain, mean_of_people
from .alternatives import (
    Alternative,
    Joints,
    best_order,
    exchanged,
    lines,
    of_flip_test,
    of_input,
    of_outputs,
    reordered,
)
from .network import Float, Subjects, turned_back

_WORTH = 0.05  # of the mean distance: less is not worth a change
_SHIFT = 0.2  # cells: by so much another decode rule has to mend the joints' common shift


class Search:
    """The contract that is compared with, its joints and its labels; changes are taken over one by one."""

    def __init__(self, subjects: Subjects, report: Report) -> None:
        people = subjects.people
        assert people.joints is not None, "whoever judges has labels"
        self._subjects, self._report = subjects, report
        self._labels: Joints = people.joints
        self.contract = subjects.contract
        self._outputs = self._run(self.contract)
        self.xy = subjects.joints(self.contract, self._outputs)[0]

    def _run(self, contract: Contract, mirrored: bool = False) -> Outputs:
        step = "people by the contract" if contract == self._subjects.contract else "people by others"
        crops = self._subjects.crops(contract)
        return self._subjects.outputs(contract, crops, mirrored, lambda done, total: self._report(step, done, total))

    def take(self, alternative: Alternative) -> None:
        """Go on from an alternative."""
        before, self.contract = self.contract, alternative.contract
        if alternative.order:
            self._labels = self._labels[:, list(alternative.order)]
        elif alternative.kind != "flip test":
            if _input_of(before) != _input_of(self.contract):
                self._outputs = self._run(self.contract)
            self.xy = self._subjects.joints(self.contract, self._outputs)[0]

    def distance(self, xy: Float, labels: Joints | None = None) -> Joints:
        """`(N, K)`, of the box's longer side; NaN without a label."""
        people = self._subjects.people
        labels = self._labels if labels is None else labels
        return np.minimum(evaluate_pck(labels, people.xyxy, people.image, xy).distance, FAR)

    def round(self) -> list[tuple[Change, Alternative]]:
        """Every alternative of a single picture against the present contract."""
        c, s = self.contract, self._subjects
        xys: list[tuple[Alternative, Float, Joints]] = []
        for alternative in of_outputs(c):
            xys.append((alternative, s.joints(alternative.contract, self._outputs)[0], self._labels))
        by_input = sorted(of_input(c), key=lambda a: str(_input_of(a.contract)))
        for _, same in groupby(by_input, key=lambda a: _input_of(a.contract)):
            alternatives = list(same)
            outputs = self._run(alternatives[0].contract)
            xys += [(a, s.joints(a.contract, outputs)[0], self._labels) for a in alternatives]
        xys += [(a, self.xy, labels) for a, labels in self._orders()]
        return self._compared(self.xy, xys)

    def flip_round(self) -> list[tuple[Change, Alternative]]:
        """What a flip test might do otherwise."""
        c, s = self.contract, self._subjects
        mirrored = self._run(c, mirrored=True)
        both = tuple(np.concatenate(pair) for pair in zip(self._outputs, mirrored, strict=True))

        def merged(contract: Contract) -> Float:
            return s.joints(contract, head(contract.decode).merge(both, contract))[0]

        found = [(a, merged(a.contract), self._labels) for a in of_flip_test(c, self._mirror_pairs(mirrored))]
        # Where the network knows no mirror images (a camera that sees an animal from one side), no pairs make a flip
        # test useful: what improves a useless one is no mistake of the contract.
        useful = (1 + _WORTH) * agreement(self.distance(self.xy)).distance
        return self._compared(merged(c), found, useful)

    def _orders(self) -> Iterable[tuple[Alternative, Joints]]:
        """Other orders of the joints, each with the labels that the channels are then compared with."""
        c, image = self.contract, self._subjects.people.image
        swapped = exchanged(c)
        if swapped is not None:
            yield swapped, self._labels[:, list(swapped.order)]
        every = best_order(self._between(np.ones(len(image), bool)))
        known = np.flatnonzero((self._labels[..., 2] > 0).any(axis=0))
        for other in (tuple(range(len(every))), swapped.order if swapped else every[:0]):
            if other and np.array_equal(np.array(every)[known], np.array(other)[known]):
                return
        # An order that was chosen on the people it is judged on would look better than it is: each half of the images
        # is judged with the order of the other half.
        labels = self._labels.copy()
        halves = image % 2 == 0
        for half in (halves, ~halves):
            labels[half] = self._labels[half][:, list(best_order(self._between(~half)))]
        yield Alternative("joints", "the joints come in another order", reordered(c, every), every), labels

    def _between(self, chosen: NDArray[np.bool_]) -> Joints:
        """Mean distance of each channel's joint from each label `(channels, labels)` over some people."""
        joints = self._labels.shape[1]
        columns = []
        for label in range(joints):
            one = np.repeat(self._labels[:, label : label + 1], joints, axis=1)
            columns.append(mean_of_people(self.distance(self.xy, one)[chosen]))
        return np.stack(columns, axis=1)

    def _mirror_pairs(self, mirrored: Outputs) -> list[tuple[int, int]]:
        """The pairs of joints that take each other's place in mirror images, by their distance; needs no labels."""
        c = self.contract
        twin = self._subjects.joints(c, turned_back(mirrored, replace(c, flip_pairs=())))[0]
        size = (self._subjects.people.xyxy[:, 2:] - self._subjects.people.xyxy[:, :2]).max(axis=1)
        gaps = np.linalg.norm(self.xy[:, :, None] - twin[:, None], axis=3) / size[:, None, None]
        cost = np.minimum(gaps, FAR).mean(axis=0)
        index = list(c.flip_index)  # joints that lie close together keep the pairs of the contract
        order = [index[k] for k in best_order(cost[:, index])]
        return [(j, k) for j, k in enumerate(order) if j < k and order[k] == j]

    def _compared(
        self, own: Float, xys: list[tuple[Alternative, Float, Joints]], most: float = np.inf
    ) -> list[tuple[Change, Alternative]]:
        """Alternatives with their joints and labels against joints; what is farther than `most` is not named."""
        before = self.distance(own)
        confidence = 1 - 0.05 / max(1, len(xys))  # for all of them together (Bonferroni)
        shift = self._shift(own)
        found = []
        for alternative, xy, labels in xys:
            after = self.distance(xy, labels)
            gained, *interval = gain(before, after, self._subjects.people.image, confidence)
            was, now = agreement(before), agreement(after)
            real = interval[0] > 0 and gained >= _WORTH * was.distance and now.distance <= most
            finer = alternative.kind == "decoding" and shift - self._shift(xy) < _SHIFT
            change = Change(
                alternative.kind,
                alternative.words,
                lines(self.contract, alternative.contract),
                was,
                now,
                gained,
                (interval[0], interval[1]),
                named=real and not finer,
                finer=real and finer,
            )
            found.append((change, alternative))
        return found

    def _shift(self, xy: Float) -> float:
        """How far all joints together lie beside their labels, cells of the map."""
        c = self.contract
        cell = self._subjects.people.regions(c)[1] / (c.heatmap_width, c.heatmap_height)
        offset = (xy - self._labels[..., :2]) / cell[:, None]
        seen = self._labels[..., 2] > 0
        return float(np.linalg.norm(np.median(offset[seen], axis=0)))


def _input_of(c: Contract) -> tuple[Any, ...]:
    """What of a contract changes the crop that the network sees."""
    return c.model_color, c.mean, c.std, c.enlarge, c.padding, c.udp
