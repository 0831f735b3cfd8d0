"""`posert build`: checkpoint -> checked bundle. The same as `python export/build_engine.py`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from ..calib.scales import read_scales
from ..runtime.errors import PosertError
from ..runtime.files import check_place
from ..runtime.frames import Frames, box_frames, read_frames
from ..runtime.metrics.coco_files import read_json
from . import catalog
from .catalog import Row
from .demo.data import cached
from .demo.people import KEYPOINTS
from .pipeline import Built, build, name_of
from .plan import PRECISIONS, Plan
from .progress import steps
from .report.write import print_blocks, print_table, write_report
from .to_onnx import OPSET, check_opset
from .weights import DEMO_NOTE, RANDOM_NOTE, check_source

# Held-out images of the demo: as many as judge every row in a minute or two on two cores. Networks of the published
# size take a hundred times longer per person than the narrow demo.
_DEMO_IMAGES = {"small": 400, "large": 100}
_SMALL_MACS = 1e9
# Without labels that mean something only the heatmaps are compared, and a few people suffice.
_UNLABELLED_IMAGES = 8
_CALIBRATION_IMAGES = 100


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Which network, and its weights."""
    model = parser.add_argument_group("model")
    model.add_argument("--arch", help="architecture; alone it means its COCO 256x192 row")
    model.add_argument("--model", metavar="ID", help="a row of the catalog (see `posert models`)")
    model.add_argument("--dataset", help="with --arch: coco, mpii, ...")
    model.add_argument("--imgsz", metavar="HxW", help="with --arch: size of the crop, such as 384x288")
    model.add_argument("--stages", type=int, metavar="K", help="stop a network of several stages after the Kth")
    model.add_argument("--weights", default="auto", help="auto (download), demo, random, or a file (default: auto)")


def add_calibration_arguments(group: argparse._ArgumentGroup) -> None:
    """Whose images to calibrate on."""
    group.add_argument(
        "--calib",
        type=Path,
        help="training images to calibrate int8 on: a COCO key point file, or a file of boxes as `posert run` takes it",
    )
    group.add_argument("--calib-images", type=Path, help="the folder of these images")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_model_arguments(parser)
    graph = parser.add_argument_group("graphs")
    graph.add_argument("--precision", help=f"comma list of {', '.join(PRECISIONS)} (default: fp32)")
    graph.add_argument("--half", action="store_true", help="the same as adding fp16 to --precision")
    graph.add_argument("--int8", action="store_true", help="the same as adding int8 to --precision")
    graph.add_argument("--opset", type=int, default=OPSET, help=f"ONNX operator set (default: {OPSET})")
    graph.add_argument("--output", type=Path, help="the bundle to write (default: ARCH-DATASET-HxW.pose)")
    graph.add_argument("--onnx", type=Path, metavar="FILE", help="also write the plain graph: normalised images in")
    graph.add_argument(
        "--dynamic-size", action="store_true", help="with --onnx: any height and width, as well as batch"
    )
    gate = parser.add_argument_group("accuracy gate")
    gate.add_argument("--annotations", type=Path, help="COCO key point file of held-out images to judge on")
    gate.add_argument("--images", type=Path, help="the folder of these images")
    gate.add_argument("--limit", type=int, metavar="N", help="judge on at most N images")
    gate.add_argument(
        "--max-drop",
        type=float,
        default=0.005,
        help="AP may fall by this much (default: 0.005); where int8 loses more, the cheapest blocks stay in float",
    )
    add_calibration_arguments(gate)
    gate.add_argument("--scales", type=Path, metavar="FILE", help="int8 ranges that `posert calibrate` has found")
    gate.add_argument(
        "--report", type=Path, metavar="DIR", help="for report.html and report.json (default: OUTPUT-report)"
    )


def main(args: argparse.Namespace) -> int:
    """Returns 1 if the gate failed."""
    plan = make_plan(args)
    row = plan.row
    console = Console(stderr=True, markup=False)  # a path may hold brackets
    console.print(
        f"{row.id}: {row.arch} on {row.dataset}, {f'stage {plan.stages}, ' if plan.stages else ''}crop {row.height}x"
        f"{row.width} (height x width), weights {plan.weights}, {', '.join(plan.precisions)} -> {plan.output}"
    )
    if row.note:
        console.print(f"note: {row.note}")
    with steps(console) as report:
        built = build(plan, report)
        report("report", 1, 1)
    folder = _report_folder(args, plan.output)
    page = write_report(built.parity, built.contract, folder, {**built.meta, "command": _command()})
    if args.json:
        print(json.dumps(_summary(built, page)))
    else:
        print_table(built.parity, Console())
        if built.meta["calibration"]:
            print_blocks(built.meta["calibration"], Console())
        print(f"bundle {built.path}\nreport {page}")
    return 1 if built.parity.verdict == "failed" else 0


def make_plan(args: argparse.Namespace) -> Plan:
    """From arguments to what will be built; everything that can be refused is refused here, before any work."""
    row = row_of(args)
    precisions = _precisions(args)
    if args.stages is not None:
        catalog.network_on_meta(row.arch, row.keypoints, args.stages)  # refuses what is not there
    if args.dynamic_size and not args.onnx:
        raise PosertError("--dynamic-size is for the plain graph of --onnx FILE; a bundle's crops have one size")
    together(args, "annotations", "images")
    together(args, "calib", "calib_images")
    if args.scales is not None and "int8" not in precisions:
        raise PosertError("--scales is for int8, which is not asked for: add it to --precision")
    if args.scales is not None:
        read_scales(args.scales)  # refuses what is none
    if not 0 <= args.max_drop < 1:
        raise PosertError(f"--max-drop {args.max_drop}: expected a fraction of AP, such as 0.005 for half a point")
    if args.limit is not None and args.limit < 1:
        raise PosertError(f"--limit {args.limit}: expected 1 image or more")
    check_opset(args.opset)
    check_source(row, args.weights)
    output = args.output or Path(f"{name_of(row, args.stages)}.pose")
    for path in (output, args.onnx, _report_folder(args, output) / "report.html"):
        if path is not None:
            check_place(path)
    demo = args.weights == "demo"
    images = _DEMO_IMAGES["small" if row.macs_test_path < _SMALL_MACS else "large"] if demo else _UNLABELLED_IMAGES
    if args.annotations:
        held_out, labelled = read_frames(args.annotations, args.images, args.limit), args.weights != "random"
    else:
        note = f"{DEMO_NOTE}. Held-out synthetic people" if demo else _unproven(args.weights)
        held_out, labelled = demo_frames(row.keypoints, "val", min(args.limit or images, images), note), demo
    return Plan(
        row,
        args.weights,
        precisions,
        output,
        held_out,
        labelled,
        calibration_frames(args, row.keypoints),
        args.onnx,
        args.opset,
        args.max_drop,
        args.stages,
        args.dynamic_size,
        tunable=demo or (args.calib is not None and args.weights != "random"),
        scales=args.scales,
    )


def calibration_frames(args: argparse.Namespace, joints: int) -> Frames:
    """The user's training images, labelled or with boxes alone, or else synthetic people."""
    if args.calib:
        read = read_frames if _has_joints(args.calib) else box_frames
        return read(args.calib, args.calib_images)
    return demo_frames(joints, "calib", _CALIBRATION_IMAGES, "synthetic people")


def _has_joints(path: Path) -> bool:
    content = None if path.suffix.lower() == ".csv" else read_json(path)
    people = content.get("annotations") if isinstance(content, dict) else None
    return isinstance(people, list) and any(isinstance(a, dict) and "keypoints" in a for a in people)


def demo_frames(joints: int, split: str, count: int, note: str) -> Frames:
    """Synthetic people as frames, for a model of so many joints.

    Theirs are COCO's. Where the model has another number, people stay labelled or not, and their joints mean nothing.
    """
    pixels, coco = cached(split, count)
    index = {record["file_name"]: i for i, record in enumerate(coco["images"])}
    if joints != len(KEYPOINTS):
        for a in coco["annotations"]:
            a["keypoints"] = [1.0 if a["num_keypoints"] else 0.0] * 3 * joints

    def load(record: dict[str, Any]) -> NDArray[np.uint8]:
        frame: NDArray[np.uint8] = pixels[index[record["file_name"]]]
        return frame

    def read(name: str) -> bytes:
        return cv2.imencode(".png", pixels[index[name]])[1].tobytes()

    return Frames(coco, load, read, "demo", note)


def row_of(args: argparse.Namespace) -> Row:
    """The catalog's row that the arguments name."""
    if (args.model is None) == (args.arch is None):
        raise PosertError("say which model: --arch hrnet_w32, or --model with an id that `posert models` lists")
    if args.model is not None:
        if args.dataset or args.imgsz:
            raise PosertError("--model names one row of the catalog; --dataset and --imgsz go with --arch")
        return catalog.row(args.model)
    return catalog.find(args.arch, args.dataset, args.imgsz)


def together(args: argparse.Namespace, first: str, second: str) -> None:
    """Refuse one of two options without the other."""
    if (getattr(args, first) is None) != (getattr(args, second) is None):
        raise PosertError(
            f"--{first} and --{second.replace('_', '-')} go together: the file says what is on the images, the "
            "folder holds them"
        )


def _precisions(args: argparse.Namespace) -> tuple[str, ...]:
    asked = [p.strip().lower() for p in (args.precision or "fp32").split(",") if p.strip()]
    asked += ["fp16"] * args.half + ["int8"] * args.int8
    unknown = sorted(set(asked) - set(PRECISIONS))
    if unknown:
        raise PosertError(f"--precision {','.join(unknown)}: expected a comma list of {', '.join(PRECISIONS)}")
    return tuple(p for p in PRECISIONS if p == "fp32" or p in asked)


def _unproven(weights: str) -> str:
    if weights == "random":
        return RANDOM_NOTE
    return "no labelled images were given, so AP is unproven: --annotations person_keypoints_val.json --images DIR"


def _summary(built: Built, page: Path) -> dict[str, Any]:
    return {
        "bundle": str(built.path),
        "report": str(page),
        "verdict": built.parity.verdict,
        "int8": built.meta["calibration"] and built.meta["calibration"]["verdict"],
        "rows": [row.to_json() for row in built.parity.rows],
    }


def _report_folder(args: argparse.Namespace, output: Path) -> Path:
    folder: Path = args.report or output.with_name(f"{output.stem}-report")
    return folder


def _command() -> str:
    given = sys.argv[1:]
    return shlex.join(["posert", "build", *(given[1:] if given[:1] == ["build"] else given)])
