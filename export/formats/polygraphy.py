"""What polygraphy and trtexec read: golden inputs and outputs, a comparison in px, calibration crops, the commands."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from . import Format, Write
from ._arguments import add_graph_arguments

if TYPE_CHECKING:
    from ...runtime.bundle.archive import Bundle


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_graph_arguments(parser)
    data = "images whose crops other quantizers calibrate on: COCO annotations or boxes; demo: synthetic people"
    parser.add_argument("--calib", type=Path, metavar="FILE", help=f"{data} (default: none are written)")
    parser.add_argument("--calib-images", type=Path, metavar="DIR", help="folder of the images in --calib")


def _plan(bundle: Bundle, args: argparse.Namespace) -> Write:
    from ._polygraphy import plan_files

    return plan_files(bundle, args)


FORMAT = Format("polygraphy", "Write what polygraphy and trtexec need to check a graph", _add_arguments, _plan)
