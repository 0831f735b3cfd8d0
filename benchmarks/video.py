"""How near does `posert run` come to what the processor allows, from a video to drawn people with ids?

    python -m posert.export.demo.detector --output demo_detector.onnx
    python -m posert.benchmarks.video hrnet_demo.pose demo_detector.onnx

Each stage is timed alone in processor time, on one core: reading, detection, crops and network, tracking, drawing and
writing. Their sum and the number of cores bound the frames per second of the whole. No program reaches that bound:
cores that work at the same time are slower than one that works alone. What they do together is measured by as many runs
of the command side by side as there are cores, each on a core of its own, with one thread for each network. The command
runs in turn with both, and its shares of them are the medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from posert.benchmarks.script import digest, log, markdown, numbers, open_journal, parser, run
from posert.export.demo.videos import FPS, clip
from posert.runtime.detection import Detector
from posert.runtime.errors import PosertError
from posert.runtime.estimator import PoseEstimator
from posert.runtime.media.drawn import DrawnVideo
from posert.runtime.media.sources import open_source
from posert.runtime.pose.draw import draw
from posert.runtime.pose.keypoints import Keypoints
from posert.runtime.tracking import Tracker

Image = NDArray[np.uint8]
_ON_CORE = "import os, sys; os.sched_setaffinity(0, [{}]); from posert.runtime.cli.main import main; sys.exit(main())"

_SIZE = 1920, 1080
_CLIP = 5  # of the split val: two people
_STAGES = "read", "detect", "pose", "track", "draw", "write"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; prints a Markdown table."""
    arguments = parser(__doc__, "out/video.jsonl")
    arguments.add_argument("bundle", type=Path)
    arguments.add_argument("detector", type=Path, help="an ONNX file")
    arguments.add_argument("--frames", type=int, default=200, help="frames of the video (200)")
    arguments.add_argument("--detect-every", type=numbers, default="1,3", help="a row for each (1,3)")
    arguments.add_argument("--rounds", type=int, default=5, help="each stage and the command, in turn (5)")
    return run(arguments, _work, argv)


def _work(args: argparse.Namespace) -> int:
    key = {"bundle": digest(args.bundle), "detector": digest(args.detector), "frames": args.frames}
    journal = open_journal(args.output, "video", **key, rounds=args.rounds)
    done = {(r["every"], r["drawn"]): r for r in journal.records}
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "people.mp4"
        frames = _film(video, args.frames)
        for every in args.detect_every:
            for drawn in (False, True):
                if (every, drawn) in done:
                    continue
                record = _measured(args, video, frames, every, drawn)
                done[every, drawn] = record
                journal.add(record)
                log(f"detector on every frame of {every}, {'drawn' if drawn else 'not drawn'}: {record['share']:.3f}")
    print("; ".join(sorted({f"{r['ran']}, {r['people']:.2g} people per frame" for r in done.values()})), end="\n\n")
    print(table(done.values()))
    return 0


def _film(path: Path, count: int) -> list[Image]:
    """A clip of two people as a video in full HD; returns what is read back of it."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, _SIZE)
    for frame, _ in clip("val", _CLIP, count):
        height = _SIZE[1]
        width = frame.shape[1] * height // frame.shape[0]
        large = cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC)
        edge = _SIZE[0] - width
        writer.write(cv2.copyMakeBorder(large, 0, 0, edge // 2, edge - edge // 2, cv2.BORDER_REFLECT))
    writer.release()
    return [image for _, image in open_source(str(path)) if image is not None]


def _measured(args: argparse.Namespace, video: Path, frames: list[Image], every: int, drawn: bool) -> dict[str, Any]:
    """A row: processor time per frame of each stage, ms, and frames per second of the command."""
    stages = _Stages(args.bundle, args.detector, video, frames, every)
    wanted = [name for name in _STAGES if drawn or name not in ("draw", "write")]
    cost: dict[str, list[float]] = {name: [] for name in wanted}
    rates, shares, side_by_side, of_these = [], [], [], []
    for _ in range(args.rounds):
        for name in wanted:
            cost[name].append(_processor_ms(getattr(stages, name)) / len(frames))
        rates.append(_command(args, video, every, drawn))
        side_by_side.append(_side_by_side(args, video, every, drawn))
        of_these.append(rates[-1] / side_by_side[-1])
        total = sum(times[-1] for times in cost.values())
        shares.append(rates[-1] * total / 1e3 / _cores())
    medians = {name: float(np.median(times)) for name, times in cost.items()}
    return {
        "every": every,
        "drawn": drawn,
        "ran": stages.ran,
        "cores": _cores(),
        "people": float(np.mean([len(boxes) for boxes in stages.boxes])),
        "ms": medians,
        "rate": float(np.median(rates)),
        "share": float(np.median(shares)),
        "spread": [min(shares), max(shares)],
        "side_by_side": float(np.median(side_by_side)),
        "share_of_these": float(np.median(of_these)),
        "spread_of_these": [min(of_these), max(of_these)],
    }


class _Stages:
    """Each stage alone, on frames in memory, with one thread."""

    def __init__(self, bundle: Path, detector: Path, video: Path, frames: list[Image], every: int) -> None:
        self._video, self._frames, self._every = video, frames, every
        self._detector = Detector(detector, threads=1)
        self._pose = PoseEstimator(bundle, threads=1)
        self.ran = f"{self._pose.selection.backend} {self._pose.selection.precision}"
        self._found = [self._detector(frame) if i % every == 0 else None for i, frame in enumerate(frames)]
        self.boxes: list[NDArray[np.float32]] = []
        self._people: list[Keypoints] = []
        self._follow(look=True)

    def read(self) -> None:
        for _ in open_source(str(self._video)):
            pass

    def detect(self) -> None:
        for frame in self._frames[:: self._every]:
            self._detector(frame)

    def pose(self) -> None:
        for frame, boxes in zip(self._frames, self.boxes, strict=True):
            self._pose(frame, boxes)

    def track(self) -> None:
        self._follow(look=False)

    def _follow(self, look: bool) -> None:
        """The tracker as in the pipeline; with `look` the people are estimated, else they are known."""
        tracker, size = Tracker(self._pose.contract.sigmas), (_SIZE[1], _SIZE[0])
        for i, (frame, found) in enumerate(zip(self._frames, self._found, strict=True)):
            score = None
            if found is None:
                boxes = tracker.predict(size)
            else:
                boxes, score, _ = tracker.merge(found.boxes, found.score, size)
            if look:
                self.boxes.append(boxes)
                self._people.append(self._pose(frame, boxes))
            people = self._people[i]
            tracker.update(people.xy, people.score, people.boxes, score)

    def draw(self) -> None:
        for frame, people in zip(self._frames, self._people, strict=True):
            draw(frame, people, self._pose.contract, boxes=True)

    def write(self) -> None:
        with tempfile.TemporaryDirectory() as folder, DrawnVideo(Path(folder) / "out.mp4", FPS, "clip") as out:
            for frame in self._frames:
                out.add(0, frame)


def _processor_ms(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return 1e3 * (time.process_time() - began)


def _side_by_side(args: argparse.Namespace, video: Path, every: int, drawn: bool) -> float:
    """Frames per second of as many runs at a time as there are cores, each on its own core."""
    cores = sorted(os.sched_getaffinity(0))
    with ThreadPoolExecutor(len(cores)) as pool:
        return sum(pool.map(lambda core: _command(args, video, every, drawn, core), cores))


def _command(args: argparse.Namespace, video: Path, every: int, drawn: bool, core: int | None = None) -> float:
    """Frames per second of `posert run`, from the first frame to the last, on all cores or on one."""
    with tempfile.TemporaryDirectory() if drawn else nullcontext(str(video.parent)) as folder:
        target = Path(folder) / ("out.mp4" if drawn else "out.json")
        line = [sys.executable, "-m", "posert.runtime.cli", "run", args.bundle, video, "--detector", args.detector]
        line += ["--detect-every", every, "--output", target, "--json"]
        if core is not None:
            line[:2] = [sys.executable, "-c", _ON_CORE.format(core)]
            line[3:5] = ["run"]
            line += ["--threads", 1]
        done = subprocess.run([str(word) for word in line], capture_output=True, text=True)
    if done.returncode:
        raise PosertError(f"posert run ended with {done.returncode}: {done.stderr}")
    return float(json.loads(done.stdout)["frames_per_second"])


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def table(records: Any) -> str:
    """A row for each way to run."""
    head = (
        "detector on, drawn | "
        + " | ".join(f"{name}, ms" for name in _STAGES)
        + " | sum | bound, fps | side by side, fps | run, fps | of the bound | of side by side"
    )
    rows = []
    for r in records:
        total = sum(r["ms"].values())
        name = f"every {r['every']}{'' if r['every'] == 1 else 'rd' if r['every'] == 3 else 'th'} frame"
        cells = [f"{r['ms'][stage]:.2f}" if stage in r["ms"] else "" for stage in _STAGES]
        rows.append(
            [f"{name}, {'yes' if r['drawn'] else 'no'}", *cells, f"{total:.2f}", f"{1e3 * r['cores'] / total:.1f}"]
            + [f"{r['side_by_side']:.1f}", f"{r['rate']:.1f}"]
            + [_interval(r["share"], r["spread"]), _interval(r["share_of_these"], r["spread_of_these"])]
        )
    return markdown(head, rows)


def _interval(middle: float, ends: Sequence[float]) -> str:
    return f"{middle:.3f} ({ends[0]:.3f} to {ends[1]:.3f})"


if __name__ == "__main__":
    sys.exit(main())
