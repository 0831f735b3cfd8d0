"""What several commands ask for: a network with its weights, and whose images to calibrate on."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...runtime.accuracy.frames import Frames, box_frames, read_frames
from ...runtime.errors import PosertError
from ...runtime.metrics.coco_files import read_json
from .. import catalog
from ..catalog import Row
from ..demo.frames import demo_frames

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


def row_of(args: argparse.Namespace) -> Row:
    """The catalog's row that the arguments name."""
    if (args.model is None) == (args.arch is None):
        raise PosertError("say which model: --arch hrnet_w32, or --model with an id that `posert models` lists")
    if args.model is not None:
        if args.dataset or args.imgsz:
            raise PosertError("--model names one row of the catalog; --dataset and --imgsz go with --arch")
        return catalog.row(args.model)
    return catalog.find(args.arch, args.dataset, args.imgsz)


def add_calibration_arguments(group: argparse._ArgumentGroup) -> None:
    """Whose images to calibrate on."""
    group.add_argument(
        "--calib",
        type=Path,
        help="training images to calibrate int8 on: a COCO key point file, or a file of boxes as `posert run` takes it",
    )
    group.add_argument("--calib-images", type=Path, help="the folder of these images")


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


def require_both(args: argparse.Namespace, first: str, second: str) -> None:
    """Refuse one of two options without the other.

    Raises:
        PosertError: only one is given.
    """
    if (getattr(args, first) is None) != (getattr(args, second) is None):
        raise PosertError(
            f"--{first} and --{second.replace('_', '-')} go together: the file says what is on the images, the "
            "folder holds them"
        )
