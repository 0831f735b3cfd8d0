"""Do memory, threads or open files grow while a long video goes through the whole pipeline?

    python -m posert.export.demo.detector --output demo_detector.onnx --precision int8
    python -m posert.benchmarks.endurance demo.pose demo_detector.onnx --frames 10000

`posert run` reads a video made of one generated clip over and over, so that people come and go all the time. It detects
people, tracks them, smooths their joints, and writes results and the page of the run. Resident memory, threads and
descriptors are read from Linux's /proc meanwhile.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posert.benchmarks.script import digest, log, markdown, open_journal, parser, run
from posert.export.demo.videos import FPS, clip
from posert.runtime.errors import PosertError

_CLIP, _LENGTH = 4, 100  # of the split val: somebody leaves and returns
_PARTS = 10  # of the run; a row for each
_PAUSE = 0.2  # seconds between two readings


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; prints a table with a row for each tenth of the run."""
    arguments = parser(__doc__, "out/endurance.jsonl")
    arguments.add_argument("bundle", type=Path)
    arguments.add_argument("detector", type=Path, help="an ONNX file")
    arguments.add_argument("--frames", type=int, default=10_000, help="frames of the video (10000)")
    arguments.add_argument(
        "--results", default="people.csv", help="name of the results, whose ending says what is written"
    )
    arguments.add_argument("--smooth", default="one-euro", help="as for posert run (one-euro)")
    arguments.add_argument("--detect-every", type=int, default=3, help="as for posert run (3)")
    return run(arguments, _work, argv)


def _work(args: argparse.Namespace) -> int:
    key = {name: digest(getattr(args, name)) for name in ("bundle", "detector")}
    options = {name: vars(args)[name] for name in ("frames", "results", "smooth", "detect_every")}
    journal = open_journal(args.output, "endurance", **key, **options)
    record = journal.records[0] if journal.records else None
    if record is None:
        with tempfile.TemporaryDirectory() as folder:
            record = watch(args, Path(folder))
        journal.add(record)
    print(table(record))
    return 0


def watch(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the command on a video of so many frames, and watch its process."""
    video = folder / "people.mp4"
    film(video, args.frames)
    line = [sys.executable, "-m", "posert.runtime.cli", "run", args.bundle, video, "--detector", args.detector]
    line += ["--detect-every", args.detect_every, "--smooth", args.smooth, "--report", folder / "page"]
    line += ["--output", folder / args.results, "--json"]
    log(f"posert run on {args.frames} frames")
    with (folder / "said.json").open("wb") as said, (folder / "told.txt").open("wb") as told:
        process = subprocess.Popen([str(word) for word in line], stdout=said, stderr=told)
        readings = []
        while process.poll() is None:
            if (reading := _reading(process.pid)) is not None:
                readings.append(reading)
            time.sleep(_PAUSE)
    if process.returncode:
        tail = (folder / "told.txt").read_text(errors="replace")[-2000:]
        raise PosertError(f"posert run ended with {process.returncode}: {tail}")
    summary = json.loads((folder / "said.json").read_text())
    return {
        "frames": summary["frames"],
        "people": summary["people"],
        "rate": summary["frames_per_second"],
        "parts": _parts(readings),
    }


def film(path: Path, frames: int) -> None:
    """The clip over and over."""
    pictures = [picture for picture, _ in clip("val", _CLIP, min(_LENGTH, frames))]
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (width, height))
    for number in range(frames):
        writer.write(pictures[number % len(pictures)])
    writer.release()


def _reading(pid: int) -> tuple[float, int, int] | None:
    """Resident memory in MB, threads and descriptors of a process; None when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        return (
            int(fields["VmRSS"].split()[0]) / 1024,
            int(fields["Threads"]),
            len(list(Path(f"/proc/{pid}/fd").iterdir())),
        )
    except (OSError, KeyError):  # a process that has ended has no memory
        return None


def _parts(readings: Sequence[tuple[float, int, int]]) -> list[dict[str, float]]:
    """The median and the highest readings of each tenth of the time."""
    parts = []
    for part in np.array_split(np.array(readings, np.float64).reshape(-1, 3), _PARTS):
        if len(part):
            memory, threads, files = np.median(part, axis=0)
            parts.append({"memory_mb": memory, "peak_mb": part[:, 0].max(), "threads": threads, "files": files})
    return parts


def table(record: dict[str, Any]) -> str:
    """A line for each part of the run."""
    rows = [
        [
            f"{10 * i} to {10 * i + 10} %",
            f"{part['memory_mb']:.1f}",
            f"{part['peak_mb']:.1f}",
            f"{part['threads']:.0f}",
            f"{part['files']:.0f}",
        ]
        for i, part in enumerate(record["parts"])
    ]
    head = "of the run | resident memory, MB (median) | highest, MB | threads | descriptors"
    about = f"{record['frames']} frames, {record['people']} people, {record['rate']:.1f} frames per second"
    return f"{about}\n\n{markdown(head, rows)}"


if __name__ == "__main__":
    sys.exit(main())
