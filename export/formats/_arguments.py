"""Options of the graph that several formats write."""

from __future__ import annotations

import argparse

INPUT_HELP = (
    "uint8: crops (N, H, W, 3) BGR, 0 to 255; float: the same as (N, 3, H, W) float32; normalised: (N, 3, H, W) "
    "float32, (p / 255 - mean) / std in the network's colour order (default: uint8)"
)
OUTPUT_HELP = (
    "keypoints: (N, K, 3), x and y in pixels of the crop, and score; heatmaps: what the network gives (default: "
    "keypoints)"
)
KEYPOINTS, HEATMAPS = "keypoints", "heatmaps"


def add_graph_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the graph: `--precision`, `--input` and `--output-kind`."""
    add_precision(parser)
    parser.add_argument("--input", choices=("uint8", "float", "normalised"), default="uint8", help=INPUT_HELP)
    parser.add_argument("--output-kind", choices=(KEYPOINTS, HEATMAPS), default=KEYPOINTS, help=OUTPUT_HELP)


def add_precision(parser: argparse.ArgumentParser) -> None:
    """`--precision`, for formats that write one ONNX graph."""
    precision = "fp32, fp16, int8, or int8_gpu, the int8 graph for TensorRT (default: fp32)"
    parser.add_argument("--precision", default="fp32", metavar="NAME", help=precision)
