"""`posert contract`: what a config, a checkpoint or another file says about a network. Needs no torch."""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from ...runtime.cli.command import Command
from ._contract_check import CHECK

if TYPE_CHECKING:
    from ..configs import Description

_WIDTH = 110


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "file",
        type=Path,
        help="an MMPose 0.x or 1.x config, an experiment file of the HRNet or simple-baselines repository, MMDeploy's "
        "pipeline.json, a checkpoint, an ONNX file, a bundle or contract.yaml",
    )
    parser.add_argument(
        "--config-root", type=Path, metavar="DIR", help="a folder of configs, for bases that are not found otherwise"
    )
    parser.add_argument(
        "--dataset-file",
        type=Path,
        metavar="FILE",
        help="the joints: YAML with name and keypoints, MMPose's dataset_info, COCO annotations or "
        "ultralytics' data.yaml",
    )


def run(args: argparse.Namespace) -> int:
    """Print what the file says."""
    from ..configs import read_description, read_joints

    description = read_description(args.file, config_root=args.config_root)
    if args.dataset_file is not None:
        description = description.joined(read_joints(args.dataset_file, args.config_root))
    if args.json:
        print(json.dumps(description.to_json()))
    else:
        print("\n".join(_page(args.file, description)))
    return 0


def _page(path: Path, description: Description) -> list[str]:
    from ..configs.words import in_words

    rows = [("file", f"{path} ({description.source})"), *in_words(description)]
    return [line for name, text in rows for line in _wrapped(name, text)]


def _wrapped(name: str, text: str) -> list[str]:
    first, *more = textwrap.wrap(text, _WIDTH - 12, break_long_words=False, break_on_hyphens=False) or [""]
    return [f"{name:10}  {first}", *(f"{'':12}{line}" for line in more)]


COMMAND = Command(
    "Show the contract that a config, checkpoint or ONNX file states",
    "make",
    add_arguments,
    run,
    "export",
    subcommands={"check": CHECK},
)
