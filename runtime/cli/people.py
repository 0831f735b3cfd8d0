"""Arguments that say how people are found and followed, for the commands that go from pictures to people."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from . import options

if TYPE_CHECKING:
    from ..detection import Detector
    from ..media.sources import Source

ONE_EURO, SAVITZKY_GOLAY = "one-euro", "savitzky-golay"
_MAX_SMOOTHED_PIXELS = 1 << 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from ..detection import LAYOUTS

    add = parser.add_argument_group("people").add_argument
    boxes = (
        "boxes of the people: COCO annotations, COCO detections, a JSON object of [x1, y1, x2, y2] lists by image name "
        "or frame number, or CSV with the header file,x1,y1,x2,y2 or frame,x1,y1,x2,y2"
    )
    add("--boxes", type=Path, metavar="FILE", help=boxes)
    add("--box-score", type=float, default=0.3, metavar="S", help="ignore boxes with a lower score (default: 0.3)")
    detector = "find the people with this detector, an ONNX file of YOLOX, RTMDet, YOLO, RT-DETR, D-FINE or DETR"
    add("--detector", type=Path, metavar="FILE", help=detector)
    layout = f"layout of its outputs: {', '.join(LAYOUTS.names())} (default: recognised)"
    add("--detector-layout", default=options.AUTO, metavar="NAME", help=layout)
    add("--detector-score", type=float, default=0.5, metavar="S", help="ignore its boxes below this score (0.5)")
    add("--detect-class", default="person", metavar="NAME", help="find this class, a name or number (default: person)")
    every = "detect on every Nth frame, and look around the last joints in between (default: 1)"
    add("--detect-every", type=options.positive, default=1, metavar="N", help=every)
    track = "give people ids that last from frame to frame (default: in a video with a detector)"
    add("--track", action=argparse.BooleanOptionalAction, default=None, help=track)
    smooth = f"smooth the joints: {ONE_EURO} at once, or {SAVITZKY_GOLAY} with the frames that follow (default: off)"
    add("--smooth", choices=(ONE_EURO, SAVITZKY_GOLAY), help=smooth)


def check(args: argparse.Namespace, video: bool, live: bool) -> bool:
    """Check that the arguments go together; returns whether people get ids.

    Raises InputError: they do not.
    """
    if args.boxes and args.detector:
        raise InputError("--boxes and --detector both give boxes: remove one")
    found = bool(args.boxes or args.detector)
    track = bool(args.track if args.track is not None else video and args.detector)
    if track and not found:
        raise InputError("--track needs boxes of people: add --detector FILE or --boxes FILE")
    for option, given in (("--smooth", args.smooth), ("--detect-every", args.detect_every > 1)):
        if given and not track:
            raise InputError(f"{option} follows people from frame to frame: it needs --detector or --track")
    if args.detect_every > 1 and not args.detector:
        raise InputError("--detect-every needs --detector FILE")
    if args.smooth == SAVITZKY_GOLAY and live:
        raise InputError(f"--smooth {SAVITZKY_GOLAY} waits for the frames that follow: take {ONE_EURO} for a camera")
    return track


def check_frame_size(args: argparse.Namespace, source: Source) -> None:
    """Raises InputError: the frames that wait for the smoothing would take more than 2 GB."""
    if args.smooth == SAVITZKY_GOLAY and source.pixels > _MAX_SMOOTHED_PIXELS:
        raise InputError(
            f"{source.name}: --smooth {SAVITZKY_GOLAY} keeps 40 frames, and these have {source.pixels / 1e6:.1f} "
            f"million pixels each, expected at most {_MAX_SMOOTHED_PIXELS / 1e6:.1f}: take {ONE_EURO}, "
            "or scale the video down"
        )


def open_detector(args: argparse.Namespace, throughput: bool) -> Detector | None:
    """The detector of --detector; None without one. Raises as `Detector`."""
    if not args.detector:
        return None
    from ..detection import Detector

    name: Any = int(args.detect_class) if args.detect_class.isdecimal() else args.detect_class
    return Detector(
        args.detector,
        layout=args.detector_layout,
        classes=name,
        score=args.detector_score,
        threads=args.threads,
        throughput=throughput,
    )
