"""What the contenders of `quantizers` are given, and what their graphs are measured with."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ... import calib
from ...calib.images import crops_from_coco
from ...export.archs import build_arch
from ...export.catalog import Row
from ...export.demo.frames import demo_frames
from ...export.graph.reference import Reference
from ...export.graph.to_onnx import to_onnx, with_crops
from ...export.weights.load import DEMO_NOTE, load_weights
from ...runtime.accuracy.frames import Frames
from ...runtime.accuracy.gate import AccuracyGate, Candidate
from ...runtime.backends import Session, load_backend
from ...runtime.bench.paired import interleave, per_round, ratio
from ...runtime.bundle.contract import Contract
from ...runtime.errors import InputError, PosertError
from ...runtime.estimator import PoseEstimator
from ...runtime.pose.preprocess import check_boxes, crop, crop_matrices, crop_regions
from ...runtime.selection import Choice
from ...runtime.system.environment import versions
from ...runtime.system.files import atomic_write
from .environments import call, environment

MAX_DROP = 0.002  # of AP: what NNCF's accuracy control is asked to hold
_TIMED_PEOPLE = 8
_FIGURES = ("ap", "ap_drop", "ap_drop_interval", "pixel_drift_median", "pixel_drift_p95", "heatmap_error")


@dataclass(frozen=True)
class Tool:
    """A row of the table.

    Attributes:
        function: of `quantize.py`.
        arguments: of it, beside the graph, the crops and the target.
        requirements: of its environment; none means that it runs in ours.
        extension: of the format that it writes.
    """

    function: str
    arguments: Mapping[str, Any]
    requirements: tuple[str, ...] = ()
    extension: str = "onnx"


class Bench:
    """What all tools are given, in files of a folder, and what their graphs are measured with.

    Joints are decoded with DARK, whatever the model's own rule: the quarter offset moves in steps of a quarter of a
    cell, which hides most of what there is to see.
    """

    def __init__(self, row: Row, weights: str, people: int, folder: Path) -> None:
        self.row, self.folder = row, folder
        network = build_arch(row.arch, row.keypoints)
        load_weights(row, network, weights)
        self.contract = replace(row.contract(), decode="unbiased")
        self.reference = Reference(network, self.contract)
        folder.mkdir(parents=True, exist_ok=True)
        self.graph, self.crops = str(folder / "float32.onnx"), str(folder / "crops.npy")
        with atomic_write(self.graph) as file:
            file.write(with_crops(to_onnx(self.reference), self.contract).SerializeToString())
        frames = demo_frames(row.keypoints, "calib", 400, "synthetic people")
        calibration, validation = _part(frames, slice(0, 200)), _part(frames, slice(200, 400))
        crops = crops_from_coco(calibration.coco, calibration.read, self.contract, people)
        with atomic_write(self.crops) as file:
            np.save(file, np.concatenate(list(crops)))
        _write_validation(validation, self.contract, folder / "validation")
        digest = hashlib.sha256(Path(self.graph).read_bytes())
        digest.update(Path(self.crops).read_bytes())
        self.digest = digest.hexdigest()

    def key(self, tool: Tool | None) -> str:
        """Tells whether a kept row is still this tool's."""
        seen: list[Any] = [self.digest, tool and asdict(tool)]
        if tool is not None and not tool.requirements:
            seen.append(versions())
        if tool is not None and tool.function == "posert":
            seen += [p.read_text() for p in sorted(Path(str(calib.__file__)).parent.glob("*.py"))]
        return hashlib.sha256(json.dumps(seen).encode()).hexdigest()

    def quantize(self, name: str, tool: Tool, memory_gb: float) -> dict[str, Any]:
        """Run a tool; a tool that is not there or fails gives a row that says so."""
        target = self.folder / f"{name.replace(', ', '-').replace(' ', '-')}.{tool.extension}"
        arguments = {"model": self.graph, "crops": self.crops, "target": str(target), **tool.arguments}
        try:
            python = environment("nncf", tool.requirements) if tool.requirements else sys.executable
            answer = call(python, f"posert.benchmarks.harness.quantize:{tool.function}", arguments, memory_gb=memory_gb)
        except PosertError as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            return {"failed": str(error)}
        print(f"{name}: {answer.value:.1f} s, {answer.peak_mb:.0f} MB", file=sys.stderr, flush=True)
        return {"file": str(target), "seconds": answer.value, "peak_mb": answer.peak_mb}

    def judge(self, files: Mapping[str, str], images: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Name, AP and drift of each graph against the PyTorch model, one after the other."""

        def estimator(session: Session) -> PoseEstimator:
            return PoseEstimator.from_session(self.contract, session, Choice("openvino", "int8", "under test"))

        def compiled(file: str) -> PoseEstimator:
            return estimator(_session(file))

        held_out = demo_frames(self.row.keypoints, "val", images, DEMO_NOTE)
        reference = Candidate("fp32", "pytorch", partial(estimator, self.reference), 0)
        gate = AccuracyGate(reference, held_out, max_drop=MAX_DROP, labelled=True)
        if not gate.data["labelled"]:
            raise InputError(f"--images {images}: {gate.data['note']}")
        for name, file in files.items():
            row = gate.evaluate(Candidate("int8", name, partial(compiled, file), 0))[0]
            figures = {"people": gate.data["people"], **{field: getattr(row, field) for field in _FIGURES}}
            yield name, {"failed": f"OpenVINO: {row.reason}"} if row.reason else figures

    def time(self, files: Mapping[str, str], rows: dict[str, Any], rounds: int) -> dict[str, Any]:
        """Milliseconds per person of each graph, and its time as a ratio to the fastest one's; written into `rows`."""
        crops = np.ascontiguousarray(np.load(self.crops)[:_TIMED_PEOPLE])
        load = os.getloadavg()[0]
        seen = interleave({name: partial(_session(file).infer, crops) for name, file in files.items()}, rounds)
        times = {name: per_round(calls) for name, calls in seen.items()}
        # Compared within the rounds, as `ratio` does it: medians over all rounds mix slow and fast moments. The second
        # look is at the ratios that will be shown.
        usual = np.exp(np.mean([np.log(seconds) for seconds in times.values()], axis=0))
        fastest = min(times, key=lambda name: float(np.median(times[name] / usual)))
        base = times[fastest]
        fastest = min(times, key=lambda name: float(np.median(times[name] / base)))
        for name, seconds in times.items():
            rows[name] |= {
                "ms_per_person": 1e3 * float(np.median(seconds)) / len(crops),
                "ratio": asdict(ratio(times[fastest], seconds)),
            }
        return {"fastest": fastest, "timed_people": len(crops), "load_before_timing": load}


def _session(file: str) -> Session:
    """The product's own session: OpenVINO reads its own format as it reads ONNX, where it is told a path."""
    return load_backend("openvino").open(file, "int8")  # type: ignore[arg-type]


def _part(frames: Frames, images: slice) -> Frames:
    records = frames.coco["images"][images]
    kept = {r["id"] for r in records}
    annotations = [a for a in frames.coco["annotations"] if a["image_id"] in kept]
    return replace(frames, coco={**frames.coco, "images": records, "annotations": annotations})


def _write_validation(frames: Frames, contract: Contract, folder: Path) -> None:
    """Crops and labels of everyone on the frames, for a tool that wants to measure AP itself."""
    c = contract
    annotations = [a for a in frames.coco["annotations"] if a["num_keypoints"]]
    boxes = np.array([a["bbox"] for a in annotations])
    boxes[:, 2:] += boxes[:, :2]
    center, extent = crop_regions(check_boxes(boxes), c)
    matrices = crop_matrices(center, extent, c.width, c.height, c.udp)
    records = {r["id"]: r for r in frames.coco["images"]}
    crops = np.empty((len(annotations), c.height, c.width, 3), np.uint8)
    for i, a in enumerate(annotations):
        crop(frames.load(records[a["image_id"]]), matrices[i : i + 1], c.width, c.height, out=crops[i : i + 1])
    labels = {
        "contract": contract.to_json(),
        "annotations": annotations,
        "center": center.tolist(),
        "extent": extent.tolist(),
    }
    with atomic_write(folder / "crops.npy") as file:
        np.save(file, crops)
    with atomic_write(folder / "labels.json") as file:
        file.write(json.dumps(labels).encode())
