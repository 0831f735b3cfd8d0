"""One shard, from its source to its result files."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..detection import Detector
from ..each_frame import Taken, each_frame
from ..errors import InputError
from ..estimator import PoseEstimator
from ..media.box_file import BoxFile
from ..media.image_file import UNREADABLE
from ..media.sources import Frame
from ..pipeline import PosePipeline
from ..pose.keypoints import Keypoints
from ..results import FORMATS, FrameResult, Subject
from ..smoothing import OneEuro
from ..system.stages import Stages
from .folder import FRAMES, PEOPLE
from .frame_table import open_frame_table
from .publishing import OutputError
from .reading import Reading
from .settings import ONE_EURO, SAVITZKY_GOLAY, Settings
from .shard import Shard

_FPS = 25.0  # of a video that does not say


@dataclass
class Counts:
    """What was done so far, and the time that it took by stage."""

    frames: int = 0
    people: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    seconds: Stages = field(default_factory=lambda: Stages("read", "pose", "write"))


class Annotator:
    """Annotates shards, one after the other, with networks that are opened once.

    Args:
        settings: how.
        threads: of processors for the networks; None: the backend chooses.
        decoders: images that are decoded side by side.

    Raises: as `PoseEstimator` and `Detector`.
    """

    def __init__(self, settings: Settings, threads: int | None = None, decoders: int = 1) -> None:
        self._settings, self._threads, self._decoders = settings, threads, decoders
        self._opened: dict[bool, tuple[PoseEstimator, Detector | None]] = {}
        self._open(settings.track)  # so that what cannot run is told before the first shard
        import pyarrow.parquet  # noqa: F401 - so that the first shard does not wait for it

    def annotate(self, shard: Shard, folder: Path, report: Callable[[Counts], None]) -> dict[str, Any]:
        """Write a shard's two files into a folder.

        Args:
            shard: what to read.
            folder: for files under their final names, `PEOPLE`/NAME and `FRAMES`/NAME.
            report: called after every frame.

        Returns:
            what the journal tells about the shard.

        Raises:
            PosertError: the shard cannot be annotated.
            OutputError: the files cannot be written.
        """
        settings, counts = self._settings, Counts()
        reading = Reading(shard, self._decoders)
        box_file = settings.boxes_of(shard.source)
        boxes = None if box_file is None else BoxFile(box_file, settings.box_score)
        tracked = settings.track and shard.kind == "video"
        pose, detector = self._open(tracked)
        pipeline = PosePipeline(
            pose,
            detector,
            track=tracked,
            detect_every=settings.detect_every if tracked else 1,
            smooth=OneEuro() if tracked and settings.smooth == ONE_EURO else None,
            fps=reading.fps or _FPS,
        )
        found = each_frame(
            pipeline,
            _timed(reading, counts),
            lambda key: None if boxes is None else boxes.of(key),
            smooth=tracked and settings.smooth == SAVITZKY_GOLAY,
        )
        self._write(shard, reading, found, pose, folder, counts, report)
        return {
            "frames": counts.frames,
            "people": counts.people,
            "failed": dict(counts.failed),
            "note": reading.shortfall(counts.frames),
            "seconds": {stage: round(spent, 3) for stage, spent in counts.seconds.items()},
        }

    def _write(
        self,
        shard: Shard,
        reading: Reading,
        found: Iterator[tuple[Taken, Keypoints | None, str]],
        pose: PoseEstimator,
        folder: Path,
        counts: Counts,
        report: Callable[[Counts], None],
    ) -> None:
        facts = {"backend": pose.selection.backend, "precision": pose.selection.precision}
        subject = Subject(shard.source, pose.contract, facts, reading.keys)
        failures: list[dict[str, Any]] = []
        with contextlib.ExitStack() as stack:
            with _writing(shard):
                parquet = FORMATS.load("parquet").open(folder / PEOPLE / f"{shard.name}.parquet", subject)
                people = stack.enter_context(parquet)
                table = open_frame_table(folder / FRAMES / f"{shard.name}.parquet", shard.source, bool(reading.keys))
                frames = stack.enter_context(table)
            while True:
                with counts.seconds.timed("pose"):
                    taken, seen, error = next(found, (None, None, ""))
                if taken is None:
                    break
                if seen is None:
                    error = error or reading.why.pop(taken.key, UNREADABLE)
                    counts.failed[error] += 1
                    failures.append({"file" if reading.keys else "frame": taken.key, "error": error})
                else:
                    counts.people += len(seen)
                height, width = taken.size
                result = FrameResult(shard.first + counts.frames, taken.key, seen, width, height, error)
                with counts.seconds.timed("write"), _writing(shard):
                    people.add(result)
                    frames.add(result)
                counts.frames += 1
                report(counts)
            if not counts.frames and (why := reading.shortfall(0)):
                raise InputError(why)
            good = counts.frames - len(failures)
            with counts.seconds.timed("write"), _writing(shard):
                people.finish({"frames": good, "people": counts.people, "failed": failures})
                frames.finish()
                stack.close()

    def _open(self, tracked: bool) -> tuple[PoseEstimator, Detector | None]:
        """The networks. With a tracker frames wait for each other; elsewhere several are in progress at a time."""
        if tracked not in self._opened:
            s = self._settings
            options: dict[str, Any] = {"threads": self._threads, "throughput": not tracked}
            pose = PoseEstimator(s.bundle, backend=s.backend, precision=s.precision, **options)
            detector = None
            if s.detector is not None:
                options |= {"layout": s.detector_layout, "classes": s.detector_class, "score": s.detector_score}
                detector = Detector(s.detector, **(options | {"throughput": True}))
            self._opened[tracked] = pose, detector
        return self._opened[tracked]


def _timed(frames: Iterable[Frame], counts: Counts) -> Iterator[Frame]:
    source = iter(frames)
    while True:
        with counts.seconds.timed("read", of="pose"):
            frame = next(source, None)
        if frame is None:
            return
        yield frame


@contextlib.contextmanager
def _writing(shard: Shard) -> Iterator[None]:
    try:
        yield
    except (InputError, OSError) as error:
        raise OutputError(f"{shard.title}: {error}") from error
