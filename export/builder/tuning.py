"""What int8 costs in AP, on labelled people that neither the ranges nor the accuracy gate use.

An accuracy that a choice was made by is too good. So the blocks that stay in float are chosen on these people, and the
gate measures the result once on its own.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ...calib.overlap import EvaluationImages
from ...calib.search import Measurement
from ...runtime.accuracy.frames import Frames
from ...runtime.accuracy.gate import AccuracyGate, Candidate
from ...runtime.backends import Session, installed_backends, load_backend
from ...runtime.bundle.contract import Contract
from ...runtime.estimator import PoseEstimator
from ...runtime.selection import Selection
from ...runtime.system.progress import Report
from .apart import apart

MIN_PEOPLE_FOR_AP = 20
"""On fewer people accuracy does not resolve what int8 costs, and nothing is searched."""

PEOPLE = 128  # at most: twice as many would narrow the interval by a third, and cost twice the time in every build
FEWEST = 8  # people that ranges may rest on; fewer show too little of what activations can be
_ROUNDS = 15


InCalibrationSet = Callable[[Mapping[str, Any]], bool]
"""Whether the ranges rest on an annotation, which has its image's `file_name` in it."""


def tuning_frames(frames: Frames, in_calibration_set: InCalibrationSet, held_out: EvaluationImages) -> Frames | str:
    """The labelled people of the calibration frames that the ranges do not rest on, at most `PEOPLE`.

    Where there are too few of them: the reason, as text. Images that look like one of the gate's, `held_out`, are left
    out. Raises CalibrationError if one of the gate's images is among them.
    """

    def names(frames: Frames) -> list[str]:
        chosen = _chosen(frames, in_calibration_set)
        return [] if isinstance(chosen, str) else [record["file_name"] for record in chosen.coco["images"]]

    return _chosen(apart(frames, held_out, names), in_calibration_set)


def _chosen(frames: Frames, in_calibration_set: InCalibrationSet) -> Frames | str:
    names = {record["id"]: record["file_name"] for record in frames.coco["images"]}
    free: dict[Any, list[dict[str, Any]]] = {}
    for a in frames.labelled():
        if not in_calibration_set({**a, "file_name": names[a["image_id"]]}):
            free.setdefault(a["image_id"], []).append(a)
    count = sum(map(len, free.values()))
    if count < MIN_PEOPLE_FOR_AP:
        given = len(frames.labelled())
        return (
            f"the calibration set has {given} labelled instances, of which the ranges rest on {given - count}; "
            f"{count} are left to tune on, and accuracy needs {MIN_PEOPLE_FOR_AP}. With {MIN_PEOPLE_FOR_AP + FEWEST} "
            "labelled instances or more in --calib some are kept for that (not those in --calib-cache)"
        )
    records = [record for record in frames.coco["images"] if record["id"] in free]
    wanted = max(1, round(len(records) * PEOPLE / max(count, PEOPLE)))
    records = [records[i] for i in np.linspace(0, len(records) - 1, wanted).astype(int)]
    kept = [a for record in records for a in free[record["id"]]]
    return replace(frames, coco={**frames.coco, "images": records, "annotations": kept})


def calibration_sample_size(frames: Frames, wanted: int) -> int:
    """How many people to calibrate on: of a small set at most half, and so few that AP can be measured on the others.

    Below `MIN_PEOPLE_FOR_AP + FEWEST` labelled people all are calibrated on, as many as are wanted.
    """
    labelled = len(frames.labelled())
    if labelled < MIN_PEOPLE_FOR_AP + FEWEST:
        return wanted
    return min(wanted, labelled // 2, labelled - MIN_PEOPLE_FOR_AP)


class Tuner:
    """AP and time of int8 graphs against the float32 graph `fp32`.

    Attributes:
        gate: has judged the float32 graph on the people to tune on.
        backends: the backend that measures each int8 graph.
        fp32_ms: time of the float32 graph for one person.
    """

    def __init__(self, fp32: bytes, contract: Contract, frames: Frames, max_drop: float, report: Report) -> None:
        self.contract = contract
        # The backend that `auto` would take for each graph on a CPU. ONNX Runtime has both under the artifact's own
        # name; engines of a GPU take minutes to build for each step.
        specs = installed_backends()
        self.backends = {
            artifact: next(n for n, spec in specs.items() if spec.runnable().get(artifact) == artifact)
            for artifact in ("int8", "int8_gpu")
        }
        main = self.backends["int8"]
        self._what = "int8: float32 on what is tuned on"
        self.gate = AccuracyGate(
            self._candidate("fp32", main, fp32),
            frames,
            max_drop=max_drop,
            labelled=True,
            advance=lambda name, done, total: report(self._what, done, total),
        )
        self._crop = np.full((1, contract.height, contract.width, 3), 127, np.uint8)
        self._float = load_backend(main).open(fp32, "fp32")
        self._float.infer(self._crop)
        self.fp32_ms = 1e3 * statistics.median(self._seconds(self._float) for _ in range(_ROUNDS))

    def measure(self, variants: Mapping[str, bytes], what: str) -> Measurement:
        """The larger loss and the larger drift of the graphs "int8" and "int8_gpu", and the time of the former.

        `what` is reported.
        """
        self._what = what
        rows = [self.gate.evaluate(self._candidate(n, self.backends[n], data))[0] for n, data in variants.items()]
        worst = max(rows, key=lambda row: math.inf if row.loss is None else row.loss)
        if worst.loss is None:  # its output is NaN, or a backend refused it
            return Measurement(math.inf)
        # Timed in turn with the float32 graph: a machine that slows down slows both.
        session = load_backend(self.backends["int8"]).open(variants["int8"], "int8")
        session.infer(self._crop)
        pairs = [(self._seconds(session), self._seconds(self._float)) for _ in range(_ROUNDS)]
        ratio = statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)
        far = max(rows, key=lambda row: row.pixel_drift_p95)
        moved = far.pixel_drift_p95, far.pixel_drift_p95_bounds
        return Measurement(worst.loss, worst.loss_bounds, self.fp32_ms * ratio, *moved)

    def _seconds(self, session: Session) -> float:
        start = time.perf_counter()
        session.infer(self._crop)
        return time.perf_counter() - start

    def _candidate(self, artifact: str, backend: str, data: bytes) -> Candidate:
        session = partial(load_backend(backend).open, data, artifact)
        return candidate(self.contract, backend, artifact, session, len(data), artifact)


def candidate(
    contract: Contract, backend: str, precision: str, session: Callable[[], Session], size: int, artifact: str = ""
) -> Candidate:
    """A graph of `size` bytes for the gate, which opens its session."""

    def estimator() -> PoseEstimator:
        return PoseEstimator.from_session(contract, session(), Selection(backend, precision, "under test"))

    return Candidate(precision, backend, estimator, size / 1e6, artifact)
