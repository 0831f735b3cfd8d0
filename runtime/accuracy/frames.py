"""Labelled frames: images and the people in them, in COCO's keypoint format."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle.contract import Contract
from ..datasets import DATASETS, dataset, datasets
from ..errors import InputError, naming
from ..media.box_file import BoxFile
from ..media.image_file import read_bytes, read_pixels
from ..media.sources import IMAGES
from ..metrics.coco_files import check, images_of, numbers, read_json, require
from ..metrics.oks_matching import BOX_AREA
from ..pose.preprocess import FARTHEST, check_boxes
from .label_csv import is_label_csv, read_label_csv, with_box
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

        Raises:
            InputError: the categories name other joints, or a number of joints differs; the message shows them.
        """
        k = len(contract.keypoints)
        _check_names(self.coco.get("categories"), contract)
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
        annotations: path of `person_keypoints_*.json`, or of another file in that format. What all annotations lack is
            filled in: `num_keypoints` is counted, `bbox` is the joints' extent, and OKS takes the `area` from the box.
            Or a CSV of DeepLabCut or Lightning Pose, see `label_csv`.
        images: folder of the images, under their `file_name`.
        limit: at most this many images with people, spread evenly over the file.

    Raises:
        InputError: the file or the folder is missing, or is not a COCO keypoint file.
    """
    path, folder = Path(annotations), Path(images)
    with naming(path):
        return _in_folder(folder, *_read(path, folder, limit))


def _read(path: Path, folder: Path, limit: int | None) -> tuple[dict[str, Any], str]:
    """The records that `read_frames` uses, and a note about them."""
    content = read_label_csv(path, folder) if is_label_csv(path) else read_json(path)
    images_of(content)
    require(content["images"], "images", ("id", "file_name"))
    require(content["annotations"], "annotations", ("id", "image_id", "keypoints"))
    joints = (a["keypoints"] for a in content["annotations"])
    bad = (not isinstance(v, list) or len(v) % 3 or not {int, float}.issuperset(map(type, v)) for v in joints)
    wrong = "has 'keypoints' that are not a list of numbers x, y, v"
    check(content["annotations"], "annotations", bad, lambda a: wrong)
    infinite = (not all(-FARTHEST < v < FARTHEST for v in a["keypoints"]) for a in content["annotations"])
    wrong_number = "has NaN, infinity or a number beyond any image in 'keypoints'"
    check(content["annotations"], "annotations", infinite, lambda a: wrong_number)
    given = {name: any(name in a for a in content["annotations"]) for name in ("num_keypoints", "bbox", "area")}
    require(content["annotations"], "annotations", [name for name, some in given.items() if some])
    people = [_completed(a) for a in content["annotations"]]
    numbers(people, "annotations", "bbox", 4)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected the images that {path.name} names")
    with_people = {a["image_id"] for a in people if a["num_keypoints"] and not a.get("iscrowd")}
    records = [r for r in content["images"] if r["id"] in with_people]
    if not records:
        count = f"{len(content['annotations'])} annotations of {len(content['images'])} images"
        raise InputError(f"{path.name} labels no joint: none of its {count} has a joint of v > 0")
    if limit is not None and len(records) > limit:
        records = [records[i] for i in np.linspace(0, len(records) - 1, limit).astype(int)]
    gone = [r["file_name"] for r in records if not os.path.isfile(folder / r["file_name"])]
    if gone:
        seen = f"{len(gone)} of {len(records)} images that {path.name} names"
        raise InputError(f"{folder} lacks {seen}, such as {gone[0]}")
    kept = {r["id"] for r in records}
    coco = {**content, "images": records, "annotations": [a for a in people if a["image_id"] in kept]}
    boxes = "annotated boxes" if given["bbox"] else "boxes around the joints"
    note = f"{path.name}, {len(records)} of {len(content['images'])} images, {boxes}"
    note += "" if given["area"] else f"; OKS with {BOX_AREA} of their area"
    return coco, note


def _completed(annotation: dict[str, Any]) -> dict[str, Any]:
    """An annotation with what follows from its joints."""
    joints = annotation["keypoints"]
    counted = {"num_keypoints": sum(v > 0 for v in joints[2::3]), **annotation}
    if "bbox" in annotation:
        return counted
    return with_box(counted, joints) if counted["num_keypoints"] else {"bbox": [0, 0, 0, 0], **counted}


def _check_names(categories: Any, contract: Contract) -> None:
    """Raise InputError if a category names other joints than the contract has, or the same ones in another order.

    Data sets spell and abbreviate their joints in several ways, so half of the names must be the same, and they must
    not be those of another known data set. COCO-WholeBody's own files name only the joints of the body.
    """
    own = [_plain(name) for name in contract.keypoints]
    known = {tuple(map(_plain, one.keypoints)) for one in DATASETS.specs().values()}
    for category in categories if isinstance(categories, list) else ():
        given = category.get("keypoints") if isinstance(category, dict) else None
        names = [_plain(name) for name in given] if isinstance(given, list) else []
        if not names or names == own[: len(names)]:
            continue
        same = sum(a == b for a, b in zip(names, own, strict=False))
        if 2 * same < len(names) or sorted(names) == sorted(own) or tuple(names) in known:
            raise InputError(
                f"the annotations are of the {len(names)} joints {_some(given)}, the model ({contract.dataset}) has "
                f"the {len(own)} joints {_some(contract.keypoints)}: give the annotations that belong to this model, "
                "or the contract that belongs to these annotations"
            )


def _plain(name: Any) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def _some(names: Any) -> str:
    return ", ".join(map(str, names[:4])) + (", ..." if len(names) > 4 else "")


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
        return read_bytes(folder / name)

    return Frames(coco, load, read, "user", note)


def read_image(path: Path) -> NDArray[np.uint8]:
    """One image file as `(H, W, 3)` uint8 BGR, turned upright by its EXIF tag.

    Raises InputError: there is no such file, or OpenCV cannot decode it.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such image")
    image = read_pixels(path)
    if image is None:
        raise InputError(f"{path}: cannot be decoded as an image; it is damaged or of a format OpenCV does not read")
    return image
