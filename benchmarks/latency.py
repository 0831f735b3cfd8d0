"""Frame to keypoints against the bare engine, PyTorch eager and ONNX Runtime, interleaved in one run.

python -m posert.benchmarks.latency hrnet_w32.pose --people 8

Every round times each contender once, in turn, so that a slow moment of the machine falls on all of them; figures are
medians over the rounds, ratios are medians of the ratios within a round.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..export.archs import build_arch
from ..export.catalog import row
from ..export.demo.people import render
from ..export.environment import machine, versions
from ..export.reference import Reference
from ..export.weights import load_weights
from ..runtime.bundle import Bundle
from ..runtime.choice import open_session
from ..runtime.errors import PosertError
from ..runtime.estimator import PoseEstimator
from ..runtime.preprocess import boxes_to_center_scale, crop, crop_matrices

WARM_UP = 3


def main() -> int:
    """Entry point; prints a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--people", type=int, default=8, help="people in the frame (8)")
    parser.add_argument("--rounds", type=int, default=15, help="rounds that are timed (15)")
    parser.add_argument("--threads", type=int, help="bound on CPU threads of every contender")
    parser.add_argument("--weights", help="for PyTorch eager, where the bundle was made from a file")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    try:
        result = measure(args.bundle, args.people, args.rounds, args.threads, args.weights)
    except PosertError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    if args.json:
        print(json.dumps(result))
    else:
        print(f"{result['bundle']}, {args.people} people per frame, {args.rounds} rounds, {result['machine']}")
        for name, r in result["rows"].items():
            print(
                f"  {name:44} {r['ms_per_person']:8.2f} ms per person, {r['ratio']:6.3f} x frame to keypoints in int8"
            )
    return 0


def measure(path: str, people: int, rounds: int, threads: int | None, weights: str | None) -> dict[str, Any]:
    """Time all contenders; returns rows by name with `ms_per_person` and `ratio` to the first row."""
    frame, boxes = crowd(people)
    with Bundle(path) as bundle:
        c = bundle.contract
        center, extent = boxes_to_center_scale(boxes, c.width, c.height, c.padding)
        crops = crop(frame, crop_matrices(center, extent, c.width, c.height, c.udp), c.width, c.height)
        contenders: dict[str, Callable[[], Any]] = {}
        for precision in ("int8", "fp32"):
            pose = PoseEstimator(bundle, backend="openvino", precision=precision, threads=threads)
            contenders[f"frame to keypoints, OpenVINO {precision}"] = partial(pose, frame, boxes)
            session = open_session(bundle, "openvino", precision, threads)
            contenders[f"bare engine, OpenVINO {precision}"] = partial(session.infer, crops)
        ort = open_session(bundle, "onnxruntime", "fp32", threads)
        contenders["bare engine, ONNX Runtime fp32"] = partial(ort.infer, crops)
        eager = _eager(bundle, weights, threads)
        contenders["bare network, PyTorch eager fp32"] = partial(eager.infer, crops)
        times: dict[str, list[float]] = {name: [] for name in contenders}
        rng = random.Random(0)
        for i in range(WARM_UP + rounds):
            # In another order each round: who comes after PyTorch finds its threads still spinning on the cores.
            for name, call in rng.sample(list(contenders.items()), len(contenders)):
                start = time.perf_counter()
                call()
                if i >= WARM_UP:
                    times[name].append(time.perf_counter() - start)
    base = times[next(iter(times))]
    rows = {
        name: {
            "ms_per_person": 1e3 * statistics.median(seen) / people,
            "ratio": statistics.median(a / b for a, b in zip(seen, base, strict=True)),
        }
        for name, seen in times.items()
    }
    return {
        "bundle": bundle.name,
        "people": people,
        "rounds": rounds,
        "machine": machine(),
        "versions": versions(),
        "rows": rows,
    }


def crowd(people: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A frame of synthetic people, several pictures side by side, and `people` boxes xyxy in it."""
    pictures: list[NDArray[np.uint8]] = []
    boxes: list[list[float]] = []
    index = 0
    while len(boxes) < people:
        image, annotations = render("val", index)
        left = index * image.shape[1]
        boxes += [
            [left + a["bbox"][0], a["bbox"][1], left + a["bbox"][0] + a["bbox"][2], a["bbox"][1] + a["bbox"][3]]
            for a in annotations
        ]
        pictures.append(image)
        index += 1
    return np.hstack(pictures), np.array(boxes[:people], np.float64)


def _eager(bundle: Bundle, weights: str | None, threads: int | None) -> Reference:
    model = bundle.manifest["model"]
    source = weights or model["checkpoint"]["source"]
    if source == "file":
        raise PosertError("this bundle was made from a file: name it with --weights, for PyTorch eager needs it too")
    if threads is not None:
        torch.set_num_threads(threads)
    catalog_row = row(model["id"])
    network = build_arch(catalog_row.arch, catalog_row.keypoints)
    load_weights(catalog_row, network, source)
    return Reference(network, bundle.contract)


if __name__ == "__main__":
    sys.exit(main())
