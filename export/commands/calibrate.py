"""`posert calibrate`: a calibration cache, the ranges of a network's activations, to inspect, merge and build with."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...runtime.cli import options
from ...runtime.cli.command import Command
from ...runtime.errors import PosertError
from ...runtime.system.files import check_writable
from ...runtime.system.progress import Report, steps
from ..arguments import (
    add_calibration_arguments,
    add_model_arguments,
    calibration_frames,
    check_calibration,
    model_of,
    require_calibration,
)

if TYPE_CHECKING:
    from ...calib.cache import CalibrationCache
    from ...runtime.accuracy.frames import Frames
    from ...runtime.bundle.contract import Contract


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("bundle", nargs="?", type=Path, help="a .pose file with an fp32 graph (or give a model)")
    add_model_arguments(parser)
    group = parser.add_argument_group("calibration")
    add_calibration_arguments(group)
    add = group.add_argument
    add("--samples", type=options.positive, metavar="N", help="crops to calibrate on (default: 64)")
    output = "calibration cache to write, for build --calib-cache"
    add("--output", type=Path, required=True, metavar="FILE", help=output)
    add("--merge", type=Path, nargs="+", metavar="FILE", help="merge these calibration caches in place of calibrating")


def run(args: argparse.Namespace) -> int:
    """Write the file and say whether more frames would change it."""
    from rich.console import Console

    from ...calib.cache import write_cache
    from ..calibration import partial_file
    from ..report.int8_words import settled_text

    check_writable(args.output)
    cache = _merged(args) if args.merge else _calibrated(args, Console(stderr=True, markup=False, highlight=False))
    write_cache(args.output, cache)
    partial_file(args.output).unlink(missing_ok=True)
    if args.json:
        found = {"output": str(args.output), "graph": cache.graph, "tensors": len(cache.ranges)}
        found |= {"crops": cache.state.crops, "curve": cache.ranges.curve, "settled": cache.ranges.settled}
        print(json.dumps(found))
        return 0
    images = sum(one["images"] for one in cache.sets)
    crops = f"{cache.state.crops} crops of {images} images"
    print(f"{args.output}: {len(cache.ranges)} ranges from {crops}")
    print(f"graph  {cache.graph} ({cache.model})")
    for one in cache.sets:
        print(f"crops  {one['sha256']} ({one['data']})")
    print(settled_text(cache.ranges.curve, cache.ranges.settled, cache.different))
    return 0


def _merged(args: argparse.Namespace) -> CalibrationCache:
    from ...calib.cache import read_cache
    from ...calib.merging import merge_caches

    if args.bundle or args.arch or args.model or args.calib:
        raise PosertError("--merge calibrates nothing: remove the bundle or model and --calib")
    if len(args.merge) < 2:
        raise PosertError("--merge needs two files or more")
    return merge_caches([(str(path), read_cache(path)) for path in args.merge])


def _calibrated(args: argparse.Namespace, console: Any) -> CalibrationCache:
    from ...calib.cache import read_cache
    from ..calibration import calibrate_on, partial_file

    check_calibration(args)
    partial = partial_file(args.output)
    before = read_cache(partial) if partial.exists() else None
    with steps(console) as report:
        return calibrate_on(
            *_source(args, report),
            samples=args.samples,
            path=args.output,
            before=before,
            report=report,
            note=console.print,
        )


def _source(args: argparse.Namespace, report: Report) -> tuple[str, Contract, bytes, Frames]:
    """Name, contract and fp32 graph of the network, and the images to calibrate it on."""
    from ...runtime.bundle.archive import Bundle
    from ..graph.reference import Reference
    from ..graph.to_onnx import to_onnx, with_crops

    if args.bundle is not None:
        if args.arch or args.model:
            raise PosertError("give either a bundle or a model (--arch or --model)")
        with Bundle(args.bundle) as bundle:
            if "fp32" not in bundle.artifacts:
                found = ", ".join(bundle.artifacts)
                raise PosertError(f"{args.bundle} contains {found}; calibration needs its fp32 graph")
            require_calibration(args, bundle.manifest["model"].get("checkpoint", {}).get("source", ""))
            data = bundle.read(bundle.artifacts["fp32"])
            return bundle.name, bundle.contract, data, calibration_frames(args, len(bundle.contract.keypoints))
    model = model_of(args)
    require_calibration(args, model.weights)
    frames = calibration_frames(args, len(model.contract.keypoints))
    reference = model.load(report).reference
    report("ONNX graph", 0, 0)
    plain = to_onnx(reference) if isinstance(reference, Reference) else reference.model
    return model.name, reference.contract, with_crops(plain, reference.contract).SerializeToString(), frames


_RENAMED = {"--scales": "--output", "--people": "--samples"}
COMMAND = Command("Calibrate int8 activation ranges", "make", add_arguments, run, "export", _RENAMED)
