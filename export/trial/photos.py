"""The people that a network is tried on: of photos without labels, or of labelled images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.accuracy.frames import Frames, read_image
from ...runtime.errors import InputError
from ...runtime.media.box_file import BoxFile
from ...runtime.media.image_file import read_bytes
from ...runtime.media.sources import open_source
from ...runtime.pose.preprocess import check_boxes

WHOLE = "no boxes: each photo is taken as one person"


def read_photos(photos: str | os.PathLike[str], boxes: str | os.PathLike[str] | None = None) -> Frames:
    """Frames of a photo, or of all in a folder, with the boxes of a file (`box_file.FORMATS`).

    Without a file of boxes each photo is one person, as in `posert run`. Nobody has labels: `keypoints` are empty.

    Raises:
        InputError: there is no such photo, or the file of boxes has none for it.
    """
    source = open_source(str(photos))
    if source.video or source.path is None:
        raise InputError(f"{photos}: a video; expected a photo or a folder of photos")
    folder = source.path if source.path.is_dir() else source.path.parent
    known = None if boxes is None else BoxFile(boxes)
    if known is not None:
        known.check(source.keys)
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, name in enumerate(source.keys, 1):
        if known is None:
            height, width = read_image(folder / name).shape[:2]
            found = [[0.0, 0.0, float(width), float(height)]]
        else:
            try:
                found = check_boxes(known.of(name)).tolist()
            except InputError as error:
                raise InputError(f"{boxes}: {name}: {error}") from error
        if found:
            records.append({"id": number, "file_name": name})
        for x1, y1, x2, y2 in found:
            row = {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "iscrowd": 0}
            annotations.append({**row, "bbox": [x1, y1, x2 - x1, y2 - y1], "keypoints": [], "num_keypoints": 0})
    if not annotations:
        raise InputError(f"{boxes} has no box for {photos}")

    def load(record: dict[str, Any]) -> NDArray[np.uint8]:
        return read_image(folder / record["file_name"])

    def read(name: str) -> bytes:
        return read_bytes(folder / name)

    note = WHOLE if known is None else f"boxes of {Path(known.path).name}"
    return Frames({"images": records, "annotations": annotations}, load, read, "user", note)
