"""Labelled frames: images and the people in them, in COCO's keypoint format."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle.contract import Contract
from ..datasets import dataset, datasets
from ..errors import InputError
from ..media.box_file import BoxFile
from ..media.sources import IMAGES, read_pixels
from ..metrics.coco_files import check, images_of, numbers, read_json, require
from ..metrics.oks_matching import BOX_AREA
from ..pose.preprocess import check_boxes
from .people import join_parts, labelled


@dataclass(frozen=True)
class Frames:
    """Labelled frames to calibrate on or to judge on. `posert.runtime.accuracy.people` has their people as a table.

    Attributes:
        coco: `images` and `annotations` in COCO's keypoint format; people are taken at their annotated boxes.
        load: one frame `(H, W, 3)` uint8 BGR by its record in `coco["images"]`.
        read: the encoded bytes of an image by its `file_name`.
        kind: "demo" or "user".
        note: what the reader of a figure must know about these data.
    """

    coco: dict[str, Any]
    load: Callable[[dict[str, Any]], NDArray[np.uint8]]
    read: Callable[[str], bytes]
    kind: str
    note: str

    def with_joints_of(self, contract: Contract) -> Frames:
        """The same frames with a model's joints in one list, also if they lie in several fields (COCO-WholeBody).

        Raises InputError: a number of joints differs; the message names the first such annotation.
        """
        k = len(contract.keypoints)
        parts = dataset(contract.dataset).parts if contract.dataset in datasets() else ()
        annotations = []
        for a in self.coco["annotations"]:
            if parts and len(a["keypoints"]) not in (0, 3 * k):
                a = join_parts(a, [field for _, field, _, _ in parts])
            count = len(a["keypoints"]) / 3
            if count != k and (count or a["num_keypoints"]):
                raise InputError(
                    f"annotation {a['id']} has {count:g} joints, the model has {k} ({contract.dataset}): these "
                    "annotations belong to another data set"
                )
            annotations.append(a)
        return replace(self, coco={**self.coco, "annotations": annotations})

    def labelled(self) -> list[dict[str, Any]]:
        """The annotations of single people with a labelled joint and a box with an area, in the order of the images."""
        return [self.coco["annotations"][i] for i in labelled(self.coco)]

    def load_index(self, image: int) -> NDArray[np.uint8]:
        """One frame by the index of its record in `coco["images"]`."""
        return self.load(self.coco["images"][image])


def read_frames(
    annotations: str | os.PathLike[str], images: str | os.PathLike[str], limit: int | None = None
) -> Frames:
    """Frames of a COCO keypoint file and a folder of images.

    Args:
        annotations: path of `person_keypoints_*.json`, or of another data set's file in that format. Only data sets
            whose OKS takes the area from the box (AIC, CrowdPose, PoseTrack18) may leave `area` out, of everyone.
        images: folder of the images, under their `file_name`.
        limit: at most this many images with people, spread evenly over the file.

    Raises:
        InputError: the file or the folder is missing, or is not a COCO keypoint file.
    """
    path, folder = Path(annotations), Path(images)
    content = read_json(path)
    images_of(content)
    people = content["annotations"]
    require(content["images"], "images", ("id", "file_name"))
    require(people, "annotations", ("id", "image_id", "bbox", "keypoints", "num_keypoints"))
    areas = any("area" in a for a in people)
    if areas:
        require(people, "annotations", ("area",))
    numbers(people, "annotations", "bbox", 4)
    joints = (a["keypoints"] for a in people)
    bad = (not isinstance(v, list) or not {int, float}.issuperset(map(type, v)) for v in joints)
    check(people, "annotations", bad, lambda a: "has 'keypoints' that are not a list of numbers x, y, v")
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected the images that {path.name} names")
    with_people = {a["image_id"] for a in people if a["num_keypoints"] and not a.get("iscrowd")}
    records = [r for r in content["images"] if r["id"] in with_people]
    if limit is not None and len(records) > limit:
        records = [records[i] for i in np.linspace(0, len(records) - 1, limit).astype(int)]
    gone = [r["file_name"] for r in records if not (folder / r["file_name"]).is_file()]
    if gone:
        seen = f"{len(gone)} of {len(records)} images that {path.name} names"
        raise InputError(f"{folder} lacks {seen}, such as {gone[0]}")
    kept = {r["id"] for r in records}
    coco = {**content, "images": records, "annotations": [a for a in people if a["image_id"] in kept]}
    note = f"{path.name}, {len(records)} of {len(content['images'])} images, annotated boxes"
    note += "" if areas else f"; OKS with {BOX_AREA} of their area"
    return _in_folder(folder, coco, note)


def box_frames(boxes: str | os.PathLike[str], images: str | os.PathLike[str]) -> Frames:
    """Frames of a folder of images and a file of boxes (`box_file.FORMATS`): only the boxes of the people are known.

    Their annotations have an empty list of keypoints, and `box_index` is the number of the box in its image. They serve
    to calibrate, not to judge. Raises InputError: the folder is missing, the file is not a file of boxes or has none
    for these images, or `posert run` would refuse a box.
    """
    path, folder = Path(boxes), Path(images)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected the images that {path.name} has boxes for")
    known = BoxFile(path)
    names = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in IMAGES)
    known.check(names)
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image, name in enumerate(names, 1):
        try:
            found = check_boxes(known.of(name)).tolist()
        except InputError as error:
            raise InputError(f"{path}: {name}: {error}") from error
        if found:
            records.append({"id": image, "file_name": name})
        for index, (x1, y1, x2, y2) in enumerate(found):
            box = [x1, y1, x2 - x1, y2 - y1]
            row = {"image_id": image, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            joints: dict[str, Any] = {"keypoints": [], "num_keypoints": 0}
            annotations.append({"id": len(annotations) + 1, **row, **joints, "box_index": index})
    if not annotations:
        raise InputError(f"{path} has no box for the {len(names)} images in {folder}")
    note = f"{path.name}, boxes of {len(annotations)} people in {len(records)} images"
    return _in_folder(folder, {"images": records, "annotations": annotations}, note)


def _in_folder(folder: Path, coco: dict[str, Any], note: str) -> Frames:
    def load(record: dict[str, Any]) -> NDArray[np.uint8]:
        return read_image(folder / record["file_name"])

    def read(name: str) -> bytes:
        return (folder / name).read_bytes()

    return Frames(coco, load, read, "user", note)


def read_image(path: Path) -> NDArray[np.uint8]:
    """One image file as `(H, W, 3)` uint8 BGR, turned upright by its EXIF tag.

    Raises InputError: there is no such file, or OpenCV cannot decode it.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such image")
    image = read_pixels(path)
    if image is None:
        raise InputError(f"{path}: cannot be decoded as an image; it is damaged or of a format OpenCV does not read")
    return image
