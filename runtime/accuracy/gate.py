"""The accuracy gate: does a graph on a backend still find the same joints as the PyTorch model?

Every candidate runs on the same frames and boxes through `PoseEstimator`, as it does for a user: crops, decoding and
the mapping back to the frame are part of what is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..bundle.contract import Contract
from ..errors import BackendError, InputError
from ..estimator import PoseEstimator
from ..metrics.oks import OksEvaluation
from ..metrics.pck import PckEvaluation
from ..pose.heads import Outputs
from ..pose.keypoints import Keypoints
from . import drift as drifts
from .decision import FAILED, PASSED, UNDECIDED, bounds, decide
from .estimation import Image, Members, estimate
from .frames import Frames
from .golden import relative_error
from .jitter import Videos
from .people import Float, labelled_people
from .recorder import Recorder
from .scorer import Scorer, paired_interval
from .verdict import PCK, Parity, Row, Worst

HEATMAP_BOUND = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 0.1, "int8": 0.3, "int8_gpu": 0.3}
"""Relative L2 errors of the heatmaps that a precision explains: the bound where there are no labels to judge a graph
by. fp32: the order of sums. fp16: 11 bits through a few hundred layers. bf16: 8 bits, measured at 0.004 to 0.011.
int8: 8 bits, measured at 0.02 to 0.15 on the networks of the catalog, against 1 and more if one layer is wrong."""

NUM_WORST = 6
"""People in `Parity.worst`."""

_HEATMAP_PEOPLE = 64  # whose heatmaps are compared: 64 maps of 17 joints are 200,000 samples each, and 13 MB
_MARGIN = 0.15  # of a person's size, shown around them


@dataclass(frozen=True)
class Candidate:
    """A graph to judge. `open` gives an estimator, which is let go of after its run to bound the memory."""

    precision: str
    backend: str
    open: Callable[[], PoseEstimator]
    size_mb: float
    artifact: str = ""


def judge(
    candidates: Sequence[Candidate],
    frames: Frames,
    *,
    max_drop: float,
    labelled: bool,
    max_drift: float | None = None,
    advance: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Parity:
    """Run every candidate over the frames and compare it with the first one, the reference.

    A candidate that does not run, or gives NaN, has failed; the others are still judged.

    Args:
        candidates: the PyTorch model first.
        frames: what to judge on.
        max_drop: AP, or PCK of joints without sigmas, may fall by this much.
        labelled: whether accuracy on these frames says something about this model. If not, it stays None and the
            verdict is "unproven", or "failed" by the outputs' error or by `max_drift` alone.
        max_drift: 95 % of the joints may move by this much from the reference's, px of the frame, decoded by the
            contract's own rule; None: not judged.
        advance: called with (candidate, frames done, frames in all).

    Raises:
        InputError: no person in the annotations can be judged, a frame or a box cannot be used, or the reference gives
            NaN; the image is named.
    """
    first, *others = candidates
    gate = AccuracyGate(first, frames, max_drop=max_drop, labelled=labelled, max_drift=max_drift, advance=advance)
    rows, moved, worst = [gate.row], {}, []
    for candidate in others:
        row, drift, most = gate.evaluate(candidate)
        rows.append(row)
        if drift is not None:
            moved[row.key] = drift
        worst += most
    verdicts = {row.verdict for row in rows[1:] if row.counts}
    verdict = next((v for v in (FAILED, UNDECIDED) if v in verdicts), PASSED if verdicts == {PASSED} else "unproven")
    worst.sort(key=lambda w: -w.drift)
    return Parity(rows, verdict, max_drop, gate.data, moved, worst[:NUM_WORST], max_drift)


class AccuracyGate:
    """A reference that has run over the frames; candidates are compared with it one by one.

    Arguments and errors as for `judge`.

    Attributes:
        row: the reference's row.
        data: kind, number of images and people, note, whether AP is judged, the decode rule that drift is
            measured with, the DARK rule beside it or None, and what `people` are called: joints of a data set of your
            own may be an animal's.
    """

    def __init__(
        self,
        reference: Candidate,
        frames: Frames,
        *,
        max_drop: float,
        labelled: bool,
        max_drift: float | None = None,
        advance: Callable[[str, int, int], None] = lambda name, done, total: None,
    ) -> None:
        self._frames, self._max_drop, self._max_drift, self._advance = frames, max_drop, max_drift, advance
        self._people = labelled_people(frames.coco)
        if not len(self._people):
            raise InputError(
                f"{len(frames.coco['annotations'])} annotations on {len(frames.coco['images'])} images hold no person "
                "with a labelled joint and a box: expected COCO keypoint annotations (person_keypoints_*.json)"
            )
        assert self._people.joints is not None  # labelled people have joints
        self._joints = self._people.joints
        self._sample = drifts.sample(self._people)
        self._reference = self._run(reference)
        self._scorer = Scorer(frames.coco, self._people, self._reference.contract)
        self._scored = self._score(self._reference) if labelled else None
        self._videos = Videos(frames.coco, self._people)
        note = frames.note
        metric = self._scorer.metric
        if metric == PCK:
            note = f"{note}. The joints have no sigmas, so {PCK} of the box's longer side is judged in place of AP"
        if self._scored is not None and self._scored.metrics[metric] <= max_drop:
            # No graph can lose more than there is, so passing would prove nothing.
            note = f"{note}. The reference's own {metric} here is {self._scored.metrics[metric]:.4f}: nothing to lose"
            self._scored = None
        counts = {"people": len(self._people), "images": len(np.unique(self._people.image))}
        self.data = {
            "kind": frames.kind,
            "note": note,
            **counts,
            "labelled": self._scored is not None,
            "metric": metric,
            "decode": self._reference.contract.decode,
            "dark": None if (dark := drifts.dark(self._reference.contract)) is None else dark.decode,
            "subjects": self._reference.contract.subject[1],
        }
        self.row, _ = self._row(reference, self._reference)

    def evaluate(self, candidate: Candidate) -> tuple[Row, Float | None, list[Worst]]:
        """A candidate's row, its drift `(N, K)` px of the frame, and the people on whom it differs most."""
        try:
            run = self._run(candidate)
        except (BackendError, InputError) as error:  # not the frames' or the boxes' fault: the reference took them
            unmeasured = *(None,) * 3, *(math.nan,) * 4
            c = candidate
            row = Row(c.precision, c.backend, *unmeasured, c.size_mb, "failed", c.artifact, str(error))
            return row, None, []
        row, drift = self._row(candidate, run)
        return row, drift, self._worst(row.key, drift, run)

    def _run(self, candidate: Candidate) -> _Run:
        people, name = self._people, f"{candidate.backend} {candidate.precision}"
        pose = candidate.open()
        recorder = Recorder(pose)
        k = len(pose.contract.keypoints)
        xy, score = np.empty((len(people), k, 2), np.float32), np.empty((len(people), k), np.float32)
        outputs, times, total = [], [], len(np.unique(people.image))
        dark, kept = drifts.dark(pose.contract), 0
        exact = None if dark is None else np.full_like(xy, np.nan)

        def run(frame: Image, members: Members) -> Keypoints:
            return recorder(frame, people.xyxy[members])

        for one in estimate(people, self._frames.load_index, run, warm_up=True, runner=name):
            xy[one.members], score[one.members] = one.result.xy, one.result.score
            if one.image in self._sample and (dark is not None or kept < _HEATMAP_PEOPLE):
                found = recorder.outputs(one.frame, people.xyxy[one.members])
                if dark is not None and exact is not None:
                    exact[one.members] = drifts.joints(found, dark, people, one.members)
                if kept < _HEATMAP_PEOPLE:
                    outputs.append(found)
                    kept += len(one.members)
            times.append(one.ms_per_person)
            self._advance(name, len(times), total)
        joined = tuple(np.concatenate(parts)[:_HEATMAP_PEOPLE] for parts in zip(*outputs, strict=True))
        return _Run(pose.contract, xy, score, exact, joined, float(np.median(times)))

    def _row(self, candidate: Candidate, run: _Run) -> tuple[Row, Float]:
        reference, c = self._reference, candidate
        drift = self._distances(run.xy, reference.xy)
        exact = self._distances(run.dark, reference.dark) if run.dark is not None else None
        moved = drifts.p95(self._people.image, drift)
        error = relative_error(run.outputs, reference.outputs)
        accuracy = drop = interval = loss = None
        if self._scored is not None:
            scored = self._scored if run is reference else self._score(run)
            accuracy = scored.metrics[self._scorer.metric]
            drop, low, high = paired_interval(self._scored, scored)
            interval = (low, high)
            loss = bounds(self._scorer.shares(reference.xy), self._scorer.shares(run.xy), error)
        by_drift = PASSED if self._max_drift is None else moved.verdict(self._max_drift)
        needed: list[int | None] = []
        if run is reference:
            verdict, loss = "reference", None
        elif loss is None or interval is None:
            verdict = "unproven" if error <= HEATMAP_BOUND[c.precision] and by_drift != FAILED else FAILED
        else:
            by_loss = decide(loss, interval, self._max_drop)
            verdict = drifts.worst_of([by_loss, by_drift])
            needed += [loss.people_needed(self._max_drop)] if by_loss == UNDECIDED else []
            if by_drift == UNDECIDED and self._max_drift is not None:
                needed.append(moved.people_needed(self._max_drift))
        measured = accuracy, drop, interval, float(np.nanmedian(drift)), moved.p95, error, run.ms_per_person
        jitter = None if self._scored is None else self._videos.acceleration_error(run.xy)
        row = Row(c.precision, c.backend, *measured, c.size_mb, verdict, c.artifact, acceleration_error=jitter)
        if run is reference:
            return row, drift
        boxes = self._people.xyxy
        row = replace(
            row,
            pixel_drift_p95_bounds=(moved.low, moved.high),
            jumps=drifts.jumped(drift, self._people.regions(run.contract)[1]),
            drift_by_height=drifts.by_height(boxes[:, 3] - boxes[:, 1], drift, exact),
        )
        if exact is not None and np.isfinite(exact).any():
            median, p95 = (float(v) for v in np.nanpercentile(exact, [50, 95]))
            row = replace(row, dark_drift_median=median, dark_drift_p95=p95)
        if loss is None:
            return row, drift
        if verdict == UNDECIDED and None not in needed:
            row = replace(row, people_needed=max(n for n in needed if n is not None))
        return replace(row, loss=loss.point, loss_bounds=(loss.low, loss.high)), drift

    def _distances(self, a: Float, b: Float | None) -> Float:
        """Of the labelled joints `(N, K)`, px of the frame; NaN elsewhere, and where one of them was not found."""
        assert b is not None  # of the same contract
        visible = self._joints[..., 2] > 0
        with np.errstate(invalid="ignore"):
            distance = np.linalg.norm(a - b, axis=2)
        return np.where(visible & np.isfinite(distance), distance, np.nan).astype(np.float32)

    def _score(self, run: _Run) -> OksEvaluation | PckEvaluation:
        return self._scorer.evaluate(run.xy, run.score)

    def _worst(self, key: str, drift: Float, run: _Run) -> list[Worst]:
        """The people whose mean drift, relative to their size, is the largest."""
        people = self._people
        size = (people.xyxy[:, 2:] - people.xyxy[:, :2]).max(axis=1)
        mean = np.nanmean(drift, axis=1)
        found = []
        for i in np.argsort(-(mean / size))[:NUM_WORST]:
            frame = self._frames.load_index(int(people.image[i]))
            x1, y1, x2, y2 = people.xyxy[i]
            margin = _MARGIN * size[i]
            left, top = max(0, int(x1 - margin)), max(0, int(y1 - margin))
            image = frame[top : int(y2 + margin) + 1, left : int(x2 + margin) + 1].copy()
            offset = np.array([left, top], np.float32)
            truth = (self._joints[i].astype(np.float32) - [*offset, 0]).astype(np.float32)
            reference_xy = self._reference.xy[i] - offset
            found.append(Worst(key, image, reference_xy, run.xy[i] - offset, truth, float(mean[i])))
        return found


@dataclass(frozen=True)
class _Run:
    """What one candidate found: joints and scores of N people; of a sample, the joints by DARK (NaN elsewhere), and
    the network's outputs for the first of it."""

    contract: Contract
    xy: Float
    score: Float
    dark: Float | None
    outputs: Outputs
    ms_per_person: float
