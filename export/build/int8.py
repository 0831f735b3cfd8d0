"""The int8 graphs of a bundle: ranges, what must stay in float so that AP holds, and the twins for CPUs and GPUs."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx

from ...calib.cache import read_cache
from ...calib.images import CalibrationSet
from ...calib.overlap import EvaluationImages
from ...calib.placement import REQUESTED, Placement, place
from ...calib.qdq import quantize
from ...calib.ranges import Ranges, collect
from ...calib.search import Measurement, SearchResult, Step, find_float_blocks
from ...calib.sensitivity import Block, block_sensitivity
from ...runtime.accuracy.frames import Frames
from ...runtime.bundle.contract import Contract
from ...runtime.errors import InputError
from ...runtime.system.memory import trim_heap
from ..report.words import int8_verdict
from .plan import Plan, Report
from .tuning import Drawn, Tuner, Unproven, tuning_frames

METHOD = "mse"
# One calibration, two graphs: CPUs are fastest on unsigned activations, TensorRT takes signed ones only. What is not
# int8 is float16 on GPUs, where TensorRT 10 and later compute it in the type that the graph says.
_UNSIGNED = {"int8": True, "int8_gpu": False}
_HALF_OPSET = 19  # the first whose scales may be float16; TensorRT 8 reads older ones, and takes a float32 rest
_SENSITIVITY_BATCHES = 2  # 16 crops tell blocks apart


@dataclass(frozen=True)
class Int8:
    """The twins as files, the layers that stayed in float with the reason, and what the bundle says about it all."""

    files: tuple[Path, ...]
    left: dict[str, str]
    record: dict[str, Any]


def make_int8(
    plan: Plan,
    fp32: onnx.ModelProto,
    sha256: str,
    crops: CalibrationSet,
    held_out: EvaluationImages,
    contract: Contract,
    folder: Path,
    report: Report,
    wide: Collection[str] = (),
) -> Int8:
    """Calibrate, or take the scales that were given; write the twins; leave in float what `--max-drop` demands.

    Args:
        plan: what to build.
        fp32: the graph with crops as input.
        sha256: of its bytes.
        crops: the calibration set.
        held_out: the gate's images.
        contract: of the network.
        folder: for the twins.
        report: told of progress.
        wide: nodes that float16 cannot hold.

    Raises:
        CalibrationError: the data or the scales cannot be used.
        GateError: no int8 graph holds `plan.max_drop`; the message says how near the best one came.
    """
    ranges, record, drawn = _ranges(plan, fp32, sha256, crops, held_out, report)
    report("int8 graphs", 0, 0)
    twins = _Twins(fp32, ranges, folder, wide)
    placement = twins.write(())
    frames = _frames(plan, drawn, held_out, contract)
    reasons: dict[str, str] = {}
    if isinstance(frames, Unproven):
        record["search"] = {"reason": frames.reason}
    else:
        tuner = Tuner(fp32.SerializeToString(), contract, frames, plan.max_drop, report)
        if tuner.data["labelled"]:
            found, blocks = _search(plan, tuner, twins, ranges, crops, contract, report)
            placement = twins.write(found.best.float_nodes)
            reasons = {n: f"int8 costs accuracy in {b.name}" for b in blocks for n in b.nodes}
            record["search"] = _search_record(found, blocks, tuner, plan.max_drop)
        else:
            record["search"] = {"reason": tuner.data["note"]}
        del tuner
        trim_heap()
    record["int8_macs"] = placement.int8_macs
    order = {name: i for i, node in enumerate(fp32.graph.node) for name in node.output}
    found_ranges = ranges.to_json()["ranges"]
    record["ranges"] = {name: found_ranges[name] for name in sorted(ranges, key=lambda name: order.get(name, -1))}
    record["verdict"] = int8_verdict(record)
    left = {name: reasons.get(name, why) if why == REQUESTED else why for name, why in placement.skipped.items()}
    return Int8(tuple(twins.files.values()), left, record)


class _Twins:
    """Both int8 graphs as files; written anew for each set of float nodes that is tried."""

    def __init__(self, fp32: onnx.ModelProto, ranges: Ranges, folder: Path, wide: Collection[str]) -> None:
        self.fp32, self.ranges, self.wide = fp32, ranges, wide
        self.half = next(o.version for o in fp32.opset_import if o.domain == "") >= _HALF_OPSET
        self.files = {name: folder / f"{name}.onnx" for name in _UNSIGNED}
        self._written: tuple[tuple[str, ...], Placement] | None = None

    def write(self, float_nodes: tuple[str, ...]) -> Placement:
        if self._written is None or self._written[0] != float_nodes:
            for name, unsigned in _UNSIGNED.items():
                fallback: Literal["float16", "float32"] = "float16" if self.half and not unsigned else "float32"
                made = quantize(
                    self.fp32,
                    self.ranges,
                    float_nodes=float_nodes,
                    unsigned=unsigned,
                    fallback_dtype=fallback,
                    keep_fp32=self.wide,
                )
                self.files[name].write_bytes(made.model.SerializeToString())
                self._written = float_nodes, made.placement
                del made
            trim_heap()
        assert self._written is not None
        return self._written[1]


def _ranges(
    plan: Plan, fp32: onnx.ModelProto, sha256: str, crops: CalibrationSet, held_out: EvaluationImages, report: Report
) -> tuple[Ranges, dict[str, Any], Drawn]:
    """Ranges, the record of where they come from, and whether they rest on an annotated person."""
    if plan.scales is None:
        tensors = place(fp32).tensors

        def progress(done: int) -> None:
            report("calibration", done, len(crops))

        ranges = collect(fp32, crops, tensors, METHOD, progress=progress)
        ids = {person.annotation for person in crops.people}
        record = {"method": METHOD, "data": plan.calibration.note, **crops.provenance()}
        return ranges, _with_curve(record, ranges), lambda a: a["id"] in ids
    scales = read_cache(plan.scales)
    scales.check_graph(sha256, str(plan.scales))
    scales.check_held_out(held_out, str(plan.scales))
    known = {file["sha256"] for one in scales.sets for file in one["files"].values()}

    @cache
    def used(name: str) -> bool:
        return hashlib.sha256(plan.calibration.read(name)).hexdigest() in known

    record = {
        "method": scales.method,
        "data": ", ".join(one["data"] for one in scales.sets),
        "people": scales.state.crops,
        "images": sum(one["images"] for one in scales.sets),
        "scales": plan.scales.name,
        "sets": [{k: v for k, v in one.items() if k != "files"} for one in scales.sets],
        "files": {name: file["sha256"] for one in scales.sets for name, file in one["files"].items()},
    }
    return scales.ranges, _with_curve(record, scales.ranges), lambda a: used(a["file_name"])


def _with_curve(record: Mapping[str, Any], ranges: Ranges) -> dict[str, Any]:
    return {**record, "curve": ranges.curve, "settled": ranges.settled}


def _frames(plan: Plan, drawn: Drawn, held_out: EvaluationImages, contract: Contract) -> Frames | Unproven:
    if not plan.tunable:
        return Unproven(
            "the labels of the calibration people say nothing about these weights; give labelled training images "
            "with --calib and --calib-images"
            if plan.weights != "random"
            else "the weights are random"
        )
    try:
        labelled = plan.calibration.with_joints_of(contract)
    except InputError as error:  # their boxes are enough for the ranges
        return Unproven(str(error))
    return tuning_frames(labelled, drawn, held_out)


def _search(
    plan: Plan,
    tuner: Tuner,
    twins: _Twins,
    ranges: Ranges,
    crops: CalibrationSet,
    contract: Contract,
    report: Report,
) -> tuple[SearchResult, list[Block]]:
    """All in int8 if that holds, as is usual; else the cheapest set of blocks in float, and what each block costs."""

    def measure(float_nodes: tuple[str, ...], what: str) -> Measurement:
        twins.write(float_nodes)
        return tuner.measure({name: file.read_bytes() for name, file in twins.files.items()}, what)

    first = measure((), "int8: AP on people to tune on")
    if first.drop <= plan.max_drop:
        step = Step((), (), 0.0, first)
        return SearchResult(step, (step,)), []
    report("int8: what each block costs", 0, 0)
    some = np.concatenate(list(islice(crops, _SENSITIVITY_BATCHES)))
    blocks = block_sensitivity(
        twins.fp32,
        ranges,
        some,
        contract,
        progress=lambda done, total: report("int8: what each block costs", done, total),
    )
    tried = 0

    def attempt(float_nodes: tuple[str, ...]) -> Measurement:
        nonlocal tried
        if not float_nodes:
            return first
        tried += 1
        return measure(float_nodes, f"int8: search, try {tried}, {len(float_nodes)} nodes in float")

    return find_float_blocks(blocks, attempt, plan.max_drop), blocks


def _search_record(found: SearchResult, blocks: list[Block], tuner: Tuner, max_drop: float) -> dict[str, Any]:
    def plain(step: Step) -> dict[str, Any]:
        m = step.measured
        return {
            "blocks": list(step.blocks),
            "float_macs": step.float_macs,
            "drop": m.drop if isfinite(m.drop) else None,
            "interval": m.interval,
            "ms": m.ms,
        }

    return {
        "max_drop": max_drop,
        "people": tuner.data["people"],
        "images": tuner.data["images"],
        "ap": tuner.row.ap,
        "backends": tuner.backends,
        "fp32_ms": tuner.fp32_ms,
        "steps": [plain(step) for step in found.curve],
        "best": found.curve.index(found.best),
        "blocks": [{**asdict(b), "nodes": len(b.nodes), "float": b.name in found.best.blocks} for b in blocks],
    }
