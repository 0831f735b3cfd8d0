"""What a build is asked to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...runtime.accuracy.frames import Frames
from ..catalog import Row
from ..graph.to_onnx import OPSET

PRECISIONS = ("fp32", "fp16", "int8")

Report = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""


@dataclass(frozen=True)
class Plan:
    """What to build.

    Attributes:
        row: the model's catalog row.
        weights: "auto", "demo", "random" or a file.
        precisions: of `PRECISIONS`; "fp32" is always built, the others come from it.
        output: the bundle to write.
        plain: where to write the plain ONNX graph, whose input is normalised images, or None.
        opset: ONNX operator set.
        max_drop: the largest AP drop that the gate accepts, a fraction.
        stages: stop a network of several stages after this one; None runs them all.
        dynamic_size: the plain graph takes any height and width.
        held_out: labelled frames for the accuracy gate.
        labelled: whether AP on `held_out` says something about these weights.
        calibration: frames to calibrate on.
        tunable: whether AP on `calibration` says something about these weights.
        scales: file of ranges that `posert calibrate` found, or None to find them.
    """

    row: Row
    weights: str
    precisions: tuple[str, ...]
    output: Path
    held_out: Frames
    labelled: bool
    calibration: Frames
    plain: Path | None = None
    opset: int = OPSET
    max_drop: float = 0.005
    stages: int | None = None
    dynamic_size: bool = False
    tunable: bool = False
    scales: Path | None = None
