"""Arguments that the export commands share: which model with which weights, and which images to calibrate on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.cli import options
from ..runtime.errors import PosertError
from . import own_model

if TYPE_CHECKING:
    from ..runtime.accuracy.frames import Frames
    from .builder.model import OnnxModel, OwnModel, PublishedModel

_CALIBRATION_IMAGES = 100
_SYNTHETIC = Path("demo")  # of --calib


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("model").add_argument
    add("--arch", metavar="NAME", help="architecture; without --dataset and --imgsz its COCO 256x192 model")
    add("--model", metavar="ID", help="a published model, in place of --arch (posert models lists them)")
    add("--dataset", metavar="NAME", help="with --arch: coco, mpii, ...")
    add("--imgsz", metavar="HxW", help="with --arch: crop size, such as 384x288")
    add("--stages", type=options.positive, metavar="K", help="stop a network of several stages after stage K")
    weights = "a checkpoint file, auto (download), demo or random (default: auto)"
    add("--weights", default="auto", metavar="FILE", help=weights)
    own_model.add_arguments(parser)


def model_of(args: argparse.Namespace) -> PublishedModel | OwnModel | OnnxModel:
    """The model that the arguments name or describe.

    Raises PosertError: they name none or more than one, a stage that does not exist, or weights that cannot be had.
    """
    described = [name for name in own_model.OPTIONS if getattr(args, name) is not None]
    by_file = args.weights not in ("auto", "demo", "random") and args.arch is None and args.model is None
    if described or by_file:
        unused = [name for name in ("model", "dataset", "stages") if getattr(args, name) is not None]
        if unused:
            given = described[0].replace("_", "-") if described else "weights"
            raise PosertError(f"--{unused[0]} is for published models; leave it out with --{given}")
        return own_model.model_of(args)
    return _published(args)


def _published(args: argparse.Namespace) -> PublishedModel:
    from . import catalog
    from .archs import on_meta
    from .builder.model import PublishedModel
    from .weights.load import check_source

    if (args.model is None) == (args.arch is None):
        raise PosertError(
            "which model? Give --arch NAME, such as hrnet_w32, or --model ID (posert models lists them), or one of "
            "your own: --config my_config.py --weights my.pth, or --network net.onnx"
        )
    if args.model is not None and (args.dataset or args.imgsz):
        raise PosertError("--dataset and --imgsz go with --arch; --model already names one data set and size")
    row = catalog.row(args.model) if args.model is not None else catalog.find(args.arch, args.dataset, args.imgsz)
    if args.stages is not None:
        on_meta(row.arch, row.keypoints, args.stages)
    check_source(row, args.weights)
    return PublishedModel(row, args.weights, args.stages)


def add_calibration_arguments(group: argparse._ArgumentGroup) -> None:
    data = "COCO keypoint annotations, or boxes as posert run --boxes takes them; demo: synthetic people"
    group.add_argument("--calib", type=Path, metavar="FILE", help=f"training images to calibrate on: {data}")
    group.add_argument("--calib-images", type=Path, metavar="DIR", help="folder of the images in --calib")


def check_calibration(args: argparse.Namespace) -> None:
    """Refuse a --calib without its --calib-images, or the folder without the file; "demo" needs no folder."""
    if not _is_synthetic(args):
        check_pair(args, "calib", "calib_images")


def require_calibration(args: argparse.Namespace, weights: str) -> None:
    """Refuse to calibrate these weights on synthetic people unless --calib demo asks for it, or they learned on them.

    Raises PosertError: --calib is needed; the message says how to give it.
    """
    if args.calib is None and weights not in ("demo", "random"):
        build = " or --calib-cache FILE (of posert calibrate)" if "calib_cache" in args else ""
        raise PosertError(
            "int8 needs images of yours to calibrate on: add --calib FILE --calib-images DIR, a dozen frames with "
            f"labels or boxes are enough{build}. --calib demo takes synthetic people in their place; the joints drift "
            "more then"
        )


def _is_synthetic(args: argparse.Namespace) -> bool:
    return bool(args.calib == _SYNTHETIC and args.calib_images is None)


def calibration_frames(args: argparse.Namespace, joints: int) -> Frames:
    """The images of --calib, with labels or with boxes only; without it, and for "demo", synthetic people."""
    from ..runtime.accuracy.frames import box_frames, read_frames
    from ..runtime.accuracy.label_csv import is_label_csv
    from ..runtime.metrics.coco_files import read_json
    from .demo.frames import demo_frames

    if not args.calib or _is_synthetic(args):
        return demo_frames(joints, "calib", _CALIBRATION_IMAGES, "synthetic people")
    if args.calib.suffix.lower() == ".csv":
        labelled = is_label_csv(args.calib)
    else:
        content = read_json(args.calib)
        people = content.get("annotations") if isinstance(content, dict) else None
        labelled = isinstance(people, list) and any(isinstance(a, dict) and "keypoints" in a for a in people)
    return (read_frames if labelled else box_frames)(args.calib, args.calib_images)


def add_labelled_images(group: argparse.ArgumentParser | argparse._ArgumentGroup, purpose: str, default: str) -> None:
    text = f"COCO keypoint annotations {purpose} (default: {default})"
    group.add_argument("--annotations", type=Path, metavar="FILE", help=text)
    group.add_argument("--images", type=Path, metavar="DIR", help="folder of the images in --annotations")


def check_pair(args: argparse.Namespace, file: str, folder: str) -> None:
    """Refuse a file of annotations without the folder of its images, or the folder without the file."""
    if (getattr(args, file) is None) != (getattr(args, folder) is None):
        options = f"--{file} FILE and --{folder.replace('_', '-')} DIR"
        raise PosertError(f"{options} go together: annotations and their images")
