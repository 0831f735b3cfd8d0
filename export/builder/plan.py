"""What a build is asked to do, and a build under way."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.accuracy.frames import Frames
from ...runtime.accuracy.golden import relative_error
from ...runtime.accuracy.verdict import Parity
from ...runtime.backends import load_backend
from ...runtime.bundle.archive import Artifact, Golden, describe
from ...runtime.bundle.contract import Contract
from ...runtime.errors import InputError
from ...runtime.system.machine import processor, versions
from ...runtime.system.memory import trim_heap
from ...runtime.system.progress import Report
from ..graph.onnx_reference import OnnxReference
from ..graph.reference import Reference
from ..graph.to_onnx import OPSET
from .engine_plan import EnginePlan, Made
from .model import Loaded, Model

PRECISIONS = ("fp32", "fp16", "int8")

_LIBRARIES = {"onnx": "onnxruntime", "torchscript": "torchscript"}


def check_max_drift(value: float | None) -> None:
    """Raise InputError: not a number of pixels."""
    if value is not None and not 0 <= value < math.inf:
        raise InputError(f"--max-drift {value}: expected px of the frame, such as 2 for two pixels")


def check_license(value: str) -> None:
    """Raise InputError: no SPDX identifier, as https://spdx.org/licenses lists them."""
    if value and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", value):
        raise InputError(f"--license {value!r}: expected an SPDX identifier such as Apache-2.0, or LicenseRef-NAME")


@dataclass(frozen=True)
class Plan:
    """What to build.

    Attributes:
        model: the network, its weights and its contract.
        precisions: of `PRECISIONS`; "fp32" is always built, the others come from it.
        output: the bundle to write.
        plain: where to write the plain ONNX graph, whose input is normalised images, or None.
        opset: ONNX operator set.
        max_drop: the largest AP drop that the gate accepts, a fraction.
        max_drift: the largest p95 of the joints' drift that it accepts, px of the frame; None: any.
        dynamic_size: the plain graph takes any height and width.
        held_out: labelled frames for the accuracy gate.
        labelled: whether AP on `held_out` says something about these weights.
        calibration: frames to calibrate on.
        tunable: whether AP on `calibration` says something about these weights.
        scales: file of ranges that `posert calibrate` found, or None to find them.
        allow_similar: whether calibration images that look like one of `held_out` stay; copies never do.
        engines: the TensorRT engines that the build ends in.
        license: of the weights, an SPDX identifier; empty: not known.
    """

    model: Model
    precisions: tuple[str, ...]
    output: Path
    held_out: Frames
    labelled: bool
    calibration: Frames
    plain: Path | None = None
    opset: int = OPSET
    max_drop: float = 0.005
    dynamic_size: bool = False
    tunable: bool = False
    scales: Path | None = None
    max_drift: float | None = None
    allow_similar: bool = False
    engines: EnginePlan = field(default_factory=EnginePlan)
    license: str = ""

    @property
    def on_strangers(self) -> bool:
        """Whether calibration is on synthetic people and the network was trained on other images."""
        return self.calibration.kind == "demo" and self.trained_elsewhere

    @property
    def trained_elsewhere(self) -> bool:
        """Whether the weights are neither the demo's, which were trained on synthetic people, nor random."""
        return self.model.weights not in ("demo", "random")


@dataclass
class Build:
    """The state of a build: each step of `posert.export.builder.pipeline.build_bundle` reads it and adds its results.

    Attributes:
        plan: what was asked.
        report: told of progress.
        folder: where graphs wait until they are packed, and not in memory.
        loaded: the network with its weights.
        golden: a crop and the reference's outputs for it, which every graph is compared with.
        plain: the bytes of the plain ONNX graph, if it was asked for.
        macs: multiply-adds per crop; None where they cannot be counted.
        graphs: the bundle's graphs by name, as `write_bundle` takes them.
        calibration: the manifest's record of the int8 calibration, None without int8.
        suspects: calibration images that look like one of `plan.held_out`, with its name there.
        parity: the result of the accuracy gate.
        engines: those of the plan.
        path: the bundle that was written.
    """

    plan: Plan
    report: Report
    folder: Path
    loaded: Loaded = field(init=False)
    golden: Golden = field(init=False)
    plain: bytes = b""
    macs: int | None = None
    graphs: dict[str, tuple[Artifact, bytes | Path]] = field(default_factory=dict)
    calibration: dict[str, Any] | None = None
    suspects: dict[str, str] = field(default_factory=dict)
    parity: Parity = field(init=False)
    engines: list[Made] = field(default_factory=list)
    path: Path = field(init=False)

    @property
    def reference(self) -> Reference | OnnxReference:
        """What every graph is compared with."""
        return self.loaded.reference

    @property
    def contract(self) -> Contract:
        """What goes into the network and what comes out."""
        return self.reference.contract

    def add_graph(
        self,
        file: Path,
        format: str,
        precision: str,
        opset: int | None = None,
        float_nodes: dict[str, str] | None = None,
    ) -> None:
        """Add a graph file with its error on the golden crop, as the library that owns the format computes it.

        The file's stem is the graph's name; `float_nodes` are the nodes that are not in `precision`, with the reasons.
        """
        data = file.read_bytes()
        session = load_backend(_LIBRARIES[format]).open(data, "int8_gpu" if file.stem == "int8_gpu" else precision)
        error = relative_error(session.infer(self.golden.crops), self.golden.outputs)
        record = describe(data)
        del data, session
        trim_heap()
        artifact = Artifact(
            file.stem,
            format,
            file.name,
            **record,
            precision=precision,
            opset=opset,
            float_nodes=float_nodes or {},
            golden_error=error if np.isfinite(error) else None,  # the gate fails such a graph and says why
        )
        self.graphs[file.stem] = artifact, file

    def meta(self) -> dict[str, Any]:
        """What the report says about the making of the bundle."""
        return {
            "bundle": self.path.name,
            "model": self.loaded.facts["id"],
            "weights": asdict(self.loaded.provenance),
            "versions": versions(),
            "machine": processor(),
            "calibration": self.calibration,
            "suspects": {"kept": self.plan.allow_similar, "pairs": self.suspects} if self.suspects else None,
            **self.loaded.published,
        }
