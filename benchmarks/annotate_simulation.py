"""How `posert annotate` scales beyond what one has: a discrete-event simulation, held against real runs.

    python -m posert.benchmarks.annotate_simulation validate hrnet_w32.pose --data out/archive
    python -m posert.benchmarks.annotate_simulation table --rate 100 --driver-ms 1.5

`validate` annotates an archive (of `annotate_scaling`) with one worker and with two. From the journal of the first run
it takes the rate of a worker, how much that varies from shard to shard, and the time that a worker needs to start; it
measures what the driver does per shard; and it prints what the simulation says of both runs beside what they took.
`table` simulates a billion frames with 1 to 1,000 workers.

Simulated are: workers that start, take the next shard of the plan and differ in speed; a driver that serves one worker
at a time; a storage whose bandwidth the workers share; and workers that are lost, whose shard begins again elsewhere.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from posert.benchmarks import script
from posert.benchmarks.annotate_scaling import archive
from posert.runtime.annotation.folder import JOURNAL, PLAN
from posert.runtime.annotation.journal import Journal
from posert.runtime.annotation.ledger import Ledger
from posert.runtime.annotation.output import Output
from posert.runtime.annotation.plan import Plan
from posert.runtime.errors import PosertError


@dataclass(frozen=True)
class Model:
    """What a run consists of. Seconds, frames per second, MB.

    Attributes:
        workers: how many.
        rate: frames per second of a worker whose frames are there.
        spread: standard deviation of the logarithm of a shard's time.
        speeds: the same between workers, of machines that are not alike.
        start: seconds until a worker is ready.
        driver: seconds that the driver needs for each shard.
        bandwidth: MB per second that the storage gives to all workers together.
        frame_mb: MB that are read for a frame.
        lost: workers lost per worker and hour.
        replaced: seconds until another one is started for one that was lost.
    """

    workers: int
    rate: float
    spread: float = 0.05
    speeds: float = 0.0
    start: float = 2.0
    driver: float = 0.001
    bandwidth: float = math.inf
    frame_mb: float = 0.1
    lost: float = 0.0
    replaced: float = 60.0


@dataclass(frozen=True)
class Outcome:
    """What a simulated run took.

    Attributes:
        seconds: from its begin to its end.
        redone: frames that were annotated by workers that were lost.
        driver_busy: share of the time in which the driver did something.
        last: seconds from the last shard that was handed out to the end.
        of_linear: frames per second, over what the workers could do if none ever waited.
    """

    seconds: float
    redone: float
    driver_busy: float
    last: float
    of_linear: float


def simulate(model: Model, shards: Sequence[int], seed: int = 0) -> Outcome:
    """A run of shards with so many frames each, in this order."""
    rng = random.Random(seed)
    speed = [model.rate * math.exp(rng.gauss(0, model.speeds)) for _ in range(model.workers)]
    per_hour = model.lost / 3600
    # (time, order of entry, worker, shard): a worker is free then. A negative shard was lost with its worker.
    events: list[tuple[float, int, int, int]] = []
    for worker in range(model.workers):
        heapq.heappush(events, (model.start, worker, worker, 0))
    entries, following, again = model.workers, 0, list[int]()
    driver = served = redone = end = last = 0.0
    working, idle = 0, list[int]()
    while events:
        now, _, worker, outcome = heapq.heappop(events)
        if outcome:
            working -= 1
            if outcome < 0:
                again.append(-outcome - 1)
                if idle:  # somebody waits for work
                    heapq.heappush(events, (now, entries, idle.pop(), 0))
                    entries += 1
                ready = now + model.replaced + model.start
                heapq.heappush(events, (ready, entries, worker, 0))
                entries += 1
                continue
            end = max(end, now)
        driver = max(driver, now) + model.driver  # it serves one after the other
        served += model.driver
        if again:
            shard = again.pop()
        elif following < len(shards):
            shard, following = following, following + 1
        else:
            idle.append(worker)
            continue
        working, last = working + 1, driver
        frames = shards[shard]
        alone = 1 / speed[worker]
        shared = model.frame_mb * working / model.bandwidth  # reading is overlapped: the slower of the two counts
        seconds = frames * max(alone, shared) * math.exp(rng.gauss(0, model.spread) - model.spread**2 / 2)
        dies = rng.expovariate(per_hour) if per_hour else math.inf
        if dies < seconds:
            redone += frames * dies / seconds
            heapq.heappush(events, (driver + dies, entries, worker, -shard - 1))
        else:
            heapq.heappush(events, (driver + seconds, entries, worker, shard + 1))
        entries += 1
    return Outcome(end, redone, served / end, end - last, sum(shards) / end / sum(speed))


def _run(bundle: str, data: str, output: Path, devices: str, images: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "posert.runtime.cli", "annotate", data, "--bundle", bundle, "--json"]
    command += ["--output", str(output), "--devices", devices, "--shard-images", str(images)]
    shutil.rmtree(output, ignore_errors=True)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise PosertError(done.stderr[-2000:])
    return dict(json.loads(done.stdout))


def measured_driver(folder: Path, times: int = 300) -> float:
    """Seconds that the driver needs to keep that a shard is done, on this disk."""
    with tempfile.TemporaryDirectory(dir=folder) as made:
        shutil.copy(folder / JOURNAL, Path(made) / JOURNAL)
        plan, ledger = Plan(folder / PLAN), Ledger(Output(Path(made)))
        told = {"frames": 500, "people": 500, "failed": {}, "note": None, "bytes": [0, 0], "seconds": {}}
        began = time.perf_counter()
        for number in range(times):
            ledger.done(plan.shards[number % len(plan)], told)
        ledger.close()
        return (time.perf_counter() - began) / times


def _validate(args: Any) -> None:
    archive(args.data, args.videos, args.frames, args.images)
    one, two = args.devices.split(",")[0], args.devices
    first = _run(args.bundle, str(args.data), args.output / "one", one, args.shard_images)
    second = _run(args.bundle, str(args.data), args.output / "two", two, args.shard_images)
    with Journal(args.output / "one" / JOURNAL) as journal:
        records = {r["shard"]: r for r in journal.records()}
    shards = [records[number]["frames"] for number in sorted(records)]
    each = [sum(r["seconds"].values()) / r["frames"] for r in records.values()]
    start = first["run"]["seconds"] - first["frames"] / first["run"]["frames_per_second"]
    driver = measured_driver(args.output / "one")
    rate = sum(shards) / sum(sum(r["seconds"].values()) for r in records.values())
    spread = statistics.pstdev(math.log(x) for x in each)
    model = Model(1, rate, spread, start=start, driver=driver)
    print(f"{rate:.1f} frames/s, spread {spread:.3f}, start {start:.1f} s, driver {1e3 * driver:.2f} ms a shard")
    rows = []
    for workers, real in ((1, first), (2, second)):
        said = [simulate(replace(model, workers=workers), shards, seed).seconds for seed in range(20)]
        took = real["run"]["seconds"]
        rows.append(
            (str(workers), f"{took:.1f}", f"{statistics.mean(said):.1f}", f"{statistics.mean(said) / took:.3f}")
        )
    print(script.markdown("workers | real s | simulated s | simulated / real", rows))


def _table(args: Any) -> None:
    model = Model(
        1,
        args.rate,
        args.spread,
        args.speeds,
        args.start,
        args.driver_ms / 1e3,
        args.bandwidth,
        args.frame_mb,
        args.lost,
    )
    shards = [args.shard] * (args.total // args.shard)
    rows = []
    for workers in args.workers:
        outcome = simulate(replace(model, workers=workers), shards)
        rows.append(
            (
                f"{workers:,}",
                f"{outcome.seconds / 3600:.2f}",
                f"{args.total / outcome.seconds:,.0f}",
                f"{outcome.of_linear:.3f}",
                f"{outcome.driver_busy:.1%}",
                f"{outcome.last:.0f}",
                f"{outcome.redone / args.total:.2%}",
            )
        )
    print(script.markdown("workers | hours | frames/s | of linear | driver busy | tail s | redone", rows))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    real = commands.add_parser("validate")
    real.set_defaults(work=_validate)
    real.add_argument("bundle")
    real.add_argument("--data", type=Path, default=Path("out/archive"))
    real.add_argument("--videos", type=int, default=20)
    real.add_argument("--frames", type=int, default=100, help="of a video (100)")
    real.add_argument("--images", type=int, default=2000)
    real.add_argument("--shard-images", type=int, default=100)
    real.add_argument("--devices", default="cpu:0,1", help="of the two workers (cpu:0,1)")
    real.add_argument("--output", type=Path, default=Path("out/simulation"), help="folder (out/simulation)")
    table = commands.add_parser("table")
    table.set_defaults(work=_table)
    table.add_argument("--total", type=int, default=1_000_000_000, help="frames (1000000000)")
    table.add_argument("--shard", type=int, default=5000, help="frames of a shard (5000)")
    table.add_argument("--rate", type=float, required=True, help="frames per second of a worker")
    table.add_argument("--workers", type=script.numbers, default=[1, 10, 30, 100, 300, 1000], metavar="N,...")
    for name, default in (("spread", 0.1), ("speeds", 0.1), ("start", 10.0), ("driver-ms", 2.0), ("lost", 0.0)):
        table.add_argument(f"--{name}", type=float, default=default, help=f"see Model ({default:g})")
    table.add_argument("--bandwidth", type=float, default=math.inf, help="MB per second of the storage (no limit)")
    table.add_argument("--frame-mb", type=float, default=0.1, help="MB read for a frame (0.1)")
    args = parser.parse_args(argv)
    try:
        args.work(args)
    except PosertError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
