"""`posert calibrate`: calibrate int8 activation ranges and write them to a calibration cache."""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from rich.console import Console

from ...calib.cache import CalibrationCache, merge_caches, read_cache, write_cache
from ...calib.images import CalibrationSet, crops_from_coco
from ...calib.methods import METHODS
from ...calib.methods import method as find_method
from ...calib.overlap import phash
from ...calib.placement import place
from ...calib.ranges import CalibrationState, Ranges, collect
from ...runtime.accuracy.frames import Frames
from ...runtime.bundle.archive import Bundle
from ...runtime.bundle.contract import Contract
from ...runtime.errors import CalibrationError, PosertError
from ...runtime.system.files import check_writable
from ..archs import on_meta
from ..build.graphs import CALIBRATION_PEOPLE
from ..build.int8 import METHOD
from ..build.pipeline import load_reference, name_of
from ..build.plan import Report
from ..build.tuning import calibration_sample_size
from ..graph.to_onnx import to_onnx, with_crops
from ..progress import steps
from ..report.words import settled_text
from ..weights.load import check_source
from .arguments import add_calibration_arguments, add_model_arguments, calibration_frames, require_both, row_of

_SAVE_EVERY = 32  # crops; 300 histograms are saved in a third of a second


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("bundle", nargs="?", type=Path, help="a .pose file, whose float32 graph is calibrated; or:")
    add_model_arguments(parser)
    group = parser.add_argument_group("calibration")
    add_calibration_arguments(group)
    group.add_argument("--people", type=int, metavar="N", help=f"people to draw (default: {CALIBRATION_PEOPLE})")
    group.add_argument("--method", default=METHOD, help=f"{', '.join(METHODS)} (default: {METHOD})")
    group.add_argument("--scales", type=Path, required=True, metavar="FILE", help="the file to write, in JSON")
    group.add_argument("--merge", type=Path, nargs="+", metavar="FILE", help="make it of these files and no new crops")


def main(args: argparse.Namespace) -> int:
    """Write the file and say whether more people would change it."""
    check_writable(args.scales)
    console = Console(stderr=True, markup=False, highlight=False)
    cache = _merged(args) if args.merge else _calibrated(args, console)
    write_cache(args.scales, cache)
    _partial(args.scales).unlink(missing_ok=True)
    if args.json:
        print(json.dumps(_summary(args.scales, cache)))
        return 0
    images = sum(one["images"] for one in cache.sets)
    print(
        f"{args.scales}: {len(cache.ranges)} ranges by {cache.method}, from {cache.state.crops} people on {images} "
        f"images\ngraph  {cache.graph} ({cache.model})"
    )
    for one in cache.sets:
        print(f"people {one['sha256']} ({one['data']})")
    print(settled_text(cache.ranges.curve, cache.ranges.settled))
    return 0


def _merged(args: argparse.Namespace) -> CalibrationCache:
    if args.bundle or args.arch or args.model or args.calib:
        raise PosertError("--merge takes calibration caches and nothing to calibrate: leave the model and --calib out")
    if len(args.merge) < 2:
        raise PosertError("--merge needs two files or more")
    return merge_caches([(str(path), read_cache(path)) for path in args.merge])


def _calibrated(args: argparse.Namespace, console: Console) -> CalibrationCache:
    require_both(args, "calib", "calib_images")
    if args.people is not None and args.people < 1:
        raise PosertError(f"--people {args.people}: expected 1 or more")
    find_method(args.method)  # refuses an unknown one before any work
    partial = _partial(args.scales)
    before = read_cache(partial) if partial.exists() else None
    with steps(console) as report:
        name, contract, data, frames = _source(args, report)
        frames = frames.with_joints_of(contract)
        crops = crops_from_coco(
            frames.coco, frames.read, contract, args.people or calibration_sample_size(frames, CALIBRATION_PEOPLE)
        )
        if args.people is not None and len(crops) < args.people:
            console.print(f"--people {args.people}: there are only {len(crops)} to calibrate on; all are used")
        model = onnx.load_from_string(data)
        tensors = place(model).tensors
        graph = hashlib.sha256(data).hexdigest()
        described, state = (_described(crops, frames),), CalibrationState()
        cache = CalibrationCache(name, graph, args.method, described, Ranges({}), state, finished=False)
        if before is not None:
            _check_same(before, cache, tensors, partial)
            cache = before
            console.print(f"resuming after {cache.state.crops} of {len(crops)} people ({partial})")
        saved = cache.state.crops

        def progress(done: int) -> None:
            nonlocal saved
            report("calibration", done, len(crops))
            if done - saved >= _SAVE_EVERY and done < len(crops):
                write_cache(partial, cache)
                saved = done

        ranges = collect(model, crops, tensors, args.method, progress=progress, state=cache.state)
    return replace(cache, ranges=ranges, finished=True)


def _source(args: argparse.Namespace, report: Report) -> tuple[str, Contract, bytes, Frames]:
    """Name, contract and float32 graph of what is calibrated, and the frames to do it on."""
    if args.bundle is not None:
        if args.arch or args.model:
            raise PosertError("give a bundle, or --arch or --model: one of them")
        with Bundle(args.bundle) as bundle:
            if "fp32" not in bundle.artifacts:
                raise PosertError(
                    f"{args.bundle} holds {', '.join(bundle.artifacts)}; calibration needs its fp32 graph"
                )
            data = bundle.read(bundle.artifacts["fp32"])
            return bundle.name, bundle.contract, data, calibration_frames(args, len(bundle.contract.keypoints))
    row = row_of(args)
    if args.stages is not None:
        on_meta(row.arch, row.keypoints, args.stages)  # refuses what is not there
    check_source(row, args.weights)
    frames = calibration_frames(args, row.keypoints)
    row, reference, _ = load_reference(row, args.weights, args.stages, report)
    report("ONNX graph", 0, 0)
    data = with_crops(to_onnx(reference), reference.contract).SerializeToString()
    return name_of(row, args.stages), reference.contract, data, frames


def _described(crops: CalibrationSet, frames: Frames) -> dict[str, Any]:
    """The set's provenance and the perceptual hash of each image, which a build compares with its held-out images."""
    described = crops.provenance()
    files = {}
    for name, sha256 in described["files"].items():
        found = phash(frames.read(name))
        files[name] = {"sha256": sha256, "phash": None if found is None else found.tobytes().hex()}
    return {**described, "data": frames.note, "files": files}


def _check_same(before: CalibrationCache, now: CalibrationCache, tensors: list[str], path: Path) -> None:
    """Refuse to resume a calibration of something else."""
    for what, theirs, ours in (
        ("graph", before.graph, now.graph),
        ("method", before.method, now.method),
        ("set of people", before.sets[0]["sha256"], now.sets[0]["sha256"]),
    ):
        if theirs != ours:
            raise CalibrationError(
                f"{path} is of an interrupted calibration with another {what} ({theirs}, now {ours}): delete it, or "
                "write to another --scales"
            )
    if before.finished or set(before.state.observers) != set(tensors):
        raise CalibrationError(f"{path} is not an interrupted calibration of this graph: delete it")


def _partial(path: Path) -> Path:
    """The file of an unfinished calibration."""
    return path.with_name(f"{path.name}.partial")


def _summary(path: Path, cache: CalibrationCache) -> dict[str, Any]:
    return {
        "scales": str(path),
        "graph": cache.graph,
        "method": cache.method,
        "tensors": len(cache.ranges),
        "crops": cache.state.crops,
        "curve": cache.ranges.curve,
        "settled": cache.ranges.settled,
    }
