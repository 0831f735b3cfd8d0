"""`posert build`: checkpoint to checked bundle and engines. `python export/build_engine.py` is the same."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...runtime.cli import options
from ...runtime.cli.command import Command
from ...runtime.errors import PosertError
from ...runtime.system.files import check_writable
from ...runtime.system.progress import Report, steps
from .. import arguments

if TYPE_CHECKING:
    from ...runtime.accuracy.frames import Frames
    from ..builder.model import Loaded
    from ..builder.plan import Plan

# Held-out images of the demo: as many as judge every row in a few minutes on two cores. Networks of the published
# size take a hundred times longer per person than the narrow demo.
_DEMO_IMAGES = {"small": 400, "large": 60}
_SMALL_MACS = 1e9
# Without meaningful labels only the heatmaps are compared, and a few people are enough.
_UNLABELLED_IMAGES = 8
_TRIED_IMAGES = 40  # of the gate's; they tell half a cell of the heatmap from chance
_SYNTHETIC = "int8 is calibrated on synthetic people; images of your own keep more accuracy: --calib and --calib-images"
_DEMO_LICENSE = "Apache-2.0"  # posert's own: the demo's weights are part of it
_UNDECIDED, _UNBUILT = 3, 2  # exit status
_SIMILAR = "keep calibration images that look like one of --annotations; the report shows each pair"
_UNPROVEN = "AP is unproven without labelled images: add --annotations person_keypoints_val.json --images DIR"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    arguments.add_model_arguments(parser)
    graphs = parser.add_argument_group("graphs").add_argument
    graphs("--precision", type=options.comma_list, metavar="NAME,...", help="fp32, fp16, int8 (default: fp32)")
    graphs("--half", action="store_true", help="add fp16 to --precision")
    graphs("--int8", action="store_true", help="add int8 to --precision")
    graphs("--opset", type=int, metavar="N", help="ONNX operator set, 17 to 25 (default: 19)")
    graphs("--output", type=Path, metavar="FILE", help="bundle to write (default: ARCH-DATASET-HxW.pose)")
    licence = "licence of the weights, an SPDX identifier such as Apache-2.0; posert card states it"
    graphs("--license", default="", metavar="SPDX", help=licence)
    plain = "also write a plain ONNX graph, which takes normalised images, with the contract in its metadata"
    graphs("--onnx", type=Path, metavar="FILE", help=plain)
    graphs("--dynamic-size", action="store_true", help="with --onnx: any height and width, not only any batch size")
    calibration = parser.add_argument_group("int8 calibration")
    arguments.add_calibration_arguments(calibration)
    cache = "activation ranges from posert calibrate, in place of --calib"
    calibration.add_argument("--calib-cache", type=Path, metavar="FILE", help=cache)
    calibration.add_argument("--allow-similar", action="store_true", help=_SIMILAR)
    engines = parser.add_argument_group("TensorRT engines, beside the bundle").add_argument
    names = "auto, tensorrt, tensorrt_rtx, none (default: auto, the first that is installed and can build here)"
    engines("--engine", choices=("auto", "tensorrt", "tensorrt_rtx", "none"), default="auto", help=names)
    target = "GPUs to build for without having them, such as sm86,sm89: TensorRT-RTX (default: this machine's GPU)"
    engines("--target", metavar="SM,...", help=target)
    gate = parser.add_argument_group("accuracy gate")
    arguments.add_labelled_images(gate, "of held-out images to measure AP on", "none, so AP stays unproven")
    add = gate.add_argument
    add("--limit", type=options.positive, metavar="N", help="use at most N of these images")
    drop = "AP that fp16 and int8 may lose; int8 blocks stay in float until it holds (default: 0.005)"
    add("--max-drop", type=float, default=0.005, metavar="AP", help=drop)
    drift = "pixels of the frame that 95 %% of the joints may move by; int8 obeys it too (default: not judged)"
    add("--max-drift", type=float, metavar="PX", help=drift)
    report = "folder for report.html and report.json (default: OUTPUT-report)"
    add("--report", type=Path, metavar="DIR", help=report)
    photos = parser.add_argument_group("photos").add_argument
    photo = "a photo or a folder of photos to show the model's crops, heatmaps and joints on, before graphs are made"
    photos("--try", type=Path, dest="photos", metavar="PATH", help=photo)
    boxes = "boxes of the people in them, as posert run --boxes takes them (default: each photo is one person)"
    photos("--try-boxes", type=Path, metavar="FILE", help=boxes)


def run(args: argparse.Namespace) -> int:
    """Returns 1 if the accuracy gate failed."""
    from rich.console import Console

    from ..builder.pipeline import build_bundle
    from ..report.suspects import pairs
    from ..report.write import print_blocks, print_table, write_report

    photos, plan = _photos(args), make_plan(args)
    console = Console(stderr=True, markup=False)  # a path may contain brackets
    console.print(f"{plan.model.title}, {', '.join(plan.precisions)} -> {plan.output}")
    if plan.model.note:
        console.print(f"note: {plan.model.note}")
    if calibrates_on_strangers(plan):
        console.print(f"note: {_SYNTHETIC}")
    given = sys.argv[2:] if sys.argv[1:2] == ["build"] else sys.argv[1:]
    command = shlex.join(["posert", "build", *given])
    tried: dict[str, Any] = {}
    with steps(console) as report:

        def loaded(network: Loaded) -> None:
            for note in network.provenance.note.split("; "):
                if note and note not in plan.model.note:
                    console.print(f"note: {note}")
            if photos is not None:
                tried.update(
                    _try(network, photos, plan, _report_folder(args, plan.output) / "try.html", command, report)
                )
                for line in tried.pop("lines"):
                    console.print(line)

        built = build_bundle(plan, report, loaded)
        report("report", 1, 1)
    if built.path != plan.output:
        console.print(f"{plan.output} did not fail its gate and is kept; this bundle failed and is written beside it")
    meta = {**built.meta(), "command": command}
    suspects = pairs(built.suspects, plan.calibration.read, plan.held_out.read)
    report_page = write_report(built.parity, built.contract, _report_folder(args, built.path), meta, suspects)
    if args.json:
        files: dict[str, Any] = {"bundle": str(built.path), "report": str(report_page)}
        files["engines"] = [one.to_json() for one in built.engines]
        verdicts = {"verdict": built.parity.verdict, "int8": built.calibration and built.calibration["verdict"]}
        print(json.dumps({**files, **verdicts, **tried, "rows": [row.to_json() for row in built.parity.rows]}))
    else:
        print_table(built.parity, Console())
        if built.calibration:
            print_blocks(built.calibration, Console())
        print("\n".join([f"bundle {built.path}", *(one.line() for one in built.engines), f"report {report_page}"]))
    if plan.engines.note:
        print(plan.engines.note, file=sys.stderr)
    status = {"failed": 1, "undecided": _UNDECIDED}.get(built.parity.verdict, 0)
    unbuilt = plan.engines.asked and any(one.metadata is None for one in built.engines)
    return status or (_UNBUILT if unbuilt else 0)


def calibrates_on_strangers(plan: Plan) -> bool:
    """Whether int8 is calibrated on images that the network was not trained for."""
    return "int8" in plan.precisions and plan.on_strangers and not plan.scales


def _photos(args: argparse.Namespace) -> Frames | None:
    """Those of --try."""
    from ..trial import read_photos

    if args.photos is None:
        if args.try_boxes is not None:
            raise PosertError("--try-boxes are of the people in the photos of --try PATH: add it")
        return None
    return read_photos(args.photos, args.try_boxes)


def _try(network: Loaded, photos: Frames, plan: Plan, page: Path, command: str, report: Report) -> dict[str, Any]:
    """Write the page of a trial; returns its JSON values and `lines` for the terminal.

    The images of the accuracy gate, where their labels say something about these weights, judge the contract too.
    """
    from ..report.trial_page import write_trial
    from ..report.trial_words import terminal
    from ..trial import try_out

    labels = plan.held_out if plan.labelled else None
    trial = try_out(network.reference, photos, labels, limit=_TRIED_IMAGES, report=report)
    write_trial(trial, page, {"model": plan.model.name, "weights": plan.model.weights, "command": command})
    return {"try": {"page": str(page), **trial.to_json()}, "lines": [*terminal(trial), f"page {page}"]}


def make_plan(args: argparse.Namespace) -> Plan:
    """What to build. Raises PosertError for mistakes in the arguments: all are found here, before any work."""
    from ...calib.cache import read_cache
    from ...runtime.accuracy.frames import read_frames
    from ...runtime.compilation import parse_targets
    from ..builder.engine_plan import plan_engines
    from ..builder.model import OnnxModel, PublishedModel
    from ..builder.plan import Plan, check_license, check_max_drift
    from ..demo.frames import demo_frames
    from ..graph.to_onnx import OPSET, check_opset
    from ..weights.load import DEMO_NOTE, RANDOM_NOTE

    model = arguments.model_of(args)
    joints = len(model.contract.keypoints)
    precisions = _precisions(args)
    if args.dynamic_size and not args.onnx:
        raise PosertError("--dynamic-size applies to --onnx FILE; the crops of a bundle have one size")
    if args.dynamic_size and isinstance(model, OnnxModel):
        raise PosertError("--dynamic-size is for PyTorch networks; an ONNX file has the size that it was exported for")
    arguments.check_pair(args, "annotations", "images")
    arguments.check_calibration(args)
    if "int8" in precisions and args.calib_cache is None:
        arguments.require_calibration(args, model.weights)
    if args.calib_cache is not None:
        if "int8" not in precisions:
            raise PosertError("--calib-cache applies to int8: add --int8")
        read_cache(args.calib_cache)  # refuses other files
    if not 0 <= args.max_drop < 1:
        raise PosertError(f"--max-drop {args.max_drop}: expected a fraction of AP, such as 0.005 for half a point")
    check_max_drift(args.max_drift)
    check_license(args.license)
    opset = OPSET if args.opset is None else args.opset
    check_opset(opset)
    output = args.output or Path(f"{model.name}.pose")
    for path in (output, args.onnx, _report_folder(args, output) / "report.html"):
        if path is not None:
            check_writable(path)
    asked = tuple(p for p in precisions if p in _asked(args))
    engines = plan_engines(args.engine, parse_targets(args.target), asked, output)
    demo = args.weights == "demo"
    macs = model.row.macs_test_path if isinstance(model, PublishedModel) and demo else None
    small = macs is not None and macs < _SMALL_MACS
    images = _DEMO_IMAGES["small" if small else "large"] if demo else _UNLABELLED_IMAGES
    if args.annotations:
        held_out, labelled = read_frames(args.annotations, args.images, args.limit), args.weights != "random"
    else:
        notes = {"demo": f"{DEMO_NOTE}. Held-out synthetic people", "random": RANDOM_NOTE}
        note = notes.get(args.weights, _UNPROVEN)
        held_out, labelled = demo_frames(joints, "val", min(args.limit or images, images), note), demo
    calibration = arguments.calibration_frames(args, joints)
    return Plan(
        model=model,
        precisions=precisions,
        output=output,
        held_out=held_out,
        labelled=labelled,
        calibration=calibration,
        plain=args.onnx,
        opset=opset,
        max_drop=args.max_drop,
        max_drift=args.max_drift,
        dynamic_size=args.dynamic_size,
        tunable=demo or (calibration.kind == "user" and args.weights != "random"),
        scales=args.calib_cache,
        allow_similar=args.allow_similar,
        engines=engines,
        license=args.license or (_DEMO_LICENSE if demo else ""),
    )


def _precisions(args: argparse.Namespace) -> tuple[str, ...]:
    from ..builder.plan import PRECISIONS

    asked = _asked(args)
    unknown = sorted(set(asked) - set(PRECISIONS))
    if unknown:
        raise PosertError(f"--precision {','.join(unknown)}: expected a comma list of {', '.join(PRECISIONS)}")
    return tuple(p for p in PRECISIONS if p == "fp32" or p in asked)


def _asked(args: argparse.Namespace) -> list[str]:
    """Precisions that were asked for; fp32 is made without being asked for, too."""
    more = ["fp16"] * args.half + ["int8"] * args.int8
    return [p.lower() for p in args.precision or ([] if more else ["fp32"])] + more


def _report_folder(args: argparse.Namespace, output: Path) -> Path:
    folder: Path = args.report or output.with_name(f"{output.stem}-report")
    return folder


_RENAMED = {"--scales": "--calib-cache"}
COMMAND = Command("Build a checked bundle from a checkpoint", "make", add_arguments, run, "export", _RENAMED)
