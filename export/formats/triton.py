"""A model repository for Triton Inference Server; OpenVINO Model Server and other KServe V2 servers take its graphs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from . import Format, Write
from ._arguments import HEATMAPS, KEYPOINTS, OUTPUT_HELP

if TYPE_CHECKING:
    from ...runtime.bundle.archive import Bundle

BACKENDS = ("onnxruntime", "openvino", "tensorrt", "python")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    from ...runtime.cli import options

    add = parser.add_argument
    what = "of Triton's; onnxruntime, openvino, tensorrt take crops, python takes frames and boxes and runs posert"
    add("--backend", choices=BACKENDS, default=BACKENDS[0], help=f"{what} (default: {BACKENDS[0]})")
    add("--precision", metavar="NAME", help="fp32, fp16 or int8 (default: fp32; python: what passed the gate)")
    add("--output-kind", choices=(KEYPOINTS, HEATMAPS), help=f"{OUTPUT_HELP}; tensorrt gives heatmaps")
    add("--queue-delay", type=options.positive, default=0, metavar="MS", help=options.QUEUE_DELAY)
    engines = "tensorrt: engines by `posert compile --backend tensorrt`, one for each kind of GPU"
    add("--engines", type=Path, nargs="+", default=[], metavar="FILE", help=engines)


def _plan(bundle: Bundle, args: argparse.Namespace) -> Write:
    from ._triton import plan_repository

    return plan_repository(bundle, args)


FORMAT = Format("triton", "Write a model repository for Triton Inference Server", _add_arguments, _plan)
