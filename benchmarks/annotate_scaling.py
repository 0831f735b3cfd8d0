"""How `posert annotate` scales on one machine: two workers against one, and one against `PoseEstimator.stream`.

    python -m posert.benchmarks.annotate_scaling hrnet_w32.pose --data out/archive --output out/scaling.jsonl

The archive is 200 generated videos of 100 frames and 20,000 images, unless --videos and --images say otherwise. Each
round runs four things one after the other, in an order that is drawn, each in processes of its own: one worker, two
workers with as many threads each, the decoder alone, and `PoseEstimator.stream` on frames in memory; the last two on
the first worker's processors. Ratios are of one round, so that what slows a machine down slows down both sides.

* workers: frames per second of two over those of one.
* of stream: the time that `stream` takes for as many frames, over that of one worker less that of the decoder.
* MB: the most memory that a worker had in the first half of a run, and in the whole run.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posert.benchmarks import script
from posert.benchmarks.annotate_chaos import children
from posert.benchmarks.child import call
from posert.runtime import PoseEstimator
from posert.runtime.annotation.devices import parse
from posert.runtime.annotation.reading import Reading
from posert.runtime.annotation.shard import Shard
from posert.runtime.system.memory import resident_mb

_HERE = "posert.benchmarks.annotate_scaling"
_FPS, _SIZE = 25.0, (640, 480)
_HELD = 64  # frames in memory, again and again
_SAMPLE = 0.5  # seconds between two looks at the workers' memory


def archive(folder: Path, videos: int, frames: int, images: int) -> None:
    """Generate what is not there: pictures of blurred noise that moves, as hard to decode as usual footage."""
    rng = np.random.default_rng(0)
    large = cv2.GaussianBlur(rng.integers(0, 256, (960, 1280, 3), np.uint8), (0, 0), 5)
    large = cv2.normalize(large, np.empty_like(large), 0, 255, cv2.NORM_MINMAX)

    def picture(number: int) -> Any:
        x, y = 7 * number % _SIZE[0], 3 * number % _SIZE[1]
        return np.ascontiguousarray(large[y : y + _SIZE[1], x : x + _SIZE[0]])

    for i in range(videos):
        path = folder / "videos" / f"{i:05d}.mp4"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            writer = cv2.VideoWriter(str(path.with_name("part.mp4")), cv2.VideoWriter.fourcc(*"mp4v"), _FPS, _SIZE)
            for j in range(frames):
                writer.write(picture(i * frames + j))
            writer.release()
            path.with_name("part.mp4").rename(path)
    for i in range(images):
        path = folder / "images" / f"{i:06d}.jpg"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".jpg", picture(i))[1].tobytes())


def annotated(bundle: str, data: str, output: str, devices: str) -> dict[str, Any]:
    """A whole run of `posert annotate`; seconds are those after the first worker was ready."""
    command = [sys.executable, "-m", "posert.runtime.cli", "annotate", data, "--bundle", bundle, "--json"]
    command += ["--output", output, "--devices", devices]
    shutil.rmtree(output, ignore_errors=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        samples: list[float] = []
        watch = threading.Thread(target=_watch, args=(process, samples))
        watch.start()
        said, errors = process.communicate()
        watch.join()
    shutil.rmtree(output, ignore_errors=True)
    if process.returncode:
        raise SystemExit(f"posert annotate ended with {process.returncode}: {errors[-2000:]}")
    summary = json.loads(said)
    half = max(samples[: len(samples) // 2], default=0.0)
    rate = summary["run"]["frames_per_second"]
    return {"frames": summary["frames"], "rate": rate, "mb_half": half, "mb": max(samples, default=0.0)}


def _watch(process: subprocess.Popen[str], samples: list[float]) -> None:
    while process.poll() is None:
        samples.append(max((resident_mb(pid) or 0.0 for pid in children(process.pid)), default=0.0))
        time.sleep(_SAMPLE)


def _shards(data: str) -> list[Shard]:
    root = Path(data)
    names = tuple(p.name for p in sorted((root / "images").glob("*.jpg")))
    found = [Shard(0, "images", str(root / "images"), names)] if names else []
    return found + [Shard(0, "video", str(path)) for path in sorted((root / "videos").glob("*.mp4"))]


def decoded(data: str, processors: list[int]) -> dict[str, Any]:
    """What a worker reads, by its own code, and nothing else."""
    _pin(processors)
    began, frames = time.perf_counter(), 0
    for shard in _shards(data):
        frames += sum(image is not None for _, image in Reading(shard, len(processors)))
    return {"frames": frames, "rate": frames / (time.perf_counter() - began)}


def streamed(bundle: str, data: str, processors: list[int], frames: int) -> dict[str, Any]:
    """`PoseEstimator.stream` on so many frames in memory."""
    _pin(processors)
    held: list[Any] = []
    for shard in _shards(data):
        held += [image for _, image in Reading(shard) if image is not None][: _HELD - len(held)]
        if len(held) == _HELD:
            break
    pose = PoseEstimator(bundle, threads=len(processors), throughput=True)
    sum(1 for _ in pose.stream((image, None) for image in held))
    began = time.perf_counter()
    done = sum(1 for _ in pose.stream((held[i % len(held)], None) for i in range(frames)))
    return {"frames": done, "rate": done / (time.perf_counter() - began)}


def _pin(processors: Sequence[int]) -> None:
    os.sched_setaffinity(0, processors)
    cv2.setNumThreads(len(processors))


def one_round(bundle: str, data: str, folder: Path, devices: str, order: Sequence[str]) -> dict[str, Any]:
    """The four measurements."""
    first = devices.split(",")[0]
    pinned = list(parse(first)[0].numbers)
    count = sum(_lengths(data))
    found: dict[str, Any] = {}
    for what in order:
        if what in ("one", "two"):
            found[what] = annotated(bundle, data, str(folder / what), first if what == "one" else devices)
        elif what == "decode":
            found[what] = call(sys.executable, f"{_HERE}:decoded", {"data": data, "processors": pinned}).value
        else:
            arguments = {"bundle": bundle, "data": data, "processors": pinned, "frames": count}
            found[what] = call(sys.executable, f"{_HERE}:streamed", arguments).value
        script.log(f"{what}: {found[what]['rate']:.1f} frames/s")
    left = 1 / found["one"]["rate"] - 1 / found["decode"]["rate"]
    found["workers"] = found["two"]["rate"] / found["one"]["rate"]
    found["of_stream"] = 1 / found["stream"]["rate"] / left
    return found


def _lengths(data: str) -> Iterator[int]:
    for shard in _shards(data):
        yield len(shard.names) or int(cv2.VideoCapture(shard.source).get(cv2.CAP_PROP_FRAME_COUNT))


def _work(args: Any) -> int:
    archive(args.data, args.videos, args.frames, args.images)
    key = {"bundle": script.digest(args.bundle), "devices": args.devices, "shards": [args.videos, args.images]}
    rng = random.Random(0)
    with script.open_journal(args.output, "annotate scaling", **key) as journal:
        rounds = journal.records
        for number in range(args.rounds):
            order = rng.sample(["one", "two", "decode", "stream"], 4)
            if number >= len(rounds):
                script.log(f"round {number + 1} of {args.rounds}")
                found = one_round(args.bundle, str(args.data), args.output.parent / "scaling", args.devices, order)
                journal.add(found)
    rows = []
    for name in ("one", "two", "decode", "stream"):
        rates = [one[name]["rate"] for one in rounds]
        memory = [str(round(max(r[name][key] for r in rounds))) for key in ("mb_half", "mb") if key in rounds[0][name]]
        rows.append((name, _median(rates), ", ".join(memory)))
    print(script.markdown("run | frames/s | MB of a worker: first half, whole run", rows))
    print(f"two workers over one: {_median([r['workers'] for r in rounds], 3)}")
    print(f"one worker of stream, without decoding: {_median([r['of_stream'] for r in rounds], 3)}")
    return 0


def _median(values: Sequence[float], digits: int = 1) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = script.parser(__doc__, "out/scaling.jsonl")
    parser.add_argument("bundle")
    parser.add_argument("--data", type=Path, default=Path("out/archive"), help="folder of the archive (out/archive)")
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--frames", type=int, default=100, help="of a video (100)")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--devices", default="cpu:0,1", help="of the two workers (cpu:0,1)")
    parser.add_argument("--rounds", type=int, default=3)
    return script.run(parser, _work, argv)


if __name__ == "__main__":
    sys.exit(main())
