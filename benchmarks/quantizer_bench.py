"""What the tools of `quantizers` are given, and how their graphs are judged and timed."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import calib
from ..calib.images import crops_from_coco
from ..export.archs import build_arch
from ..export.catalog import Row
from ..export.demo.frames import demo_frames
from ..export.graph.reference import Reference
from ..export.graph.to_onnx import to_onnx, with_crops
from ..export.weights.load import DEMO_NOTE, load_weights
from ..runtime.accuracy.frames import Frames
from ..runtime.accuracy.gate import AccuracyGate, Candidate
from ..runtime.backends import Session, load_backend
from ..runtime.bench.statistics import per_round, ratio
from ..runtime.bench.timing import interleave
from ..runtime.errors import PosertError
from ..runtime.estimator import PoseEstimator
from ..runtime.selection import Selection
from ..runtime.system.environment import versions
from ..runtime.system.files import atomic_write
from .average_precision import part_of
from .child import call, environment
from .script import log

MAX_DROP = 0.002  # of AP: what NNCF's accuracy control is asked to hold
_TIMED_PEOPLE = 8
_FIGURES = ("ap", "ap_drop", "ap_drop_interval", "pixel_drift_median", "pixel_drift_p95", "heatmap_error")


@dataclass(frozen=True)
class Tool:
    """A row of the table.

    Attributes:
        function: of `quantizer_tools.py`.
        arguments: of it, beside the graph, the crops and the target.
        requirements: of its environment; none means that it runs in ours.
        extension: of the format that it writes.
    """

    function: str
    arguments: Mapping[str, Any]
    requirements: tuple[str, ...] = ()
    extension: str = "onnx"


class QuantizerBench:
    """The graph and crops that all tools are given, in files of a folder, and the measurements of their results.

    Args:
        row: of the catalog.
        weights: see `posert.export.weights.load`.
        people: to calibrate on.
        images: synthetic ones to judge on, which are others.
        folder: for files.

    Attributes:
        contract: with DARK as the decode rule.
        people: held out, whom graphs are judged on.
        judgeable, note: whether AP on these says something, and why not.
        load: of the machine before timing.
    """

    def __init__(self, row: Row, weights: str, people: int, images: int, folder: Path) -> None:
        self._folder, self.load = folder, 0.0
        network = build_arch(row.arch, row.keypoints)
        load_weights(row, network, weights)
        self.contract = replace(row.contract(), decode="unbiased")
        reference = Reference(network, self.contract)
        folder.mkdir(parents=True, exist_ok=True)
        self._graph, self._crops = str(folder / "float32.onnx"), str(folder / "crops.npy")
        with atomic_write(self._graph) as file:
            file.write(with_crops(to_onnx(reference), self.contract).SerializeToString())
        frames = demo_frames(row.keypoints, "calib", 400, "synthetic people")
        calibration, validation = (part_of(frames, frames.coco["images"][i : i + 200]) for i in (0, 200))
        crops = crops_from_coco(calibration.coco, calibration.read, self.contract, people)
        with atomic_write(self._crops) as file:
            np.save(file, np.concatenate(list(crops)))
        _write_images(validation, folder / "validation")
        digest = hashlib.sha256(f"{images} {weights}".encode())
        for path in (self._graph, self._crops):
            digest.update(Path(path).read_bytes())
        self._digest = digest.hexdigest()
        held_out = demo_frames(row.keypoints, "val", images, DEMO_NOTE)
        candidate = Candidate("fp32", "pytorch", partial(self._estimator, reference), 0)
        self._gate = AccuracyGate(candidate, held_out, max_drop=MAX_DROP, labelled=True)
        data = self._gate.data
        self.judgeable, self.note, self.people = data["labelled"], data["note"], data["people"]

    def key(self, tool: Tool | None) -> str:
        """Changes when a finished row is no longer valid."""
        seen: list[Any] = [self._digest, tool and asdict(tool)]
        if tool is not None and not tool.requirements:
            seen.append(versions())
        if tool is not None and tool.function == "posert":
            seen += [p.read_text() for p in sorted(Path(str(calib.__file__)).parent.glob("*.py"))]
        return hashlib.sha256(json.dumps(seen).encode()).hexdigest()

    def run(self, name: str, tool: Tool | None, memory_gb: float) -> dict[str, Any]:
        """Quantise and judge: "file", "seconds", "peak_mb", AP and drift against the PyTorch model; or "failed".

        Without a tool it is the float32 graph that is judged.
        """
        row: dict[str, Any] = {"file": self._graph}
        if tool is not None:
            target = self._folder / f"{name.replace(', ', '-').replace(' ', '-')}.{tool.extension}"
            arguments = {"model": self._graph, "crops": self._crops, "target": str(target), **tool.arguments}
            try:
                python = environment("nncf", tool.requirements) if tool.requirements else sys.executable
                function = f"posert.benchmarks.quantizer_tools:{tool.function}"
                answer = call(python, function, arguments, memory_gb=memory_gb)
            except PosertError as error:
                log(f"{name}: {error}")
                return {"failed": str(error)}
            log(f"{name}: {answer.value:.1f} s, {answer.peak_mb:.0f} MB")
            row = {"file": str(target), "seconds": answer.value, "peak_mb": answer.peak_mb}
        judged = self._gate.evaluate(Candidate("int8", name, lambda: self._estimator(_session(row["file"])), 0))[0]
        if judged.reason:
            return {"failed": f"OpenVINO: {judged.reason}"}
        return row | {field: getattr(judged, field) for field in _FIGURES}

    def time(self, files: Mapping[str, str], rounds: int) -> dict[str, dict[str, Any]]:
        """By graph: milliseconds per person, and their ratio to the fastest one's."""
        crops = np.ascontiguousarray(np.load(self._crops)[:_TIMED_PEOPLE])
        self.load = os.getloadavg()[0]
        calls = interleave({name: partial(_session(file).infer, crops) for name, file in files.items()}, rounds)
        times = {name: per_round(one) for name, one in calls.items()}
        # Compared within the rounds, as `ratio` does it: medians over all rounds mix slow and fast moments. The second
        # comparison is of the ratios that will be shown.
        typical = np.exp(np.mean([np.log(seconds) for seconds in times.values()], axis=0))
        fastest = min(times, key=lambda name: float(np.median(times[name] / typical)))
        base = times[fastest]
        fastest = min(times, key=lambda name: float(np.median(times[name] / base)))
        return {
            name: {
                "ms_per_person": 1e3 * float(np.median(seconds)) / len(crops),
                "ratio": asdict(ratio(times[fastest], seconds)),
            }
            for name, seconds in times.items()
        }

    def _estimator(self, session: Session) -> PoseEstimator:
        return PoseEstimator.from_session(self.contract, session, Selection("openvino", "int8", "under test"))


def _session(file: str) -> Session:
    """posert's own session; given a path, OpenVINO reads its own format as well as ONNX."""
    return load_backend("openvino").open(file, "int8")  # type: ignore[arg-type]


def _write_images(frames: Frames, folder: Path) -> None:
    """Annotated images, for a tool that measures AP itself."""
    with atomic_write(folder / "annotations.json") as file:
        file.write(json.dumps(frames.coco).encode())
    for record in frames.coco["images"]:
        with atomic_write(folder / "images" / record["file_name"]) as file:
            file.write(frames.read(record["file_name"]))
