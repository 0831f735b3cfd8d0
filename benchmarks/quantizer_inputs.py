"""What `quantizers` gives all tools: the float32 graph, the calibration crops, and the people to judge on."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from onnx import ModelProto

from posert.benchmarks.accuracy import part_of
from posert.calib.images import CalibrationSet, crops_from_coco
from posert.export.builder.apart import apart, evaluation_images
from posert.export.builder.plan import Plan
from posert.export.builder.tuning import calibration_sample_size, tuning_frames
from posert.export.commands.build import COMMAND, make_plan
from posert.export.demo.frames import demo_frames
from posert.export.graph.onnx_reference import OnnxReference
from posert.export.graph.reference import Reference
from posert.export.graph.to_onnx import to_onnx, with_crops
from posert.export.weights.load import DEMO_NOTE
from posert.runtime.accuracy.frames import Frames
from posert.runtime.bundle.contract import Contract
from posert.runtime.errors import InputError

DEMO = ("--arch", "hrnet_demo", "--weights", "demo")
_SPLIT = 200  # synthetic images to calibrate on, and as many to validate on


@dataclass(frozen=True)
class Inputs:
    """What all tools are given, and whom their graphs are judged on.

    Attributes:
        name, title: of the model.
        reference: the network, which every graph is compared with.
        crops: to calibrate on.
        validation: labelled people for a tool that measures AP itself, none of them in `crops`; None: there are none.
        held_out: labelled people to judge on, none of them in either.
    """

    name: str
    title: str
    reference: Reference | OnnxReference
    crops: CalibrationSet
    validation: Frames | None
    held_out: Frames

    @property
    def contract(self) -> Contract:
        """That of the network."""
        return self.reference.contract

    def graph(self) -> ModelProto:
        """The float32 graph: uint8 crops in, heatmaps out."""
        plain = to_onnx(self.reference) if isinstance(self.reference, Reference) else self.reference.model
        return with_crops(plain, self.contract)


def read_inputs(build: Sequence[str], people: int, images: int) -> Inputs:
    """The inputs of a model.

    Args:
        build: options of `posert build`; none means the demo's HRNet.
        people: to calibrate on; of a small set half, so that there are some to validate on.
        images: synthetic ones to judge the demo's networks on.

    Raises:
        PosertError: the options are wrong, or describe a model without labelled images.
    """
    parser = argparse.ArgumentParser(prog="posert build")
    COMMAND.add_arguments(parser)
    plan = make_plan(parser.parse_args(build or DEMO))
    if not plan.labelled:
        raise InputError(f"{plan.model.title}: add labelled images to judge it on, --annotations FILE --images DIR")
    reference = plan.model.load(lambda what, done, total: None).reference
    if plan.model.weights == "demo" and plan.held_out.kind == "demo":
        return _synthetic(plan, reference, people, images)
    contract = reference.contract
    held_out = plan.held_out.with_joints_of(contract)
    evaluation = evaluation_images(held_out, plan.allow_similar)
    frames = plan.calibration.with_joints_of(contract)

    def crops_of(frames: Frames) -> CalibrationSet:
        count = calibration_sample_size(frames, people) if plan.tunable else people
        return crops_from_coco(frames.coco, frames.read, contract, count)

    def drawn(frames: Frames) -> Iterable[str]:
        return [person.file_name for person in crops_of(frames).people]

    frames = apart(frames, evaluation, drawn)
    crops = crops_of(frames)
    ids = {person.annotation for person in crops.people}
    # The tool that measures AP by itself needs sigmas.
    rest = tuning_frames(frames, lambda a: a["id"] in ids, evaluation) if plan.tunable and contract.sigmas else ""
    return Inputs(
        plan.model.name, plan.model.title, reference, crops, None if isinstance(rest, str) else rest, held_out
    )


def _synthetic(plan: Plan, reference: Reference | OnnxReference, people: int, images: int) -> Inputs:
    joints = len(reference.contract.keypoints)
    frames = demo_frames(joints, "calib", 2 * _SPLIT, "synthetic people")
    records = frames.coco["images"]
    calibration, validation = part_of(frames, records[:_SPLIT]), part_of(frames, records[_SPLIT:])
    crops = crops_from_coco(calibration.coco, calibration.read, reference.contract, people)
    held_out = demo_frames(joints, "val", images, DEMO_NOTE)
    return Inputs(plan.model.name, plan.model.title, reference, crops, validation, held_out)
