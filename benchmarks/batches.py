"""What a person costs in batches of several sizes, in OpenVINO: a dynamic batch, and one that is compiled in.

python -m posert.benchmarks.batches hrnet_w32.pose --precision int8 --threads 1

The bare network; sizes take turns of three runs, of which the first pays for the change of size. In CPU time, so that
what else runs on the machine matters less.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from posert.benchmarks.harness.script import script
from posert.runtime.backends.openvino import BACKEND
from posert.runtime.bundle.archive import Bundle


@script(goes_on=False)
def main() -> int:
    """Entry point; prints a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--precision", default="int8", choices=list(BACKEND.precisions))
    parser.add_argument("--sizes", default="1,2,4,8,16", help="comma list (1,2,4,8,16)")
    parser.add_argument("--static", default="1,8", help="comma list of sizes that are also compiled in (1,8)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    parser.add_argument("--rounds", type=int, default=9, help="rounds that are timed (9)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = measure(args, *([int(n) for n in text.split(",") if n] for text in (args.sizes, args.static)))
    if args.json:
        print(json.dumps(rows))
        return 0
    print(f"{args.bundle}, {args.precision}, {args.threads} threads, medians of {args.rounds} rounds")
    for row in rows:
        change = f"{row['ms_of_change']:8.1f} ms more after another size" if row["ms_of_change"] is not None else ""
        print(f"  {row['name']:16} {row['ms_per_person']:8.2f} ms per person{change}{row['same']}")
    return 0


def measure(args: argparse.Namespace, sizes: list[int], static: list[int]) -> list[dict[str, Any]]:
    """Median CPU milliseconds per person; and whether maps are those of a batch of one, to the last bit."""
    with Bundle(args.bundle) as bundle:
        model = bundle.read(bundle.artifacts[BACKEND.precisions[args.precision]])
        crops = np.resize(bundle.golden().crops, (max(sizes + static), *bundle.golden().crops.shape[1:]))
    calls: dict[tuple[str, int], Callable[[NDArray[np.uint8]], NDArray[np.float32]]] = {}
    dynamic = BACKEND.open(model, args.precision, args.threads)
    calls |= {("dynamic", n): lambda batch: dynamic.infer(batch)[0] for n in sizes}
    calls |= {("compiled in", n): _static(model, n, args) for n in static}
    one = np.concatenate([dynamic.infer(crops[i : i + 1].copy())[0].copy() for i in range(len(crops))])
    same = {key: np.array_equal(call(crops[: key[1]]), one[: key[1]]) for key, call in calls.items()}
    first: dict[tuple[str, int], list[float]] = {key: [] for key in calls}
    seen: dict[tuple[str, int], list[float]] = {key: [] for key in calls}
    for _ in range(args.rounds):
        for key, call in calls.items():
            for times in (first[key], seen[key], seen[key]):
                start = time.process_time()
                call(crops[: key[1]])
                times.append(1e3 * (time.process_time() - start))
    return [
        {
            "name": f"{kind}, {n}",
            "ms_per_person": statistics.median(times) / n,
            "ms_of_change": statistics.median(first[kind, n]) - statistics.median(times) if kind == "dynamic" else None,
            "same": "" if same[kind, n] else "; another result than one by one",
        }
        for (kind, n), times in seen.items()
    ]


def _static(model: bytes, n: int, args: argparse.Namespace) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    core = ov.Core()
    network = core.read_model(model)
    shape = network.input(0).get_partial_shape()
    shape[0] = n
    network.reshape(shape)
    config = {"INFERENCE_PRECISION_HINT": "bf16" if args.precision == "bf16" else "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(network, "CPU", {**config, "INFERENCE_NUM_THREADS": str(args.threads)})
    return partial(_infer, compiled.create_infer_request())


def _infer(request: ov.InferRequest, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    request.set_input_tensor(ov.Tensor(crops, shared_memory=True))
    request.infer(share_outputs=True)
    maps: NDArray[np.float32] = request.get_output_tensor().data
    return maps


if __name__ == "__main__":
    sys.exit(main())
