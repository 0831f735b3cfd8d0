"""`posert evaluate`: figures of a results file by its data set's own protocol."""

from __future__ import annotations

import argparse
import json

from ..datasets import PROTOCOLS, datasets
from ..evaluate import score_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--dataset", required=True, help=", ".join(datasets()))
    parser.add_argument("--annotations", required=True, metavar="FILE", help="the data set's annotation file")
    parser.add_argument("--results", required=True, metavar="FILE", help="results to score")
    parser.add_argument(
        "--protocol",
        default=PROTOCOLS[0],
        help="legacy: that of the published tables (default); v029: that of MMPose 0.29",
    )


def main(args: argparse.Namespace) -> int:
    """Score a file."""
    scored = score_file(args.dataset, args.annotations, args.results, args.protocol)
    if args.json:
        print(json.dumps(scored))
    else:
        print(f"{scored['dataset']}, protocol {scored['protocol']}")
        for name, value in scored["metrics"].items():
            print(f"  {name:10} {value:.4f}")
    return 0
