"""`posert models`: the models of the catalog. Needs no torch; without it only published models are listed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection
from dataclasses import asdict
from typing import TYPE_CHECKING

from ...runtime.cli.command import Command
from ...runtime.errors import CatalogError
from ...runtime.registry import unknown_name

if TYPE_CHECKING:
    from ..catalog import Row


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    pattern = "list only models whose id or architecture contains this"
    parser.add_argument("pattern", nargs="?", default="", help=pattern)
    stages = "list networks of several stages with their GMACs up to each stage (see posert build --stages)"
    parser.add_argument("--per-stage", action="store_true", help=stages)


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    from ..catalog import failures, has_torch, rows

    found = [r for r in rows().values() if args.pattern in r.id or args.pattern in r.arch]
    if not found:
        raise CatalogError(unknown_name("model", args.pattern, rows()) + failures())
    if args.per_stage:
        return _print_stages(found, args.json)
    buildable: Collection[str] = ()
    if has_torch():
        from ..archs import architectures
        from ..graph.macs import counted

        buildable, found = architectures(), [counted(r) for r in found]
    if args.json:
        print(json.dumps([{**asdict(r), "buildable": r.arch in buildable} for r in found]))
        return 0
    width = max(len(r.id) for r in found)
    print(f"{'id':{width}}  {'architecture':17}  {'data set':14}  {'HxW':7}  {'params':>8}  {'GMACs':>7}  published")
    for r in found:
        params = "unknown" if r.params is None else f"{r.params / 1e6:.1f}M"
        macs = "unknown" if r.macs_test_path is None else f"{r.macs_test_path / 1e9:.2f}"
        published = ", ".join(f"{name} {value:.3f}" for name, value in list(r.metrics.items())[:2]) or "-"
        model = f"{r.id:{width}}  {r.arch:17}  {r.dataset:14}  {f'{r.height}x{r.width}':7}"
        print(f"{model}  {params:>8}  {macs:>7}  {published}")
    if not buildable:
        print('To build one, and to list added architectures, install torch: pip install "posert[export]"')
        return 0
    from ..graph.macs import failure

    for r in found:
        if r.macs_test_path is None and r.arch in buildable and (why := failure(r)):
            size = f"(1, 3, {r.height}, {r.width})"
            print(f"{r.id} does not run on images {size}: {why}. Mend its row or its architecture")
    if skipped := failures():
        print(skipped.strip())
    print("To build one: posert build --model ID")
    if any(r.arch.startswith("pose_resnet") for r in found):
        print("A pose_resnet trained with STYLE caffe has the same file layout: use --arch pose_resnet_50_caffe")
    return 0


def _print_stages(found: list[Row], as_json: bool) -> int:
    from ..archs import architectures
    from ..graph.macs import of_stages

    known = architectures()
    counted = {r.id: of_stages(r) for r in found if (known[r.arch].stages or 0) > 1}
    if not counted:
        matches = f"{len(found)} models match, such as {found[0].id}"
        raise CatalogError(f"{matches}, but none has a network of several stages")
    if as_json:
        print(json.dumps(counted))
        return 0
    width = max(map(len, counted))
    for id, counts in counted.items():
        print(f"{id:{width}}  " + "  ".join(f"{k}: {n / 1e9:.2f}" for k, n in enumerate(counts, 1)))
    print("GMACs up to each stage. To stop after stage K: posert build --model ID --stages K")
    return 0


_RENAMED = {"--stages": "--per-stage"}
COMMAND = Command("List the published models", "make", add_arguments, run, "export", _RENAMED)
