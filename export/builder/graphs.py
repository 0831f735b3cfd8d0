"""The graphs of a bundle: fp32, fp16, int8 for CPUs and for GPUs, and TorchScript."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice

import onnx

from ...calib import macs
from ...calib.fp16 import activations, overflows, to_fp16
from ...calib.images import crops_from_coco
from ...calib.ranges import collect
from ...runtime.accuracy.frames import Frames
from ...runtime.bundle.archive import Golden
from ...runtime.errors import InputError
from ...runtime.system.memory import trim_heap
from ..configs.onnx_file import CONTRACT_KEY
from ..graph.reference import Reference
from ..graph.to_onnx import to_onnx, with_crops, with_free_size
from ..graph.to_torchscript import to_torchscript
from .apart import apart, evaluation_images
from .int8 import make_int8
from .plan import Build
from .tuning import PEOPLE, calibration_sample_size

CALIBRATION_PEOPLE = 64
OVERFLOW_BATCHES = 2


def make_graphs(build: Build, held_out: Frames) -> None:
    """Make all graphs that the plan asks for, as files in the build's folder.

    Copies of the weights are released as soon as possible: they are most of the memory that a build needs. Calibration
    must not see the images of the gate, `held_out`.
    """
    contract = build.contract
    evaluation = evaluation_images(held_out, build.plan.allow_similar)
    if build.plan.labelled and evaluation.all_alike():
        raise InputError(
            f"the {len(held_out.coco['images'])} images to measure accuracy on all show the same picture "
            f"({held_out.note}): give images that differ"
        )

    def drawn(frames: Frames) -> list[str]:  # and of a small set all that the search may tune on
        crops = crops_from_coco(frames.coco, frames.read, contract, CALIBRATION_PEOPLE + PEOPLE)
        return [person.file_name for person in crops.people]

    plan = build.plan = replace(build.plan, calibration=apart(build.plan.calibration, evaluation, drawn))
    count = calibration_sample_size(plan.calibration, CALIBRATION_PEOPLE) if plan.tunable else CALIBRATION_PEOPLE
    crops = crops_from_coco(plan.calibration.coco, plan.calibration.read, contract, count)
    golden_crops = next(iter(crops))[:1]
    build.golden = Golden(golden_crops, build.reference.infer(golden_crops))

    build.report("ONNX graph", 0, 0)
    reference = build.reference
    model = to_onnx(reference, plan.opset) if isinstance(reference, Reference) else reference.model
    build.macs = macs.of_graph(model)
    if plan.plain is not None:
        plain = with_free_size(model, reference) if plan.dynamic_size and isinstance(reference, Reference) else model
        # Concatenated protobuf messages merge: the contract goes into the file and not into the bundle's graphs.
        stated = onnx.ModelProto()
        stated.metadata_props.add(key=CONTRACT_KEY, value=json.dumps(contract.to_json()))
        build.plain = plain.SerializeToString() + stated.SerializeToString()
        del plain
    fp32 = with_crops(model, contract)
    del model
    trim_heap()
    _add_onnx(build, "fp32", fp32)

    # Nodes whose values float16 cannot hold, with room for images that calibration did not show.
    keep_fp32: dict[str, str] = {}
    if {"fp16", "int8"} & set(plan.precisions):
        build.report("fp16 graph", 0, 0)
        keep_fp32 = overflows(fp32, collect(fp32, islice(crops, OVERFLOW_BATCHES), activations(fp32)))
    if "fp16" in plan.precisions:
        _add_onnx(build, "fp16", to_fp16(fp32, keep_fp32), keep_fp32)
    if "int8" in plan.precisions:
        make_int8(build, fp32, crops, evaluation, keep_fp32)
    build.suspects = evaluation.suspects
    del fp32
    trim_heap()

    if isinstance(reference, Reference):
        build.report("TorchScript", 0, 0)
        file = build.folder / "torchscript.pt"
        to_torchscript(reference, file)
        build.add_graph(file, "torchscript", "fp32")


def _add_onnx(build: Build, precision: str, model: onnx.ModelProto, float_nodes: dict[str, str] | None = None) -> None:
    file = build.folder / f"{precision}.onnx"
    file.write_bytes(model.SerializeToString())
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    build.add_graph(file, "onnx", precision, opset, float_nodes)
