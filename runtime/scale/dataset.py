"""Keypoints for the images of a Ray data set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..annotation.settings import Settings
from ..errors import PosertError
from ..media.image_file import UNREADABLE, decode_image
from ..media.sources import Frame
from ..pose.keypoints import Keypoints
from .cluster import Cluster, Parcel

if TYPE_CHECKING:
    import pyarrow
    from ray.data import Dataset


def annotate(
    dataset: Dataset,
    bundle: str | os.PathLike[str],
    *,
    image: str = "image",
    boxes: str | None = None,
    detector: str | os.PathLike[str] | None = None,
    colour: Literal["RGB", "BGR"] = "RGB",
    backend: str = "auto",
    precision: str = "auto",
    batch_size: int = 32,
    cluster: Cluster | None = None,
) -> Dataset:
    """Find people and keypoints in every row. The rows stay, without their images, and get columns.

    The columns, for N people of K joints: `people` (N), `boxes` `(N, 4)` xyxy, `xy` `(N, K, 2)` and `score` `(N, K)`,
    float32, px of the image; `error`: why a row has no people, empty where nothing is wrong. The work is
    `Dataset.map_batches` over actors: Ray starts a dead one again, and its `CheckpointConfig` can resume by row.

    Args:
        dataset: with a column of images, uint8 `(H, W, 3)` such as of `ray.data.read_images`, or encoded, as bytes.
        bundle: path of a .pose file; it is sent to the workers.
        image: name of that column.
        boxes: name of a column of boxes `(N, 4)` xyxy px; None: the detector's, or the whole image.
        detector: path of an ONNX file; it is sent to the workers.
        colour: order of the channels of images that are not encoded.
        backend, precision: see `PoseEstimator`; "auto" is selected by each worker.
        batch_size: images of a batch.
        cluster: how many workers there are, and how large; the data set is computed where Ray is connected to.

    Raises PosertError: Ray is not installed. Raises InputError: a file cannot be read.
    """
    from ray.data import ActorPoolStrategy

    cluster = cluster or Cluster()
    detector = None if detector is None else os.fspath(detector)
    parcel = Parcel.of(Settings(os.fspath(bundle), backend, precision, detector))
    options = cluster.options
    return dataset.map_batches(
        _Frames,
        fn_constructor_args=(parcel, cluster, image, boxes, colour),
        batch_size=batch_size,
        batch_format="pyarrow",
        # from one on, as there is room: a fixed number could leave no processor to those who read the images
        compute=ActorPoolStrategy(min_size=1, max_size=cluster.workers),
        num_cpus=options["num_cpus"],
        num_gpus=options["num_gpus"],
        runtime_env=options["runtime_env"],
    )


class _Frames:
    """A worker of the actor pool."""

    def __init__(self, parcel: Parcel, cluster: Cluster, image: str, boxes: str | None, colour: str) -> None:
        from ..detection import Detector
        from ..estimator import PoseEstimator
        from ..pipeline import PosePipeline

        settings = parcel.unpacked()
        options: dict[str, Any] = {"threads": None if cluster.gpus else cluster.cpus, "throughput": True}
        pose = PoseEstimator(settings.bundle, backend=settings.backend, precision=settings.precision, **options)
        finds = None if settings.detector is None else Detector(settings.detector, **options)
        self._pipeline = PosePipeline(pose, finds)
        names = pose.contract.keypoints
        none = np.empty((0, len(names)), np.float32)
        self._nobody = Keypoints(none[..., None].repeat(2, 2), none, np.empty((0, 4), np.float32), names)
        self._image, self._boxes, self._colour = image, boxes, colour

    def __call__(self, table: pyarrow.Table) -> pyarrow.Table:
        """A batch as a table, so that columns that are not ours stay as they are."""
        import pyarrow as pa
        from ray.data.block import BlockAccessor
        from ray.data.extensions import ArrowVariableShapedTensorArray

        from ..each_frame import each_frame

        names = [self._image] + ([] if self._boxes is None else [self._boxes])
        columns = BlockAccessor.for_block(table).to_numpy(names)
        boxes = None if self._boxes is None else columns[self._boxes]

        def boxes_of(key: str | int) -> Any:
            # Ray gives lists of lists as arrays of arrays
            return None if boxes is None else np.array([[*box] for box in boxes[int(key)]], np.float32).reshape(-1, 4)

        counts: list[int] = []
        errors: list[str] = []
        found: dict[str, list[Any]] = {"boxes": [], "xy": [], "score": []}
        for _, people, error in each_frame(self._pipeline, self._frames(columns[self._image]), boxes_of):
            counts.append(0 if people is None else len(people))
            errors.append(error if people is not None else error or UNREADABLE)
            people = people or self._nobody
            for name, arrays in found.items():
                arrays.append(np.ascontiguousarray(vars(people)[name], np.float32))
        done = table.drop_columns([self._image, *(set(table.column_names) & {*found, "people", "error"})])
        done = done.append_column("people", pa.array(counts, pa.int32()))
        for name, arrays in found.items():
            done = done.append_column(name, ArrowVariableShapedTensorArray.from_numpy(arrays))
        return done.append_column("error", pa.array(errors, pa.string()))

    def _frames(self, images: Any) -> Iterator[Frame]:
        for i, image in enumerate(images):
            yield i, self._frame(image)

    def _frame(self, image: Any) -> Any:
        """BGR; None if it cannot be read."""
        if image is None:
            return None
        if isinstance(image, bytes):
            return decode_image(image)
        image = np.asarray(image)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise PosertError(  # not of one frame, as an InputError would be
                f'column "{self._image}": an image is {image.dtype} {image.shape}; expected uint8 (H, W, 3), or bytes'
            )
        return np.ascontiguousarray(image[..., ::-1]) if self._colour == "RGB" else image
