"""`posert models`: the published rows of the catalog."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from .archs import archs
from .catalog import Row, rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("pattern", nargs="?", default="", help="only rows whose id or architecture contains this")


def main(args: argparse.Namespace) -> int:
    """Print the table."""
    found = [r for r in rows().values() if args.pattern in r.id or args.pattern in r.arch]
    known = archs()
    if args.json:
        print(json.dumps([{**asdict(r), "buildable": r.arch in known} for r in found]))
        return 0
    table = Table(title=f"{len(found)} models; build one with: posert build --model ID")
    for column in ("id", "architecture", "data set", "crop HxW", "M params", "GMACs", "published"):
        table.add_column(column, justify="right" if column in ("M params", "GMACs") else "left", overflow="fold")
    for r in found:
        table.add_row(
            r.id,
            r.arch,
            r.dataset,
            f"{r.height}x{r.width}",
            f"{r.params / 1e6:.1f}",
            f"{r.macs_test_path / 1e9:.2f}",
            _published(r),
        )
    Console().print(table)
    return 0


def _published(row: Row) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in list(row.metrics.items())[:2]) or "-"
