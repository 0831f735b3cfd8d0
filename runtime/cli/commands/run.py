"""`posert run`: keypoints of an image, a folder, a video or a camera, as JSON and drawn."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...estimator import PoseEstimator
from ...media.box_file import FORMATS, BoxFile
from ...media.outputs import Outputs, plan
from ...media.sources import Frame, Source, open_source
from ...pose.draw import draw
from ...pose.keypoints import Keypoints
from ...system.progress import track

_CUT_SHORT = 0.9  # of the frames that a video says it has: its own count is off by some in many good files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    add("bundle", help="a .pose file")
    add("source", help="an image, a folder of images, a video, a camera's number or a URL")
    add("--boxes", metavar="FILE", help=f"boxes of the people: {FORMATS}. Without: the whole frame is one person")
    add("--box-score", type=float, default=0.3, metavar="S", help="leave out detections that score lower (0.3)")
    add("--joint-score", type=float, default=0.3, metavar="S", help="do not draw joints that score lower (0.3)")
    add(
        "--output",
        default="out/run",
        metavar="PATH",
        help="a folder for the drawn result and keypoints.json (out/run); or one file: an image or .mp4 with a .json "
        "beside it, or a .json alone to draw nothing",
    )
    add("--backend", default="auto", help="auto, openvino, onnxruntime, torchscript, ... (auto)")
    add("--precision", default="auto", help="auto, fp32, bf16, fp16 or int8 (auto: the fastest that passed its gate)")
    add("--threads", type=_positive, metavar="N", help="bound on CPU threads")


def main(args: argparse.Namespace) -> int:
    """Run the command.

    Returns:
        0; 1 if a frame could not be used; 128 + the signal's number if it was stopped, with everything written valid.
    """
    source = open_source(args.source)
    boxes = BoxFile(args.boxes, args.box_score) if args.boxes else None
    if boxes is not None:
        boxes.check(source.keys)
    where = plan(source, Path(args.output), [Path(p) for p in (args.bundle, args.boxes) if p])
    pose = PoseEstimator(
        args.bundle,
        backend=args.backend,
        precision=args.precision,
        threads=args.threads,
        throughput=source.path is not None and source.total != 1,
    )
    _say(f"{pose.selection.backend} {pose.selection.precision}: {pose.selection.reason}")
    if boxes is None:
        _say("no --boxes: the whole frame is taken as one person")

    head = {"source": args.source, "backend": pose.selection.backend, "precision": pose.selection.precision}
    tally = _Tally(source)
    try:
        outputs = Outputs(where, {**head, "keypoints": pose.contract.keypoints}, source.fps)
        try:
            _process(source, boxes, pose, outputs, args.joint_score, tally)
        finally:
            # Also after an error or a second Ctrl-C: what was done until then is whole.
            summary = {**head, "reason": pose.selection.reason, **tally.summary(), "outputs": outputs.paths()}
            if tally.frames:
                outputs.close(summary)
            else:
                outputs.discard()
    except OSError as error:
        raise InputError(f"{where.json.parent}: cannot write there ({error}); is the disk full?") from error
    if not tally.frames and not tally.signal:
        raise InputError(tally.nothing())
    print(json.dumps(summary) if args.json else tally.text(outputs.paths()))
    if tally.signal:
        return 128 + tally.signal
    return 1 if tally.failed else 0


def _process(
    source: Source, boxes: BoxFile | None, pose: PoseEstimator, outputs: Outputs, joint_score: float, tally: _Tally
) -> None:
    taken: deque[Frame] = deque()  # frames without a record, in order
    frames = iter(track(source, source.name, source.total))

    def feed() -> Iterator[tuple[NDArray[np.uint8], Any]]:
        """Frames and boxes: those that a failed frame left behind, then new ones."""
        for key, frame in chain(list(taken), _noting(frames, taken, tally)):
            if frame is not None:
                yield frame, None if boxes is None else boxes.of(key)

    def record(key: str | int, frame: NDArray[np.uint8] | None, people: Keypoints | None, error: str = "") -> None:
        fields: dict[str, Any] = {"frame" if source.video else "file": key}
        if frame is None or people is None:
            tally.fail(fields | {"error": error or "cannot be read as an image"})
            # A video keeps its length: the frame goes in undrawn.
            outputs.add(tally.failed[-1], key, frame if source.video else None)
        else:
            if outputs.plan.draws:
                draw(frame, people, pose.contract, threshold=joint_score, boxes=boxes is not None)
                tally.lap("draw")
            size = {"width": frame.shape[1], "height": frame.shape[0]}
            outputs.add(fields | size | {"people": people.to_json()}, key, frame)
            tally.frames, tally.people = tally.frames + 1, tally.people + len(people)
        tally.lap("write")

    with _stoppable(tally):
        results = _results(pose, source, feed())
        while True:
            people, error = None, ""
            try:
                people = next(results, None)
            except InputError as found:
                # The stream ends with the frame that cannot be used: the others go on in a new one.
                error, results = str(found), _results(pose, source, feed())
            tally.lap("pose")
            while taken and taken[0][1] is None:
                record(*taken.popleft(), None)
            if people is None and not error:
                break
            record(*taken.popleft(), people, error)
        if tally.signal:
            return
    tally.check_length()


def _results(
    pose: PoseEstimator, source: Source, frames: Iterator[tuple[NDArray[np.uint8], Any]]
) -> Iterator[Keypoints]:
    """Keypoints of frames: several under way at a time, but of a camera the answer to each before the next is taken."""
    return pose.stream(frames) if source.path else (pose(*frame) for frame in frames)


def _noting(frames: Iterator[Frame], taken: deque[Frame], tally: _Tally) -> Iterator[Frame]:
    """The frames, noted as they are taken and timed, until a signal comes."""
    while not tally.signal:
        tally.lap("pose")
        frame = next(frames, None)
        tally.lap("read")
        if frame is None:
            return
        taken.append(frame)
        yield frame


@dataclass
class _Tally:
    """What a run came to, and where its time went."""

    source: Source
    frames: int = 0
    people: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)
    signal: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("read", "pose", "draw", "write"), 0.0))
    _last: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        """The time since the last lap went into this stage."""
        now = time.perf_counter()
        self.seconds[stage] += now - self._last
        self._last = now

    def fail(self, record: dict[str, Any]) -> None:
        self.failed.append(record)
        where = f"frame {record['frame']}" if "frame" in record else record.get("file", self.source.name)
        _say(f"{where}: {record['error']}")

    def check_length(self) -> None:
        seen = self.frames + len(self.failed)
        if self.source.video and self.source.total and 0 < seen < _CUT_SHORT * self.source.total:
            self.fail({"error": f"only {seen} of its {self.source.total} frames could be read: is the file cut short?"})

    def nothing(self) -> str:
        if self.failed:
            return f"{self.source.name}: nothing could be used; the first: {self.failed[0]['error']}"
        return f"{self.source.name}: not one frame could be read; does another program play it?"

    def summary(self) -> dict[str, Any]:
        seconds = sum(self.seconds.values())
        return {
            "frames": self.frames,
            "people": self.people,
            "failed": self.failed,
            "interrupted": bool(self.signal),
            "seconds": round(seconds, 3),
            "frames_per_second": round(self.frames / max(seconds, 1e-9), 2),
            "ms_per_frame": {k: round(1e3 * v / max(1, self.frames), 3) for k, v in self.seconds.items()},
            "ms_per_person": round(1e3 * self.seconds["pose"] / self.people, 3) if self.people else None,
        }

    def text(self, paths: list[str]) -> str:
        s = self.summary()
        stages = " + ".join(f"{name} {ms:.1f}" for name, ms in s["ms_per_frame"].items())
        lines = [
            f"{self.source.name}: {_count(self.frames, 'frame')}, {_count(self.people, 'person', 'people')} "
            f"in {s['seconds']:.1f} s, {s['frames_per_second']:.1f} frames/s" + self._troubles(),
            f"ms per frame: {stages}" + (f"; pose per person {s['ms_per_person']:.1f}" if self.people else ""),
        ]
        return "\n".join([*lines, f"wrote {' and '.join(paths)}"] if self.frames else lines[:1])

    def _troubles(self) -> str:
        return (f"; {len(self.failed)} failed" if self.failed else "") + ("; interrupted" if self.signal else "")


@contextlib.contextmanager
def _stoppable(tally: _Tally) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run after the current frame; the second Ctrl-C ends it at once."""

    def stop(number: int, _: FrameType | None) -> None:
        if tally.signal and number == signal.SIGINT:  # a second SIGTERM is no haste: `timeout` sends two
            raise KeyboardInterrupt
        tally.signal = number

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _say(text: str) -> None:
    print(text, file=sys.stderr)
