"""Options for images of the user's: labelled ones, and those to calibrate on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import PosertError

if TYPE_CHECKING:
    from ..runtime.accuracy.frames import Frames

_CALIBRATION_IMAGES = 100
_SYNTHETIC = Path("demo")  # of --calib


def add_calibration_arguments(group: argparse._ArgumentGroup) -> None:
    """Declare `--calib` and `--calib-images`."""
    data = "COCO keypoint annotations, or boxes as posert run --boxes takes them; demo: synthetic people"
    group.add_argument("--calib", type=Path, metavar="FILE", help=f"training images to calibrate on: {data}")
    group.add_argument("--calib-images", type=Path, metavar="DIR", help="folder of the images in --calib")


def check_calibration(args: argparse.Namespace) -> None:
    """Refuse a --calib without its --calib-images, or the folder without the file; "demo" needs no folder."""
    if not _is_synthetic(args):
        check_pair(args, "calib", "calib_images")


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
    """Declare `--annotations` and `--images`."""
    text = f"COCO keypoint annotations {purpose} (default: {default})"
    group.add_argument("--annotations", type=Path, metavar="FILE", help=text)
    group.add_argument("--images", type=Path, metavar="DIR", help="folder of the images in --annotations")


def check_pair(args: argparse.Namespace, file: str, folder: str) -> None:
    """Refuse a file of annotations without the folder of its images, or the folder without the file."""
    if (getattr(args, file) is None) != (getattr(args, folder) is None):
        options = f"--{file} FILE and --{folder.replace('_', '-')} DIR"
        raise PosertError(f"{options} go together: annotations and their images")
