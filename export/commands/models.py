"""`posert models`: the published models that the catalog knows. Needs no torch, but for --per-stage."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from ...runtime.cli.command import Command
from ...runtime.errors import CatalogError
from ...runtime.registry import unknown_name

if TYPE_CHECKING:
    from ..catalog import Row


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "pattern", nargs="?", default="", help="list only models whose id or architecture contains this"
    )
    parser.add_argument(
        "--per-stage",
        action="store_true",
        help="list the networks of several stages with their GMACs after each stage (see posert build --stages)",
    )


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    from ..catalog import rows

    found = [r for r in rows().values() if args.pattern in r.id or args.pattern in r.arch]
    if not found:
        raise CatalogError(unknown_name("model", args.pattern, rows()))
    if args.per_stage:
        return _print_stages(found, args.json)
    if args.json:
        print(json.dumps([asdict(r) for r in found]))
        return 0
    width = max(len(r.id) for r in found)
    print(f"{'id':{width}}  {'architecture':17}  {'data set':14}  {'HxW':7}  {'params':>7}  {'GMACs':>6}  published")
    for r in found:
        print(
            f"{r.id:{width}}  {r.arch:17}  {r.dataset:14}  {f'{r.height}x{r.width}':7}  {r.params / 1e6:6.1f}M  "
            f"{r.macs_test_path / 1e9:6.2f}  {_published(r)}"
        )
    print("To build one: posert build --model ID")
    if any(r.arch.startswith("pose_resnet") for r in found):
        print("A pose_resnet trained with STYLE caffe has the same file layout: use --arch pose_resnet_50_caffe")
    return 0


def stage_macs(row: Row) -> list[int]:
    """Multiply-adds of a network up to stage 1, 2, ..., the last; empty if it has no stages."""
    from ..archs import stages_of
    from ..catalog import network_on_meta
    from ..graph import macs

    network = network_on_meta(row.arch, row.keypoints)
    counts = []
    for k in range(1, (stages_of(network) or 0) + 1):
        network.run_stages = k  # type: ignore[assignment]
        counts.append(macs.of_network(network, row.height, row.width))
    return counts


def _print_stages(found: list[Row], as_json: bool) -> int:
    from ..archs import stages_of
    from ..catalog import network_on_meta

    stacked = {a for a in {r.arch for r in found} if (stages_of(network_on_meta(a, 1)) or 0) > 1}
    counted = {r.id: stage_macs(r) for r in found if r.arch in stacked}
    if not counted:
        raise CatalogError(
            f"{len(found)} models match, such as {found[0].id}, but none has a network of several stages"
        )
    if as_json:
        print(json.dumps(counted))
        return 0
    width = max(map(len, counted))
    for id, counts in counted.items():
        print(f"{id:{width}}  " + "  ".join(f"{k}: {n / 1e9:.2f}" for k, n in enumerate(counts, 1)))
    print("GMACs up to each stage. To stop after stage K: posert build --model ID --stages K")
    return 0


def _published(row: Row) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in list(row.metrics.items())[:2]) or "-"


COMMAND = Command(
    "List the published models", "make", add_arguments, run, extra="export", renamed={"--stages": "--per-stage"}
)
