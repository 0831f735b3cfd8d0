"""`posert compare`: the difference of two graphs in their outputs, layer by layer, and in joints."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...runtime.cli import options
from ...runtime.cli.command import Command
from ...runtime.errors import InputError
from ...runtime.system.files import atomic_write
from .. import own_model
from ..arguments import add_labelled_images, check_pair

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...runtime.accuracy.frames import Frames
    from ...runtime.bundle.contract import Contract
    from ..builder.model import Loaded

_IMAGES = 40
_CROPS = 2  # whose layers are compared
_SHOWN = 5
_COLUMNS = {"p50": 10, "p95": 8, "max": 8}  # of the table of joints, with their widths


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    graph = "BUNDLE:GRAPH[@BACKEND] with GRAPH torch, fp32, fp16, int8, ...; or an .onnx, .pt or .engine file"
    add("first", help=graph)
    add("second", help="the same; errors are relative to the first")
    add("--weights", metavar="FILE", help="checkpoint for BUNDLE:torch, if the bundle was built from a file")
    add(
        "--arch",
        metavar="NAME",
        help="architecture for BUNDLE:torch, if the bundle was built with --arch and --contract",
    )
    own_model.add_arguments(parser, network=False)
    add_labelled_images(parser, "of people to compare on", "synthetic people")
    add("--limit", type=options.positive, default=_IMAGES, metavar="N", help=f"at most N images (default: {_IMAGES})")
    add("--output", type=Path, metavar="DIR", help="folder for compare.json and pictures of the largest differences")
    add("--save", type=Path, metavar="DIR", help="folder for the graphs, inputs and outputs, as polygraphy reads them")


def run(args: argparse.Namespace) -> int:
    """Returns 1 if they differ by more than the coarser of their precisions explains."""
    from ...runtime.accuracy.gate import HEATMAP_BOUND
    from ..divergence.drift import measure, picture
    from ..divergence.layers import compare_layers
    from ..divergence.operands import open_pair
    from ..divergence.saved import check_polygraphy, save_pair
    from ..graph.reference import random_crops

    check_pair(args, "annotations", "images")
    if args.save is not None:
        check_polygraphy()
    a, b = open_pair(args.first, args.second, args.weights, partial(_own, args))
    contract = a.contract or b.contract
    if contract is None:
        raise InputError("expected at least one graph as BUNDLE:GRAPH, which says what crops and joints to compare")
    if a.contract and b.contract and a.contract != b.contract:
        raise InputError(
            f"{a.name} and {b.name} have different contracts (crops or joints): only graphs of one contract compare"
        )
    bound = max(HEATMAP_BOUND[a.precision], HEATMAP_BOUND[b.precision])
    crops = a.crops if a.crops is not None else b.crops
    crops = random_crops(contract, _CROPS) if crops is None else crops[:_CROPS]
    if args.save is not None:
        save_pair(args.save, a, b, contract, crops, bound)
    frames = _frames(args, contract)
    drift = measure(a, b, contract, frames)
    found = compare_layers(a, b, crops, bound)
    layers = found and {
        "first": asdict(found.first) if found.first else None,
        "jumps": [asdict(layer) for layer in found.jumps(_SHOWN)],
        "all": [asdict(layer) for layer in found.layers],
    }
    report = {
        "first": a.name,
        "second": b.name,
        "same": bool(drift.output["relative"] <= bound),
        "bound": bound,
        "people": drift.people,
        "data": frames.note,
        "heatmaps": drift.output,
        "joints": {rule: _joints(distances, contract) for rule, distances in drift.joints.items()},
        "layers": layers,
    }
    if args.output is not None:
        names = a.name, b.name
        _write(args.output, report, [picture(p, frames.load_index(p.image), contract, names) for p in drift.worst])
    print(json.dumps(report) if args.json else "\n".join(_describe(report)))
    return 0 if report["same"] else 1


def _own(args: argparse.Namespace) -> Loaded:
    """The model of your own that the arguments describe, for a bundle that was built from it."""
    given = argparse.Namespace(**{**vars(args), "weights": args.weights or "auto", "network": None, "imgsz": None})
    return own_model.model_of(given).load(lambda what, done, total: None)


def _joints(distances: NDArray[np.float32], contract: Contract) -> dict[str, dict[str, float | None]]:
    import numpy as np

    columns = {"all": distances.ravel(), **dict(zip(contract.keypoints, distances.T, strict=True))}
    figures: dict[str, dict[str, float | None]] = {}
    for name, column in columns.items():
        seen = column[np.isfinite(column)]
        levels = np.percentile(seen, [50, 95, 100]).tolist() if len(seen) else [None] * 3
        figures[name] = dict(zip(_COLUMNS, levels, strict=True))
    return figures


def _describe(report: Mapping[str, Any]) -> list[str]:
    """The comparison for a terminal."""
    h = report["heatmaps"]
    lines = [
        f"{report['first']} and {report['second']}: {report['people']} crops ({report['data']})",
        f"outputs    relative error {h['relative']:.2e}, max {h['max']:.2e}, p99 {h['p99']:.2e}, mean {h['mean']:.2e}",
        *_layers(report),
        "joints     drift in px of the frame, where the first is confident",
    ]
    found = report["joints"]
    heads = "".join(f"{rule:>26}" for rule in found)
    columns = "".join(f"{name:>{width}}" for name, width in _COLUMNS.items())
    lines += [f"{'':18}{heads}", f"{'':18}" + columns * len(found)]
    for joint in next(iter(found.values())):
        cells = "".join("".join(_cell(found[rule][joint][k], w) for k, w in _COLUMNS.items()) for rule in found)
        lines.append(f"  {joint:16}{cells}")
    told = "EQUAL within" if report["same"] else "DIFFERENT by more than"
    return [*lines, f"{told} the bound of their precisions (relative error {report['bound']:g})."]


def _cell(value: float | None, width: int) -> str:
    return f"{'-' if value is None else format(value, '.2f'):>{width}}"


def _layers(report: Mapping[str, Any]) -> list[str]:
    layers = report["layers"]
    if layers is None:
        return ["layers     not compared: engines and TorchScript have no readable layers; compare their source graph"]
    if not layers["all"]:
        return ["layers     not compared: they have no tensor names in common; graphs of one bundle do"]
    count, first = len(layers["all"]), layers["first"]
    where = "none above the bound; layers that add most:"
    if first is not None:
        where = (
            f"diverging at {first['name']} ({first['op']}): error {first['error']:.2e}, of which "
            f"{first['inherited']:.2e} is from its inputs. Layers that add most:"
        )
    jumps = [f"  {j['name']:40} {j['op']:15} {j['inherited']:.2e} -> {j['error']:.2e}" for j in layers["jumps"]]
    return [f"layers     {count} compared, {where}", *jumps]


def _frames(args: argparse.Namespace, contract: Contract) -> Frames:
    from ...runtime.accuracy.frames import read_frames
    from ..demo.frames import demo_frames

    if args.annotations is not None:
        frames = read_frames(args.annotations, args.images, args.limit)
        if not frames.coco["images"]:
            raise InputError(f"{args.annotations}: contains no labelled people")
        return frames
    return demo_frames(len(contract.keypoints), "val", args.limit, "synthetic people")


def _write(folder: Path, report: Mapping[str, Any], drawn: list[NDArray[np.uint8]]) -> None:
    import cv2

    with atomic_write(folder / "compare.json") as file:
        file.write(json.dumps(report, indent=1).encode())
    for i, picture in enumerate(drawn, 1):
        with atomic_write(folder / f"worst_{i}.png") as file:
            file.write(cv2.imencode(".png", picture)[1].tobytes())


COMMAND = Command("Compare two graphs layer by layer", "check", add_arguments, run, extra="export")
