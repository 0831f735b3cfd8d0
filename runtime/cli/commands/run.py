"""`posert run`: keypoints of images, a video or a camera stream, as JSON and drawn."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ...system.progress import track
from ...system.signals import StopSignals
from .. import options
from ..command import Command

if TYPE_CHECKING:
    from ...estimator import PoseEstimator
    from ...media.box_file import BoxFile
    from ...media.outputs import Outputs
    from ...media.sources import Frame, Source
    from ...pose.keypoints import Keypoints

_TRUNCATED = 0.9  # of the frames a video declares: the count is slightly off in many intact files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    options.add_model(parser)
    add("source", help="an image, a folder of images, a video, a camera number or a URL")
    boxes = (
        "boxes of the people: COCO annotations, COCO detections, a JSON object of [x1, y1, x2, y2] lists by image name "
        "or frame number, or CSV with the header file,x1,y1,x2,y2 or frame,x1,y1,x2,y2 (default: each frame is one "
        "person)"
    )
    add("--boxes", type=Path, metavar="FILE", help=boxes)
    add("--box-score", type=float, default=0.3, metavar="S", help="ignore boxes with a lower score (default: 0.3)")
    joints = "do not draw joints below this score (default: 0.3)"
    add("--joint-score", type=float, default=0.3, metavar="S", help=joints)
    output = (
        "a folder for the drawn frames and keypoints.json (default: out/run); an image or .mp4 file, with a .json "
        "beside it; or a .json file, to draw nothing"
    )
    add("--output", type=Path, default=Path("out/run"), metavar="PATH", help=output)
    options.add_session(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 1 if a frame could not be used. After a signal everything that was written is valid."""
    from ...estimator import PoseEstimator
    from ...media.box_file import BoxFile
    from ...media.outputs import open_outputs, output_files
    from ...media.sources import open_source

    source = open_source(args.source)
    boxes = BoxFile(args.boxes, args.box_score) if args.boxes else None
    if boxes is not None:
        boxes.check(source.keys)
    files = output_files(source, args.output, [path for path in (args.bundle, args.boxes) if path])
    pose = PoseEstimator(
        args.bundle,
        backend=args.backend,
        precision=args.precision,
        threads=args.threads,
        throughput=source.path is not None and source.total != 1,
    )
    _print(f"{pose.selection.backend} {pose.selection.precision}: {pose.selection.reason}")
    if boxes is None:
        _print("no --boxes: each frame is taken as one person")
    head = {"source": args.source, "backend": pose.selection.backend, "precision": pose.selection.precision}
    tally = _Tally(source, StopSignals(deferred=True))

    def summary() -> dict[str, Any]:
        return {**head, "reason": pose.selection.reason, **tally.summary(), "outputs": outputs.paths()}

    with open_outputs(files, {**head, "keypoints": pose.contract.keypoints}, source.fps, summary) as outputs:
        _process(source, boxes, pose, outputs, args.joint_score, tally)
        tally.check()
    print(json.dumps(summary()) if args.json else "\n".join([*tally.lines(), f"wrote {' and '.join(outputs.paths())}"]))
    return 1 if tally.failed else 0


def _process(
    source: Source, boxes: BoxFile | None, pose: PoseEstimator, outputs: Outputs, joint_score: float, tally: _Tally
) -> None:
    """Estimate, draw and write every frame, until a signal."""
    from ...pose.draw import draw

    pending: deque[Frame] = deque()  # frames that were read and have no record yet, in order
    frames = iter(track(source, source.name, source.total))

    def read() -> Iterator[Frame]:
        while not tally.stop.number:
            tally.lap("pose")
            frame = next(frames, None)
            tally.lap("read")
            if frame is None:
                return
            pending.append(frame)
            yield frame

    def feed() -> Iterator[tuple[Any, Any]]:
        """Frames and boxes: the frames that a failed one left pending, then new ones."""
        for key, image in chain(list(pending), read()):
            if image is not None:
                yield image, None if boxes is None else boxes.of(key)

    def results() -> Iterator[Keypoints]:
        # Frames of a file overlap; the answer to a camera's frame comes before the next frame is read.
        return pose.stream(feed()) if source.path else (pose(*one) for one in feed())

    def record(frame: Frame, people: Keypoints | None, error: str = "") -> None:
        key, image = frame
        fields: dict[str, Any] = {"frame" if source.video else "file": key}
        if image is None or people is None:
            tally.fail(fields | {"error": error or "cannot be read as an image"})
            # A video keeps its length: the frame goes in undrawn.
            outputs.add(tally.failed[-1], key, image if source.video else None)
        else:
            if outputs.files.video or outputs.files.images:
                draw(image, people, pose.contract, threshold=joint_score, boxes=boxes is not None)
                tally.lap("draw")
            size = {"width": image.shape[1], "height": image.shape[0]}
            outputs.add(fields | size | {"people": people.to_json()}, key, image)
            tally.frames, tally.people = tally.frames + 1, tally.people + len(people)
        tally.lap("write")

    with tally.stop:
        stream = results()
        while True:
            people, error = None, ""
            try:
                people = next(stream, None)
            except InputError as found:  # it ends the stream; the other frames continue in a new one
                error, stream = str(found), results()
            tally.lap("pose")
            while pending and pending[0][1] is None:
                record(pending.popleft(), None)
            if people is None and not error:
                break
            record(pending.popleft(), people, error)


@dataclass
class _Tally:
    """Counts, failures and times of a run."""

    source: Source
    stop: StopSignals
    frames: int = 0
    people: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("read", "pose", "draw", "write"), 0.0))
    _last: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        """Add the time since the last lap to a stage."""
        now = time.perf_counter()
        self.seconds[stage] += now - self._last
        self._last = now

    def fail(self, record: dict[str, Any]) -> None:
        self.failed.append(record)
        where = f"frame {record['frame']}" if "frame" in record else record.get("file", self.source.name)
        _print(f"{where}: {record['error']}")

    def check(self) -> None:
        """Check at the end that there were frames, and as many as the source declares."""
        if self.stop.number:
            if not self.frames:
                raise KeyboardInterrupt
            return
        read, declared = self.frames + len(self.failed), self.source.total
        if not self.frames:
            why = "no frame could be read; does another program use it?"
            if self.failed:
                why = f"no frame could be used; the first error: {self.failed[0]['error']}"
            raise InputError(f"{self.source.name}: {why}")
        if self.source.video and declared and read < _TRUNCATED * declared:
            self.fail({"error": f"only {read} of {declared} frames could be read; the file may be truncated"})

    def summary(self) -> dict[str, Any]:
        seconds = sum(self.seconds.values())
        return {
            "frames": self.frames,
            "people": self.people,
            "failed": self.failed,
            "interrupted": self.stop.number != 0,
            "seconds": round(seconds, 3),
            "frames_per_second": round(self.frames / max(seconds, 1e-9), 2),
            "ms_per_frame": {k: round(1e3 * v / max(1, self.frames), 3) for k, v in self.seconds.items()},
            "ms_per_person": round(1e3 * self.seconds["pose"] / self.people, 3) if self.people else None,
        }

    def lines(self) -> list[str]:
        """The summary for a terminal."""
        s = self.summary()
        failed = f", failed {len(self.failed)}" if self.failed else ""
        counts = f"frames {self.frames}, people {self.people}{failed}{', interrupted' if self.stop.number else ''}"
        stages = " + ".join(f"{name} {ms:.1f}" for name, ms in s["ms_per_frame"].items())
        per_person = f"; pose per person {s['ms_per_person']:.1f}" if self.people else ""
        return [
            f"{self.source.name}: {counts}, {s['seconds']:.1f} s, {s['frames_per_second']:.1f} frames/s",
            f"ms per frame: {stages}{per_person}",
        ]


def _print(text: str) -> None:
    print(text, file=sys.stderr)


COMMAND = Command("Estimate keypoints in images, a video or a camera stream", "run", add_arguments, run)
