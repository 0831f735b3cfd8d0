"""Time and memory of `posert annotate` around the networks: a million synthetic results, planned, resumed and merged.

    python -m posert.benchmarks.annotate_records --records 1000000 --output out/records

No network runs and no image is read: results of the size of real ones (17 joints) are written by the writers that
workers use. Each step is a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posert.benchmarks.child import call
from posert.benchmarks.script import log
from posert.runtime.annotation.folder import FRAMES, JOB, PEOPLE, PLAN
from posert.runtime.annotation.frame_table import open_frame_table
from posert.runtime.annotation.ledger import Ledger
from posert.runtime.annotation.merge import merge
from posert.runtime.annotation.output import Output
from posert.runtime.annotation.plan import Plan
from posert.runtime.annotation.sources import Found
from posert.runtime.bundle.contract import Contract
from posert.runtime.datasets import dataset
from posert.runtime.pose.keypoints import Keypoints
from posert.runtime.results import FORMATS, FrameResult, Subject

_SHARD = 500
_FOLDER = "/archive/photos"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000, help="frames with one person each (1000000)")
    parser.add_argument("--output", type=Path, default=Path("out/records"), help="a new folder (out/records)")
    args = parser.parse_args(argv)
    shutil.rmtree(args.output, ignore_errors=True)
    args.output.mkdir(parents=True)
    rows = []
    folder, made = str(args.output), {"folder": str(args.output), "records": args.records}
    steps: list[tuple[str, str, dict[str, Any]]] = [(step, step, made) for step in ("plan", "write", "resume")]
    steps += [(f"merge {end}", "merge_all", {"folder": folder, "ending": end}) for end in (".parquet", ".coco.json")]
    for step, function, arguments in steps:
        log(step)
        answer = call(sys.executable, f"posert.benchmarks.annotate_records:{function}", arguments)
        rows.append((step, answer.seconds, answer.peak_mb, answer.value))
    for step, seconds, peak, value in rows:
        print(f"{step:18}{seconds:8.1f} s{peak:8.0f} MB  {json.dumps(value)}")
    return 0


def plan(folder: str, records: int) -> dict[str, Any]:
    """Cut the names into shards and write the plan."""
    made = Plan(Path(folder) / PLAN)
    names = [f"{i // 1000:05d}/{i:09d}.jpg" for i in range(records)]
    return {"shards": made.extend([Found("images", _FOLDER, names)], _SHARD, None)}


def write(folder: str, records: int) -> dict[str, Any]:
    """What the workers and the driver write."""
    root, known = Path(folder), dataset("coco")
    contract = Contract("coco", known.keypoints, known.flip_pairs, known.skeleton, known.sigmas, 192, 256, 48, 64)
    (root / JOB).write_text(json.dumps({"annotation": 1, "fingerprint": {}, "contract": contract.to_json()}))
    rng = np.random.default_rng(0)
    ledger = Ledger(Output(root))
    for shard in Plan(root / PLAN).shards:
        xy = rng.uniform(0, 640, (len(shard.names), 1, 17, 2)).astype(np.float32)
        score, boxes = rng.uniform(0, 1, xy.shape[:3]).astype(np.float32), np.zeros((1, 4), np.float32)
        files = [root / part / f"{shard.name}.parquet" for part in (FRAMES, PEOPLE)]
        subject = Subject(shard.source, contract, keys=shard.names)
        with (
            FORMATS.load("parquet").open(files[1], subject) as people,
            open_frame_table(files[0], shard.source, named=True) as frames,
        ):
            for i, name in enumerate(shard.names):
                found = Keypoints(xy[i], score[i], boxes, contract.keypoints)
                result = FrameResult(shard.first + i, name, found, 640, 480)
                people.add(result)
                frames.add(result)
            people.finish({})
            frames.finish()
        sizes = [file.stat().st_size for file in files]
        told = {"frames": len(shard.names), "people": len(shard.names), "failed": {}, "note": None, "bytes": sizes}
        ledger.done(shard, told)
    ledger.close()
    return {"megabytes": round(sum(p.stat().st_size for p in root.rglob("*") if p.is_file()) / 1e6)}


def resume(folder: str, records: int) -> dict[str, Any]:
    """What a run does before its first shard: read the plan and the journal, and pass over known sources."""
    began = time.perf_counter()
    root = Path(folder)
    made, ledger = Plan(root / PLAN), Ledger(Output(root))
    names = [f"{i // 1000:05d}/{i:09d}.jpg" for i in range(records)]
    new = made.extend([Found("images", _FOLDER, names)], _SHARD, None)
    left = ledger.left(made.shards, retry=True)
    ledger.close()
    return {"new": new, "left": len(left), "seconds": round(time.perf_counter() - began, 1)}


def merge_all(folder: str, ending: str) -> dict[str, Any]:
    """One file out of all shards."""
    target = Path(folder).with_name(f"records{ending}")
    merged = merge(Path(folder), target)
    size = target.stat().st_size
    target.unlink()
    return {"people": merged.people, "megabytes": round(size / 1e6)}


if __name__ == "__main__":
    sys.exit(main())
