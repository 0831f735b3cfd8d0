"""`posert split`: labelled images to training, calibration and test sets that share nothing."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ...runtime.cli.command import Command
from ...runtime.errors import PosertError, naming
from ...runtime.system.progress import steps

_SHOWN = 10  # groups in the terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    labels = "COCO keypoint annotations, or a CSV of DeepLabCut or Lightning Pose"
    add("annotations", type=Path, help=labels)
    add("--images", type=Path, required=True, metavar="DIR", help="folder of the images in it")
    add("--output", type=Path, required=True, metavar="DIR", help="new folder for train, calib, test and split.json")
    add("--test-share", type=float, default=0.2, metavar="SHARE", help="of the images, to measure on (default: 0.2)")
    add(
        "--calib-share",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="of the images, to calibrate int8 on (default: 0.2)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the files, and say what stays together and why."""
    from rich.console import Console

    from ...runtime.accuracy.frames import read_frames
    from ..splitting import assign, find_groups, write_sides
    from ..splitting.write import check_folder

    shares = {"train": 1 - args.test_share - args.calib_share, "calib": args.calib_share, "test": args.test_share}
    if not all(0 < share < 1 for share in shares.values()):
        raise PosertError(
            f"--test-share {args.test_share:g} --calib-share {args.calib_share:g}: expected shares that leave some to "
            "train on"
        )
    check_folder(args.output)
    frames = read_frames(args.annotations, args.images)
    with steps(Console(stderr=True, markup=False)) as report:
        found = find_groups(frames, report)
    with naming(args.annotations):
        sides = assign(found.groups, shares)
    summary = {
        "annotations": args.annotations.name,
        "images": {side: sum(len(group.names) for group in groups) for side, groups in sides.items()},
        "notes": list(found.notes),
        "groups": [
            {"side": side, "images": list(group.names), "why": list(group.why)}
            for side, groups in sides.items()
            for group in groups
        ],
    }
    write_sides(args.output, args.annotations, args.images, sides, summary)
    if args.json:
        print(json.dumps({"output": str(args.output), **summary}))
        return 0
    joined = sorted((group for group in found.groups if group.why), key=lambda group: -len(group.names))
    print(f"{len(frames.coco['images'])} images with labels in {len(found.groups)} groups; a group is on one side")
    for group in joined[:_SHOWN]:
        more = f" and {len(group.why) - 1} more" if len(group.why) > 1 else ""
        print(f"  {len(group.names)} images: {group.why[0]}{more}")
    if len(joined) > _SHOWN:
        print(f"  and {len(joined) - _SHOWN} more, see {args.output / 'split.json'}")
    for note in found.notes:
        print(f"note: {note}")
    for side, groups in sides.items():
        print(f"{side:5} {summary['images'][side]} images in {len(groups)} groups")
    print(f"wrote {args.output}")
    return 0


COMMAND = Command("Split labelled images into sets that share nothing", "make", add_arguments, run, "export")
