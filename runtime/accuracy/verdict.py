"""The result of the accuracy gate: a row per graph, the verdict, and the people on whom graphs differ most."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..metrics.pck import THRESHOLD

AP, PCK = "AP", f"PCK@{THRESHOLD:g}"
"""Figures that a gate judges: AP where the joints have sigmas, else PCK."""


@dataclass(frozen=True)
class HeightDrift:
    """The drift of people of one class of height, px of the frame.

    Attributes:
        below: upper edge of the height of their boxes; None: of the tallest class, which has none.
        people: how many they are.
        p95: 95th percentile of their joints under the contract's own decode rule; None: too few people.
        dark_p95: under DARK; None: too few people, or measured under one rule alone.
    """

    below: int | None
    people: int
    p95: float | None
    dark_p95: float | None


@dataclass(frozen=True)
class Row:
    """One candidate against the PyTorch model.

    Attributes:
        precision, backend: what ran; the first row is the reference, backend "pytorch".
        accuracy: COCO AP (OKS 0.50:0.95), or PCK@0.05 for joints without sigmas, see `Parity.metric`; None without
            labels to judge by.
        accuracy_drop: that of the reference minus this one; `accuracy_drop_interval` is its paired bootstrap 95 %
            interval.
        loss: the same on a figure without steps, which decides, see `decision`; `loss_bounds` are its one-sided 95 %
            bounds.
        people_needed: about how many labelled people would decide an undecided row; None: too many to tell.
        pixel_drift_median, pixel_drift_p95: distance of the joints from the reference's, px of the frame, under the
            contract's own decode rule; `pixel_drift_p95_bounds` are the one-sided 95 % bounds of the latter.
        dark_drift_median, dark_drift_p95: the same under DARK, on a sample; None where the own rule is DARK, or no
            DARK reads these outputs.
        jumps: share of the joints that went to another place, see `drift.JUMP`.
        drift_by_height: of people in classes of the height of their box, the smallest first.
        acceleration_error: jitter, the mean error of the joints' acceleration, px of the frame per frame squared; None
            where the frames are not of labelled videos.
        heatmap_error: relative L2 error of the heatmaps against the reference's.
        ms_per_person: crop, network and decoding, median over frames.
        size_mb: size of the graph.
        verdict: "reference", "passed", "failed", "undecided" where the labelled people are too few to tell, or
            "unproven" without labels.
        artifact: the bundle's graph that ran. Its verdict also counts for backends that could not be judged here.
        reason: why a graph failed that did not run or gave NaN; its figures are NaN.
    """

    precision: str
    backend: str
    accuracy: float | None
    accuracy_drop: float | None
    accuracy_drop_interval: tuple[float, float] | None
    pixel_drift_median: float
    pixel_drift_p95: float
    heatmap_error: float
    ms_per_person: float
    size_mb: float
    verdict: str
    artifact: str = ""
    reason: str = ""
    loss: float | None = None
    loss_bounds: tuple[float, float] | None = None
    people_needed: int | None = None
    pixel_drift_p95_bounds: tuple[float, float] | None = None
    dark_drift_median: float | None = None
    dark_drift_p95: float | None = None
    jumps: float | None = None
    drift_by_height: tuple[HeightDrift, ...] = ()
    acceleration_error: float | None = None

    @property
    def key(self) -> str:
        """Such as "openvino int8"."""
        return f"{self.backend} {self.precision}"

    @property
    def counts(self) -> bool:
        """Whether the bundle's verdict rests on it. bf16 is a way in which some CPUs compute the fp32 graph: where it
        fails it is not used, and the bundle is as good as on other CPUs."""
        return self.precision != "bf16"

    def to_json(self) -> dict[str, Any]:
        """JSON values; None for what was not measured."""
        values = asdict(self)
        for name in ("loss_bounds", "pixel_drift_p95_bounds"):
            if values[name] is not None and not all(map(math.isfinite, values[name])):  # of one image, or few joints
                values[name] = None
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


@dataclass(frozen=True)
class Worst:
    """A person on whom a candidate and the reference differ most; coordinates in px of `image`."""

    key: str
    image: NDArray[np.uint8]
    reference_xy: NDArray[np.float32]
    candidate_xy: NDArray[np.float32]
    truth: NDArray[np.float32] | None
    drift: float


@dataclass(frozen=True)
class Parity:
    """The gate's result.

    Attributes:
        rows: the reference first.
        verdict: "failed" if a row failed, else "undecided" if one is, "passed" if all passed, and "unproven" without
            labels to judge by.
        max_drop: the allowed drop.
        max_drift: the allowed p95 of the drift under the contract's own decode rule, px of the frame; None: not judged.
        data: kind, number of images and people, note, and `metric`, the figure that is judged.
        drift: per row key `(N, K)` float32, px of the frame; NaN where a joint has no label.
        worst: people on whom a candidate differs most from the reference.
    """

    rows: list[Row]
    verdict: str
    max_drop: float
    data: dict[str, Any]
    drift: dict[str, NDArray[np.float32]] = field(repr=False)
    worst: list[Worst] = field(repr=False)
    max_drift: float | None = None

    @property
    def metric(self) -> str:
        """The name of the figure that is judged."""
        return str(self.data.get("metric", AP))
