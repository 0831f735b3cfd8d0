"""The frames of a source with their people, timed, until a signal."""

from __future__ import annotations

from collections.abc import Iterator

from ..each_frame import each_frame
from ..media.box_file import BoxFile
from ..media.sources import Frame, Source
from ..pipeline import PosePipeline
from ..pose.keypoints import Keypoints
from ..system.progress import track
from .tally import Tally


def estimated(
    source: Source, pipeline: PosePipeline, tally: Tally, boxes: BoxFile | None = None, *, smooth: bool = False
) -> Iterator[tuple[Frame, Keypoints | None, str]]:
    """Send every frame of a source through the pipeline: the frame, its people and, where there are none, the error.

    Args:
        tally: its stages `read` and `pose` get the times; no frame is read after its signal.
        boxes: of the people; None: the detector's, or the whole frame.
        smooth: smooth the joints with those of the frames that follow.

    Raises:
        as `each_frame`.
    """
    frames = iter(track(source, source.name, source.total))

    def read() -> Iterator[Frame]:
        while not tally.stop.number:
            with tally.seconds.timed("read", of="pose"):
                frame = next(frames, None)
            if frame is None:
                return
            yield frame

    # Frames of a file overlap; the answer to a camera's frame comes before the next frame is read.
    live = source.path is None
    boxes_of = boxes.of if boxes is not None else lambda key: None
    results = each_frame(pipeline, read(), boxes_of, smooth=smooth, live=live, keep=True)
    while True:
        with tally.seconds.timed("pose"):
            taken, found, error = next(results, (None, None, ""))
        if taken is None:
            return
        yield (taken.key, taken.image), found, error
