"""A secondary inference of NVIDIA DeepStream that gives keypoints: no C++, nothing to compile."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from . import Format, Write
from ._arguments import add_precision

if TYPE_CHECKING:
    from ...runtime.bundle.archive import Bundle


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    from ..commands._arguments import add_labelled_images

    add_precision(parser)
    add_labelled_images(parser, "to measure the AP through nvinfer's crops on", "synthetic people")


def _plan(bundle: Bundle, args: argparse.Namespace) -> Write:
    from ._deepstream import plan_app

    return plan_app(bundle, args)


FORMAT = Format("deepstream", "Write keypoints for NVIDIA DeepStream, as a secondary inference", _add_arguments, _plan)
