"""Arguments that several commands share, declared once so that they mean the same everywhere."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

AUTO = "auto"
ALL = "all"
HUB = "hf://OWNER/NAME[@REVISION][/FILE.pose] on the Hugging Face Hub"


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """The bundle, as the first positional argument."""
    parser.add_argument("bundle", type=model, help=f"a .pose file, or {HUB}")


def add_model(parser: argparse.ArgumentParser) -> None:
    """A bundle or an engine, as the first positional argument: for commands that run one."""
    engine = "an .engine file with its .json beside it"
    parser.add_argument("bundle", type=model, help=f"a .pose file, {engine}, or {HUB}")


def model(text: str) -> Path:
    """A bundle or an engine as an argument's `type`; one on the hub is downloaded. Raises as `local_file`."""
    from ..bundle.hub import local_file

    return local_file(text)


QUEUE_DELAY = "let a request wait this long for others to share its batch with (default: not at all)"


def add_session(parser: argparse.ArgumentParser, threads: bool = True) -> None:
    """Which graph to run, and where: for commands that run one."""
    precisions = "fp32, bf16, fp16 or int8 (default: auto, the fastest that passed its accuracy gate)"
    _add_graphs(parser, "auto, the first of these that can run here", precisions, default=AUTO, metavar="NAME")
    if threads:
        _add_threads(parser)


def add_sessions(parser: argparse.ArgumentParser) -> None:
    """Which graphs to run, and where: for commands that run several."""
    precisions = "fp32, bf16, fp16, int8 (default: all in the bundle)"
    _add_graphs(parser, "all that can run here", precisions, default=[ALL], type=comma_list, metavar="NAME,...")
    _add_threads(parser)


def _add_graphs(parser: argparse.ArgumentParser, backend: str, precisions: str, **how: Any) -> None:
    from ..backends import backends

    parser.add_argument("--backend", help=f"{', '.join(backends())} (default: {backend})", **how)
    parser.add_argument("--precision", help=precisions, **how)


def _add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=positive, metavar="N", help="use at most N CPU threads")


def positive(text: str) -> int:
    """A whole number of 1 or more, as an argument's `type`."""
    number = int(text) if text.lstrip("+-").isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text!r}")
    return number


def comma_list(text: str) -> list[str]:
    """A comma-separated list without empty items, as an argument's `type`."""
    items = [item.strip() for item in text.split(",") if item.strip()]
    if not items:
        raise argparse.ArgumentTypeError(f"expected a comma-separated list, got {text!r}")
    return items
