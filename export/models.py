"""`posert models`: the published rows of the catalog."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from ..runtime.errors import CatalogError
from ..runtime.registry import unknown_name
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
    if not found:
        raise CatalogError(unknown_name("model", args.pattern, rows()))
    width = max(len(r.id) for r in found)
    print(f"{'id':{width}}  {'architecture':17}  {'data set':14}  {'HxW':7}  {'params':>7}  {'GMACs':>6}  published")
    for r in found:
        print(
            f"{r.id:{width}}  {r.arch:17}  {r.dataset:14}  {f'{r.height}x{r.width}':7}  {r.params / 1e6:6.1f}M  "
            f"{r.macs_test_path / 1e9:6.2f}  {_published(r)}"
        )
    print("Build one with: posert build --model ID")
    return 0


def _published(row: Row) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in list(row.metrics.items())[:2]) or "-"
