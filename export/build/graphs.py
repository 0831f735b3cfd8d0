"""The graphs of a bundle: fp32, fp16, int8 for CPUs and for GPUs, TorchScript; and the golden crop they are held to."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ...calib.fp16 import activations, overflows, to_fp16
from ...calib.images import crops_from_coco
from ...calib.overlap import EvaluationImages
from ...calib.ranges import collect
from ...runtime.accuracy.golden import relative_error
from ...runtime.backends import load_backend
from ...runtime.bundle.archive import Artifact, Golden, describe
from ...runtime.system.memory import trim_heap
from ..graph import macs
from ..graph.reference import Reference
from ..graph.to_onnx import to_onnx, with_crops, with_free_size
from ..graph.to_torchscript import to_torchscript
from .int8 import make_int8
from .plan import Plan, Report
from .tuning import people_to_draw

CALIBRATION_PEOPLE = 64
OVERFLOW_BATCHES = 2

# Artifact and file by name, as `write_bundle` takes them.
Graphs = dict[str, tuple[Artifact, bytes | Path]]


@dataclass(frozen=True)
class Made:
    """The graphs of a bundle, the golden crop, where the calibrated ranges come from, the plain graph if it is wanted,
    and the multiply-adds."""

    graphs: Graphs
    golden: Golden
    calibration: dict[str, Any] | None
    plain: bytes
    macs: int


def make_graphs(plan: Plan, reference: Reference, folder: Path, report: Report) -> Made:
    """All graphs, as files in a folder. Copies of the weights are let go as soon as possible: they are most of what a
    build needs."""
    contract = reference.contract
    names = [record["file_name"] for record in plan.held_out.coco["images"]]
    measured = EvaluationImages(names, plan.held_out.read)
    count = people_to_draw(plan.calibration, CALIBRATION_PEOPLE) if plan.tunable else CALIBRATION_PEOPLE
    crops = crops_from_coco(plan.calibration.coco, plan.calibration.read, contract, count, evaluation=measured)
    golden_crops = next(iter(crops))[:1]
    golden = Golden(golden_crops, reference.infer(golden_crops))
    report("ONNX graph", 0, 0)
    model = to_onnx(reference, plan.opset)
    counted, wanted = macs.of_graph(model), b""
    if plan.plain is not None:
        wanted = (with_free_size(model, reference) if plan.dynamic_size else model).SerializeToString()
    fp32 = with_crops(model, contract)
    del model
    trim_heap()
    graphs: Graphs = {"fp32": _onnx_graph(folder, "fp32", fp32, "fp32", golden)}
    # What float16 cannot hold, with room for pictures that calibration did not show, stays in float32.
    wide: dict[str, str] = {}
    if {"fp16", "int8"} & set(plan.precisions):
        report("fp16 graph", 0, 0)
        wide = overflows(fp32, collect(fp32, islice(crops, OVERFLOW_BATCHES), activations(fp32)))
    if "fp16" in plan.precisions:
        graphs["fp16"] = _onnx_graph(folder, "fp16", to_fp16(fp32, wide), "fp16", golden, wide)
    calibration = None
    if "int8" in plan.precisions:
        sha256 = graphs["fp32"][0].sha256
        made = make_int8(plan, fp32, sha256, crops, measured, contract, folder, report, wide)
        for file in made.files:
            left = {**wide, **made.left} if file.stem == "int8_gpu" else made.left
            graphs[file.stem] = _graph(file, "onnx", "int8", golden, plan.opset, left)
        calibration = made.record
    del fp32
    trim_heap()
    report("TorchScript", 0, 0)
    to_torchscript(reference, folder / "torchscript.pt")
    graphs["torchscript"] = _graph(folder / "torchscript.pt", "torchscript", "fp32", golden)
    return Made(graphs, golden, calibration, wanted, counted)


def _onnx_graph(
    folder: Path,
    name: str,
    model: onnx.ModelProto,
    precision: str,
    golden: Golden,
    float_nodes: dict[str, str] | None = None,
) -> tuple[Artifact, Path]:
    opset = next(o.version for o in model.opset_import if o.domain == "")
    file = folder / f"{name}.onnx"
    file.write_bytes(model.SerializeToString())
    return _graph(file, "onnx", precision, golden, opset, float_nodes)


def _graph(
    file: Path,
    format: str,
    precision: str,
    golden: Golden,
    opset: int | None = None,
    float_nodes: dict[str, str] | None = None,
) -> tuple[Artifact, Path]:
    """An artifact with its error on the golden crop, as the library that owns the format computes it."""
    library = {"onnx": "onnxruntime", "torchscript": "torchscript"}[format]
    data = file.read_bytes()
    asked = "int8_gpu" if file.stem == "int8_gpu" else precision
    error = relative_error(load_backend(library).open(data, asked).infer(golden.crops), golden.outputs)
    record = describe(data)
    del data
    trim_heap()
    artifact = Artifact(
        file.stem,
        format,
        file.name,
        **record,
        precision=precision,
        opset=opset,
        float_nodes=float_nodes or {},
        golden_error=error if np.isfinite(error) else None,  # the gate says of such a graph that it failed
    )
    return artifact, file
