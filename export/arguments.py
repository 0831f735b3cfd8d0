"""Arguments that the export commands share: which model with which weights, and which images to calibrate on."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..runtime.cli import options
from ..runtime.errors import PosertError
from . import own_model
from .given_images import add_calibration_arguments as add_calibration_arguments
from .given_images import add_labelled_images as add_labelled_images
from .given_images import calibration_frames as calibration_frames
from .given_images import check_calibration as check_calibration
from .given_images import check_pair as check_pair

if TYPE_CHECKING:
    from .builder.model import OnnxModel, OwnModel, PublishedModel


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
