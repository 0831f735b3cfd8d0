"""`posert build`: checkpoint -> checked bundle. The same as `python export/build_engine.py`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from ...calib.cache import read_cache
from ...runtime.accuracy.frames import read_frames
from ...runtime.errors import PosertError
from ...runtime.system.files import check_writable
from ..archs import on_meta
from ..build.pipeline import build_bundle, name_of
from ..build.plan import PRECISIONS, Plan
from ..build.state import Build
from ..demo.frames import demo_frames
from ..graph.to_onnx import OPSET, check_opset
from ..progress import steps
from ..report.write import print_blocks, print_table, write_report
from ..weights.load import DEMO_NOTE, RANDOM_NOTE, check_source
from .arguments import add_calibration_arguments, add_model_arguments, calibration_frames, require_both, row_of

# Held-out images of the demo: so many that the gate takes a minute or two on two cores. Networks of the published size
# take a hundred times longer per person than the narrow demo.
_DEMO_IMAGES = {"small": 400, "large": 100}
_SMALL_MACS = 1e9
# Without meaningful labels only the heatmaps are compared, and a few people are enough.
_UNLABELLED_IMAGES = 8


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
        built = build_bundle(plan, report)
        report("report", 1, 1)
    if built.path != plan.output:
        console.print(f"{plan.output} holds a bundle whose gate did not fail: it stays, and this one lies beside it")
    folder = _report_folder(args, built.path)
    page = write_report(built.parity, built.contract, folder, {**built.meta(), "command": _command()})
    if args.json:
        print(json.dumps(_summary(built, page)))
    else:
        print_table(built.parity, Console())
        if built.calibration:
            print_blocks(built.calibration, Console())
        print(f"bundle {built.path}\nreport {page}")
    return 1 if built.parity.verdict == "failed" else 0


def make_plan(args: argparse.Namespace) -> Plan:
    """Turn arguments into a plan; whatever can be refused before any work is refused here.

    Raises:
        PosertError: an argument cannot be used; the message names it.
    """
    row = row_of(args)
    precisions = _precisions(args)
    if args.stages is not None:
        on_meta(row.arch, row.keypoints, args.stages)  # refuses a stage that is not there
    if args.dynamic_size and not args.onnx:
        raise PosertError("--dynamic-size is for the plain graph of --onnx FILE; a bundle's crops have one size")
    require_both(args, "annotations", "images")
    require_both(args, "calib", "calib_images")
    if args.scales is not None and "int8" not in precisions:
        raise PosertError("--scales is for int8, which is not asked for: add it to --precision")
    if args.scales is not None:
        read_cache(args.scales)  # refuses what is none
    if not 0 <= args.max_drop < 1:
        raise PosertError(f"--max-drop {args.max_drop}: expected a fraction of AP, such as 0.005 for half a point")
    if args.limit is not None and args.limit < 1:
        raise PosertError(f"--limit {args.limit}: expected 1 image or more")
    check_opset(args.opset)
    check_source(row, args.weights)
    output = args.output or Path(f"{name_of(row, args.stages)}.pose")
    for path in (output, args.onnx, _report_folder(args, output) / "report.html"):
        if path is not None:
            check_writable(path)
    demo = args.weights == "demo"
    size = "small" if row.macs_test_path is not None and row.macs_test_path < _SMALL_MACS else "large"
    images = _DEMO_IMAGES[size] if demo else _UNLABELLED_IMAGES
    if args.annotations:
        held_out, labelled = read_frames(args.annotations, args.images, args.limit), args.weights != "random"
    else:
        note = f"{DEMO_NOTE}. Held-out synthetic people" if demo else _unproven(args.weights)
        held_out, labelled = demo_frames(row.keypoints, "val", min(args.limit or images, images), note), demo
    return Plan(
        row=row,
        weights=args.weights,
        precisions=precisions,
        output=output,
        held_out=held_out,
        labelled=labelled,
        calibration=calibration_frames(args, row.keypoints),
        plain=args.onnx,
        opset=args.opset,
        max_drop=args.max_drop,
        stages=args.stages,
        dynamic_size=args.dynamic_size,
        tunable=demo or (args.calib is not None and args.weights != "random"),
        scales=args.scales,
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


def _summary(built: Build, page: Path) -> dict[str, Any]:
    return {
        "bundle": str(built.path),
        "report": str(page),
        "verdict": built.parity.verdict,
        "int8": built.calibration and built.calibration["verdict"],
        "rows": [row.to_json() for row in built.parity.rows],
    }


def _report_folder(args: argparse.Namespace, output: Path) -> Path:
    folder: Path = args.report or output.with_name(f"{output.stem}-report")
    return folder


def _command() -> str:
    given = sys.argv[1:]
    return shlex.join(["posert", "build", *(given[1:] if given[:1] == ["build"] else given)])
