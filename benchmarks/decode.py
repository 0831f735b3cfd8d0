"""What it costs to read joints from heatmaps, rule by rule, in CPU time.

python -m posert.benchmarks.decode

The maps are those of 17 joints at 64x48 with a blob and some noise each, as a network gives them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posert.benchmarks.harness.script import script
from posert.runtime.bundle.contract import Contract
from posert.runtime.pose.decode import decode
from posert.runtime.system.machine import machine

JOINTS, HEIGHT, WIDTH = 17, 64, 48
RULES = {
    **dict.fromkeys(("none", "default", "unbiased", "udp", "hourglass"), 1.0),
    **dict.fromkeys(("megvii", "megvii_original"), 255.0),
    "udp_combined": 1.0,
}
"""Each rule with the height of the blobs that its networks were trained with."""
CONTRACT = Contract("", ("",) * JOINTS, (), (), (1.0,) * JOINTS, 4 * WIDTH, 4 * HEIGHT, WIDTH, HEIGHT)


@script(goes_on=False)
def main() -> int:
    """Entry point; prints a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", default="1,8", help="comma list of people per call (1,8)")
    parser.add_argument("--rounds", type=int, default=40, help="rounds that are timed (40)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    people = [int(n) for n in args.people.split(",")]
    rows = measure(people, args.rounds)
    if args.json:
        print(json.dumps({"machine": asdict(machine()), "ms_per_person": rows}))
        return 0
    print(f"ms of CPU per person, median of {args.rounds} rounds; {JOINTS} joints, {HEIGHT}x{WIDTH} maps")
    print(f"  {'rule':16}" + "".join(f"{n:5} people" for n in people))
    for rule, row in rows.items():
        print(f"  {rule:16}" + "".join(f"{row[str(n)]:12.3f}" for n in people))
    return 0


def measure(people: list[int], rounds: int) -> dict[str, dict[str, float]]:
    """Median CPU milliseconds per person, by rule and people per call; the rules take turns."""
    calls = {(rule, n): blobs(rule, n) for rule in RULES for n in people}
    seen: dict[tuple[str, int], list[float]] = {key: [] for key in calls}
    for i in range(rounds + 3):
        for (rule, n), maps in calls.items():
            contract = replace(CONTRACT, decode=rule)
            start = time.process_time()  # of all threads, so that what else runs on the machine is left out
            for _ in range(5):
                decode((maps,), contract)
            if i >= 3:
                seen[rule, n].append(1e3 * (time.process_time() - start) / 5 / n)
    return {rule: {str(n): statistics.median(seen[rule, n]) for n in people} for rule in RULES}


def blobs(rule: str, people: int) -> NDArray[np.float32]:
    """Heatmaps `(N, 17, 64, 48)`, or `(N, 51, 64, 48)` with offset maps."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, WIDTH, (people, JOINTS, 1, 1)), rng.uniform(0, HEIGHT, (people, JOINTS, 1, 1))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    maps: NDArray[Any] = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8) * RULES[rule]
    maps += rng.normal(0, 0.005, maps.shape) * RULES[rule]
    if rule == "udp_combined":
        shape = (people, 3 * JOINTS, HEIGHT, WIDTH)
        maps = np.stack([maps, (x - columns) / 4, (y - rows) / 4], axis=2).reshape(shape)
    return maps.astype(np.float32)


if __name__ == "__main__":
    sys.exit(main())
