"""`posert card`: the model card of a bundle."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .. import options
from ..command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    options.add_bundle(parser)
    output = "Markdown file to write, such as the README.md of a model on the Hugging Face Hub (default: print it)"
    parser.add_argument("--output", type=Path, metavar="FILE", help=output)


def run(args: argparse.Namespace) -> int:
    """Print or write the card."""
    from ...bundle.archive import Bundle
    from ...card import card
    from ...system.files import atomic_write
    from ...system.text import writable

    with Bundle(args.bundle) as bundle:
        text = card(bundle)
    if args.output is not None:
        with atomic_write(args.output) as file:
            file.write(writable(text).encode())
    if args.json:
        print(json.dumps({"card": text, "output": args.output and str(args.output)}))
    else:
        print(text if args.output is None else f"wrote {args.output}", end="" if args.output is None else "\n")
    return 0


COMMAND = Command("Write the model card of a bundle", "deploy", add_arguments, run)
