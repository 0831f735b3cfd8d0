"""`posert contract check`: what a model sees and finds in photos, and with labels which mistakes its contract has."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ...runtime.cli import options
from ...runtime.cli.command import Command
from ...runtime.errors import PosertError
from ...runtime.system.files import check_writable
from ...runtime.system.progress import Report, steps
from ..arguments import add_model_arguments, model_of

if TYPE_CHECKING:
    from ...runtime.accuracy.frames import Frames
    from ..graph.onnx_reference import OnnxReference
    from ..graph.reference import Reference

_IMAGES = 40  # labelled ones tell half a cell of the heatmap from chance


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("bundle", nargs="?", type=Path, help="a .pose file with an fp32 graph (or give a model)")
    add_model_arguments(parser)
    add = parser.add_argument_group("photos").add_argument
    add("--images", type=Path, required=True, metavar="DIR", help="folder of photos, or one photo")
    boxes = "boxes of the people, as posert run --boxes takes them (default: each photo is one person)"
    add("--boxes", type=Path, metavar="FILE", help=boxes)
    labels = "labels to check the contract against: COCO keypoint annotations, or a CSV of DeepLabCut or Lightning Pose"
    add("--annotations", type=Path, metavar="FILE", help=labels)
    add(
        "--limit",
        type=options.positive,
        metavar="N",
        default=_IMAGES,
        help=f"use at most N images (default: {_IMAGES})",
    )
    add("--output", type=Path, metavar="FILE", help="page to write (default: MODEL-try.html)")


def run(args: argparse.Namespace) -> int:
    """Returns 1 if a change of the contract would improve the agreement with the labels."""
    from rich.console import Console

    from ..report.trial_page import write_trial
    from ..report.trial_words import terminal
    from ..trial import try_out

    console = Console(stderr=True, markup=False, highlight=False)
    photos, labels = _frames(args)
    with steps(console) as report:
        name, weights, reference = _source(args, report)
        path = args.output or Path(f"{name}-try.html")
        check_writable(path)
        trial = try_out(reference, photos, labels, limit=args.limit, report=report)
    meta = {"model": name, "weights": weights, "command": shlex.join(["posert", "contract", "check", *sys.argv[3:]])}
    write_trial(trial, path, meta)
    if args.json:
        print(json.dumps({"page": str(path), **trial.to_json()}))
    else:
        print("\n".join([*terminal(trial), f"page {path}"]))
    return 1 if trial.judgement and trial.judgement.found else 0


def _frames(args: argparse.Namespace) -> tuple[Frames | None, Frames | None]:
    """The photos to show, or the labelled images."""
    from ...runtime.accuracy.frames import read_frames
    from ..trial import read_photos

    if args.annotations is None:
        return read_photos(args.images, args.boxes), None
    if args.boxes is not None:
        raise PosertError("--annotations have boxes of their own: leave --boxes out")
    return None, read_frames(args.annotations, args.images, args.limit)


def _source(args: argparse.Namespace, report: Report) -> tuple[str, str, Reference | OnnxReference]:
    """Name and weights of the model, and its reference."""
    if args.bundle is None:
        model = model_of(args)
        report("weights", 0, 0)
        return model.name, model.weights, model.load(report).reference
    if args.bundle.is_dir() or args.bundle.suffix.lower() != ".pose":
        raise PosertError(f"{args.bundle} is no .pose file; photos go with --images {args.bundle}")
    if args.arch or args.model or args.network or args.config or args.contract:
        raise PosertError("give either a bundle or a model")
    return _of_bundle(args.bundle)


def _of_bundle(path: Path) -> tuple[str, str, OnnxReference]:
    from ...runtime.bundle.archive import Bundle
    from ..graph.from_onnx import ForeignGraph
    from ..graph.inputs import with_input
    from ..graph.onnx_reference import OnnxReference
    from ..graph.read import read_graph

    with Bundle(path) as bundle:
        if "fp32" not in bundle.artifacts:
            raise PosertError(f"{path} contains {', '.join(bundle.artifacts)}; trying it needs its fp32 graph")
        graph = read_graph(bundle.read(bundle.artifacts["fp32"]), str(path))
        plain = with_input(graph, bundle.contract, "normalised")
        return bundle.name, path.name, OnnxReference(ForeignGraph(plain, ()), bundle.contract)


CHECK = Command(
    "Show what a model sees and finds in photos, and check its contract", "check", add_arguments, run, "export"
)
