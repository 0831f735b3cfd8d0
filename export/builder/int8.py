"""The int8 graphs of a bundle: ranges, what must stay in float to hold AP, and the variants for CPUs and for GPUs."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import asdict
from functools import cache, partial
from itertools import count, islice
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ...calib.cache import read_cache
from ...calib.calibrated import Calibrated, calibrate
from ...calib.images import CalibrationSet
from ...calib.looks import Picture, different
from ...calib.overlap import EvaluationImages
from ...calib.placement import REQUESTED, Placement
from ...calib.qdq import quantize
from ...calib.search import Measurement, SearchResult, Step, find_float_blocks
from ...calib.sensitivity import Block, block_sensitivity
from ...runtime.accuracy.frames import Frames
from ...runtime.bundle.contract import Contract
from ...runtime.errors import InputError
from ...runtime.system.memory import trim_heap
from ..report.int8_words import int8_verdict
from .plan import Build, Plan
from .tuning import InCalibrationSet, Tuner, tuning_frames

METHOD = "equalised channels, learned rounding"
# One calibration, two graphs: CPUs are fastest with unsigned activations, TensorRT takes only signed ones. What is not
# int8 is float16 on GPUs, where TensorRT computes it in the type that the graph says.
_UNSIGNED = {"int8": True, "int8_gpu": False}
_HALF_OPSET = 19  # the first with float16 scales; in older ones the fallback is float32
_SENSITIVITY_BATCHES = 2  # 16 crops tell blocks apart


def make_int8(
    build: Build,
    fp32: onnx.ModelProto,
    crops: CalibrationSet,
    held_out: EvaluationImages,
    keep_fp32: Mapping[str, str] | None = None,
) -> None:
    """Calibrate, or take the ranges that were given; add both int8 graphs; keep in float what the limits demand.

    Args:
        build: gets the graphs and the record of the calibration.
        fp32: its graph "fp32", which takes crops.
        crops: the calibration set.
        held_out: the gate's images.
        keep_fp32: nodes whose values float16 cannot hold, each with the reason.

    Raises:
        CalibrationError: the data or the given ranges cannot be used.
        GateError: no int8 graph holds `plan.max_drop` and `plan.max_drift`; the message says how near the best came.
    """
    plan, keep_fp32 = build.plan, dict(keep_fp32 or {})
    calibrated, record, in_calibration_set = _calibrated(build, fp32, crops, held_out)
    ranges = calibrated.ranges
    record |= {"curve": ranges.curve, "settled": ranges.settled}
    build.report("int8 graphs", 0, 0)
    variants = _Variants(fp32, calibrated, build.folder, keep_fp32)
    placement = variants.write(())
    frames = _frames(plan, in_calibration_set, held_out, build.contract)
    reasons: dict[str, str] = {}
    if isinstance(frames, str):
        record["search"] = {"reason": frames}
    else:
        tuner = Tuner(fp32.SerializeToString(), build.contract, frames, plan.max_drop, build.report)
        if tuner.gate.data["labelled"]:
            found, blocks = _search(build, tuner, variants, crops)
            placement = variants.write(found.best.float_nodes)
            reasons = {n: f"int8 costs accuracy in {b.name}" for b in blocks for n in b.nodes}
            record["search"] = _search_record(found, blocks, tuner, plan)
        else:
            record["search"] = {"reason": tuner.gate.data["note"]}
        del tuner
        trim_heap()
    record["int8_macs"] = placement.int8_macs
    order = {name: i for i, node in enumerate(fp32.graph.node) for name in node.output}
    found_ranges = ranges.to_json()["ranges"]
    record["ranges"] = {name: found_ranges[name] for name in sorted(ranges, key=lambda name: order.get(name, -1))}
    record["verdict"] = int8_verdict(record)
    build.calibration = record
    skipped = {name: reasons.get(name, why) if why == REQUESTED else why for name, why in placement.skipped.items()}
    for name, file in variants.files.items():
        build.add_graph(file, "onnx", "int8", plan.opset, skipped if _UNSIGNED[name] else {**keep_fp32, **skipped})


class _Variants:
    """Both int8 graphs as files, written again for each set of float nodes that is tried."""

    def __init__(self, fp32: onnx.ModelProto, calibrated: Calibrated, folder: Path, keep_fp32: Collection[str]) -> None:
        self.fp32, self.calibrated, self.keep_fp32 = fp32, calibrated, keep_fp32
        self.half = next(o.version for o in fp32.opset_import if o.domain == "") >= _HALF_OPSET
        self.files = {name: folder / f"{name}.onnx" for name in _UNSIGNED}
        self._written: tuple[tuple[str, ...], Placement] | None = None

    def write(self, float_nodes: tuple[str, ...]) -> Placement:
        """Write both graphs with these nodes in float."""
        if self._written is None or self._written[0] != float_nodes:
            for name, unsigned in _UNSIGNED.items():
                made = quantize(
                    self.fp32,
                    self.calibrated,
                    float_nodes=float_nodes,
                    unsigned=unsigned,
                    fallback_dtype="float16" if self.half and not unsigned else "float32",
                    keep_fp32=self.keep_fp32,
                )
                self.files[name].write_bytes(made.model.SerializeToString())
                self._written = float_nodes, made.placement
                del made
            trim_heap()
        assert self._written is not None
        return self._written[1]


def _calibrated(
    build: Build, fp32: onnx.ModelProto, crops: CalibrationSet, held_out: EvaluationImages
) -> tuple[Calibrated, dict[str, Any], InCalibrationSet]:
    """What calibration finds, the record of where it comes from, and who it rests on."""
    plan = build.plan
    if plan.scales is None:
        people = len(crops)
        found = calibrate(
            fp32,
            crops,
            progress=lambda done: build.report("calibration", done, people),
            rounding=partial(build.report, "int8: rounding of weights"),
        )
        ids = {person.annotation for person in crops.people}
        record = {"method": METHOD, "data": plan.calibration.note, "on_strangers": plan.on_strangers}
        record |= {**crops.provenance(), "different": _different(crops, plan.calibration)}
        return found, record, lambda a: a["id"] in ids
    scales = read_cache(plan.scales)
    scales.check_graph(build.graphs["fp32"][0].sha256, str(plan.scales))
    scales.check_held_out(held_out, str(plan.scales))
    known = {file["sha256"] for one in scales.sets for file in one["files"].values()}

    @cache
    def used(name: str) -> bool:
        return hashlib.sha256(plan.calibration.read(name)).hexdigest() in known

    record = {
        "method": METHOD,
        "data": ", ".join(one["data"] for one in scales.sets),
        "on_strangers": plan.trained_elsewhere and any(one["kind"] == "demo" for one in scales.sets),
        "people": scales.state.crops,
        "different": scales.different,
        "images": sum(one["images"] for one in scales.sets),
        "scales": plan.scales.name,
        "sets": [{k: v for k, v in one.items() if k != "files"} for one in scales.sets],
        "files": {name: file["sha256"] for one in scales.sets for name, file in one["files"].items()},
    }
    return scales.result(str(plan.scales)), record, lambda a: used(a["file_name"])


def _different(crops: CalibrationSet, frames: Frames) -> int:
    """How many of the people who were calibrated on do not look alike."""
    boxes: dict[str, list[tuple[float, ...]]] = {}
    for person in crops.people:
        x1, y1, x2, y2 = person.given
        boxes.setdefault(person.file_name, []).append((x1, y1, x2 - x1, y2 - y1))
    looks = (Picture(frames.read(name)).people(np.array(found)) for name, found in boxes.items())
    return different([one for people in looks for one, _ in people]) or len(crops)


def _frames(
    plan: Plan, in_calibration_set: InCalibrationSet, held_out: EvaluationImages, contract: Contract
) -> Frames | str:
    """The people to tune on, or why there are none."""
    if not plan.tunable and plan.model.weights == "random":
        return "the weights are random"
    if not plan.tunable:
        return (
            "the labels of the calibration set say nothing about these weights; give labelled training images "
            "with --calib and --calib-images"
        )
    try:
        labelled = plan.calibration.with_joints_of(contract)
    except InputError as error:  # their boxes are enough for the ranges
        return str(error)
    return tuning_frames(labelled, in_calibration_set, held_out)


def _search(build: Build, tuner: Tuner, variants: _Variants, crops: CalibrationSet) -> tuple[SearchResult, list[Block]]:
    """All in int8 if that holds, as is usual; else the cheapest set of blocks in float, and what each block costs."""
    plan, report = build.plan, build.report

    def measure(float_nodes: tuple[str, ...], what: str) -> Measurement:
        variants.write(float_nodes)
        return tuner.measure({name: file.read_bytes() for name, file in variants.files.items()}, what)

    first = measure((), "int8: accuracy on what is tuned on")
    if not _shown_too_much(first, plan):
        step = Step((), (), 0.0, first)
        return SearchResult(step, (step,)), []
    progress = partial(report, "int8: what each block costs")
    progress(0, 0)
    some = np.concatenate(list(islice(crops, _SENSITIVITY_BATCHES)))
    blocks = block_sensitivity(variants.fp32, variants.calibrated, some, build.contract, progress=progress)
    tries = count(1)

    def attempt(float_nodes: tuple[str, ...]) -> Measurement:
        if not float_nodes:
            return first
        return measure(float_nodes, f"int8: search, try {next(tries)}, {len(float_nodes)} nodes in float")

    return find_float_blocks(blocks, attempt, plan.max_drop, max_drift=plan.max_drift), blocks


def _shown_too_much(measured: Measurement, plan: Plan) -> bool:
    """Whether a graph is shown to lose more, or to move joints farther, than the plan allows; or gave no figures."""
    if measured.interval is None or measured.interval[0] > plan.max_drop:
        return True
    if plan.max_drift is None:
        return False
    return measured.drift_bounds is None or measured.drift_bounds[0] > plan.max_drift


def _search_record(found: SearchResult, blocks: list[Block], tuner: Tuner, plan: Plan) -> dict[str, Any]:
    return {
        "metric": tuner.gate.data["metric"],
        "max_drop": plan.max_drop,
        "max_drift": plan.max_drift,
        "people": tuner.gate.data["people"],
        "images": tuner.gate.data["images"],
        "accuracy": tuner.gate.row.accuracy,
        "backends": tuner.backends,
        "fp32_ms": tuner.fp32_ms,
        "steps": [
            {"blocks": list(step.blocks), "float_macs": step.float_macs, **_finite(step.measured)}
            for step in found.curve
        ],
        "best": found.curve.index(found.best),
        "blocks": [{**asdict(b), "nodes": len(b.nodes), "float": b.name in found.best.blocks} for b in blocks],
    }


def _finite(measured: Measurement) -> dict[str, Any]:
    values = asdict(measured)
    for name in ("interval", "drift_bounds"):
        if values[name] is not None and not all(map(isfinite, values[name])):
            values[name] = None
    return values | ({} if isfinite(measured.drop) else {"drop": None})
