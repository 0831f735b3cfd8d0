"""How many runs OpenVINO should have under way: streams, requests in flight and people per run, on ready crops.

python -m posert.benchmarks.streams hrnet_w32.pose --precision int8

Contenders take turns, in another order each round. `latency` runs one batch on all cores, `throughput` as many side by
side as OpenVINO chooses; the runtime has one request more under way than run at a time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posert.benchmarks.harness.script import script
from posert.runtime.backends import AsyncSession, Request
from posert.runtime.backends.openvino import BACKEND
from posert.runtime.bundle.archive import Bundle

PEOPLE = 64  # per turn


@script(goes_on=False)
def main() -> int:
    """Entry point; prints a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--precision", default="int8", choices=list(BACKEND.precisions))
    parser.add_argument("--sizes", default="1,4,8", help="comma list of people per run (1,4,8)")
    parser.add_argument("--threads", type=int, help="bound on CPU threads")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that are timed (7)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = measure(args, [int(n) for n in args.sizes.split(",")])
    if args.json:
        print(json.dumps(rows))
        return 0
    print(f"{args.bundle}, {args.precision}, medians of {args.rounds} rounds of {PEOPLE} people")
    for row in rows:
        print(
            f"  {row['mode']:10} {row['streams']} streams, {row['in_flight']} in flight, {row['people']} people per run"
            f"{row['ms_per_person']:9.2f} ms per person, {row['ratio']:.3f} of one run at a time"
        )
    return 0


def measure(args: argparse.Namespace, sizes: list[int]) -> list[dict[str, Any]]:
    """Median milliseconds per person, and the median ratio within a round to latency mode with one run at a time."""
    with Bundle(args.bundle) as bundle:
        model = bundle.read(bundle.artifacts[BACKEND.precisions[args.precision]])
        golden = bundle.golden().crops
    calls: dict[tuple[str, int, int, int], Callable[[], None]] = {}
    for mode, compile_graph in (("latency", BACKEND.open), ("throughput", BACKEND.open_throughput)):
        assert compile_graph is not None
        session = compile_graph(model, args.precision, args.threads)
        assert isinstance(session, AsyncSession)
        streams = len(session.requests()) - 1
        for size, more in itertools.product(sizes, (0, 1, 2) if mode == "throughput" else (0, 1)):
            requests = [*session.requests(), *session.requests()][: streams + more]
            crops = [np.resize(golden, (size, *golden.shape[1:])) for _ in requests]
            calls[mode, streams, streams + more, size] = partial(_run, requests, crops)
    times: dict[tuple[str, int, int, int], list[float]] = {key: [] for key in calls}
    order = random.Random(0)
    for i in range(args.rounds + 1):
        for key, call in order.sample(list(calls.items()), len(calls)):
            start = time.perf_counter()
            call()
            if i:
                times[key].append(1e3 * (time.perf_counter() - start) / (PEOPLE // key[3] * key[3]))
    found = []
    for (mode, streams, in_flight, size), seen in times.items():
        base = next(value for key, value in times.items() if key[0] == "latency" and key[2] == 1 and key[3] == size)
        ratio = statistics.median(a / b for a, b in zip(seen, base, strict=True))
        row = {"mode": mode, "streams": streams, "in_flight": in_flight, "people": size}
        found.append({**row, "ms_per_person": statistics.median(seen), "ratio": ratio})
    return found


def _run(requests: list[Request], crops: list[NDArray[np.uint8]]) -> None:
    running: deque[Request] = deque()
    for i in range(PEOPLE // len(crops[0])):
        if len(running) == len(requests):
            running.popleft().wait()
        requests[i % len(requests)].start(crops[i % len(requests)])
        running.append(requests[i % len(requests)])
    for request in running:
        request.wait()


if __name__ == "__main__":
    sys.exit(main())
