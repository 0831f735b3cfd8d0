"""How fast OpenCV and PyAV read videos as BGR frames, and whether they give the same ones.

    pip install av==18.1.0
    python -m posert.benchmarks.video_readers VIDEOS... --processors 1 2 --output out/readers.jsonl

Each reading is a process of its own on so many processors; the two take turns, in an order that is drawn in each round.
The ratio is that of one round: OpenCV's time in units of PyAV's, with the least and the most over the rounds.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from posert.benchmarks import script
from posert.benchmarks.child import call
from posert.runtime.errors import InputError

_HERE = "posert.benchmarks.video_readers"
_READERS = ("opencv", "pyav")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = script.parser(__doc__, "out/readers.jsonl")
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--processors", nargs="+", type=int, default=[1], metavar="N", help="how many (1)")
    parser.add_argument("--rounds", type=int, default=5)
    return script.run(parser, _work, argv)


def read(video: str, reader: str, processors: int) -> dict[str, float]:
    """Read a video once; runs in a process of its own."""
    chosen = sorted(os.sched_getaffinity(0))[:processors]
    os.sched_setaffinity(0, chosen)
    cv2.setNumThreads(processors)
    frames = _frames(video, reader)
    if next(frames, None) is None:  # the first takes what a library does once
        raise InputError(f"{video}: {reader} reads no frame")
    begin, used = time.perf_counter(), time.process_time()
    count = sum(1 for _ in frames)
    return {
        "frames": count,
        "rate": count / (time.perf_counter() - begin),
        "cpu_ms": 1e3 * (time.process_time() - used) / count,
    }


def difference(video: str) -> dict[str, int]:
    """The largest difference of a pixel's value between the two, and how many frames one has more."""
    most, more = 0, 0
    for a, b in zip_longest(_frames(video, "opencv"), _frames(video, "pyav")):
        if a is None or b is None:
            more += 1
        else:
            most = max(most, int(np.abs(a.astype(np.int16) - b).max()))
    return {"most": most, "more": more}


def _frames(video: str, reader: str) -> Iterator[NDArray[np.uint8]]:
    """Frames `(H, W, 3)` uint8 BGR."""
    if reader == "opencv":
        capture = cv2.VideoCapture(video)
        while (got := capture.read())[0]:
            yield np.asarray(got[1], np.uint8)
        capture.release()
        return
    import av

    with av.open(video) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            yield np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)


def _work(args: argparse.Namespace) -> int:
    if missing := [str(video) for video in args.videos if not video.is_file()]:
        raise InputError(f"no such video: {', '.join(missing)}")
    rng = random.Random(0)
    key = {"videos": [script.digest(video) for video in args.videos], "processors": args.processors}
    cells = [(video, n) for video in args.videos for n in args.processors]
    with script.open_journal(args.output, "video readers", **key) as journal:
        for number in range(args.rounds * len(cells)):
            (video, processors), order = cells[number % len(cells)], rng.sample(_READERS, 2)
            if number < len(journal.records):
                continue
            found: dict[str, Any] = {
                reader: call(
                    sys.executable, f"{_HERE}:read", {"video": str(video), "reader": reader, "processors": processors}
                ).value
                for reader in order
            }
            script.log(f"{video.name}, {processors}: " + ", ".join(f"{r} {found[r]['rate']:.0f}/s" for r in _READERS))
            journal.add(found)
        records = journal.records
    print("| video | processors | OpenCV, frames/s | PyAV, frames/s | processor ms a frame | OpenCV's time / PyAV's |")
    print("|---|---|---|---|---|---|")
    for i, (video, processors) in enumerate(cells):
        rounds = records[i :: len(cells)]
        rates = [[float(r[reader]["rate"]) for r in rounds] for reader in _READERS]
        spent = [float(np.median([r[reader]["cpu_ms"] for r in rounds])) for reader in _READERS]
        ratios = np.array(rates[1]) / np.array(rates[0])
        print(
            f"| {video.name} | {processors} | {np.median(rates[0]):.0f} | {np.median(rates[1]):.0f} "
            f"| {spent[0]:.1f}, {spent[1]:.1f} | {np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f}) |"
        )
    for video in args.videos:
        apart = difference(str(video))
        print(f"{video.name}: pixels differ by {apart['most']} at most, {apart['more']} frames are in one alone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
