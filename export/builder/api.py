"""`posert.export.build`: a network that is in memory, or an ONNX file, to a checked bundle."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from torch import nn

from ...runtime.accuracy.frames import read_frames
from ...runtime.bundle.contract import Contract
from ...runtime.errors import InputError
from ...runtime.system.files import check_writable
from ...runtime.system.progress import Report
from ..demo.frames import demo_frames
from ..graph.to_onnx import OPSET, check_opset
from .model import OnnxModel, OwnModel
from .pipeline import build_bundle
from .plan import PRECISIONS, Build, Plan, check_license, check_max_drift

File = str | os.PathLike[str]
Labels = tuple[File, File]

CALIBRATION_IMAGES = 100
UNLABELLED_IMAGES = 8
"""Synthetic images that stand in where none are given: to calibrate on, and to compare outputs on."""
UNPROVEN = "AP is unproven without labelled images: add annotations and their images"


def build(
    network: nn.Module | File,
    contract: Contract,
    *,
    output: File,
    name: str = "network",
    precision: Sequence[str] = ("fp32",),
    labels: Labels | None = None,
    calib: Labels | Literal["demo"] | None = None,
    max_drop: float = 0.005,
    max_drift: float | None = None,
    opset: int = OPSET,
    allow_similar: bool = False,
    license: str = "",
    report: Report = lambda what, done, total: None,
) -> Build:
    """Make graphs of a network, judge them against it, and write the bundle: `posert build` from Python.

    Args:
        network: maps normalised images `(N, 3, H, W)` float32, in the contract's colour order, to what its decode rule
            reads: maps `(N, K, h, w)`, or a tuple of two vectors (SimCC). It has its weights. Or the path of an ONNX
            file.
        contract: what the network expects and what its output means, see `Contract` and `Contract.from_file`.
        output: the bundle to write.
        name: of the network, in the bundle's name and manifest; of an ONNX file it is the file's.
        precision: of "fp32", "fp16" and "int8"; fp32 is always made.
        labels: annotation file (COCO keypoints, or a CSV of DeepLabCut or Lightning Pose) and folder of its images, to
            judge accuracy on. None: only outputs are compared, on synthetic people.
        calib: training images to calibrate int8 on, in the same form; a dozen are enough. "demo": synthetic people,
            with whose ranges the joints drift more. int8 needs one of the two.
        max_drop: AP, or PCK of joints without sigmas, that a graph may lose.
        max_drift: px of the frame by which 95 % of a graph's joints may move; None: any.
        opset: ONNX operator set.
        allow_similar: whether images of `calib` stay that look like one of `labels`. They are left out otherwise, and
            copies are refused.
        license: of the weights, an SPDX identifier such as "Apache-2.0"; empty: not known. `posert card` states it.
        report: called with (step, items done, items in all).

    Returns:
        `path` of the bundle, and `parity`, the gate's result with its `verdict` and `rows`.

    Raises:
        PosertError: the network does not fit the contract, a file cannot be used, or a step failed. Nothing has been
            written then.
    """
    unknown = sorted(set(precision) - set(PRECISIONS))
    if unknown or isinstance(precision, str):
        raise InputError(f"precision {precision!r}: expected a list of {', '.join(PRECISIONS)}")
    if "int8" in precision and calib is None:
        raise InputError(
            "int8 needs images of yours to calibrate on: calib=(annotations, images), a dozen frames are enough. "
            'calib="demo" takes synthetic people in their place; the joints drift more then'
        )
    check_opset(opset)
    check_max_drift(max_drift)
    check_license(license)
    check_writable(Path(output))
    joints = len(contract.keypoints)
    model: OwnModel | OnnxModel
    if isinstance(network, nn.Module):
        given = network
        model = OwnModel(lambda: given, contract, name)
    else:
        model = OnnxModel(Path(network), contract, opset)
    stand_in = demo_frames(joints, "val", UNLABELLED_IMAGES, UNPROVEN)
    to_calibrate = demo_frames(joints, "calib", CALIBRATION_IMAGES, "synthetic people")
    plan = Plan(
        model=model,
        precisions=tuple(p for p in PRECISIONS if p == "fp32" or p in precision),
        output=Path(output),
        held_out=stand_in if labels is None else read_frames(*labels),
        labelled=labels is not None,
        calibration=to_calibrate if calib is None or calib == "demo" else read_frames(*calib),
        opset=opset,
        max_drop=max_drop,
        tunable=calib is not None and calib != "demo",
        allow_similar=allow_similar,
        max_drift=max_drift,
        license=license,
    )
    return build_bundle(plan, report)
