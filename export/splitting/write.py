"""The files of a split: annotations of each side in the form of the whole, and split.json with the groups."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...runtime.accuracy.label_csv import is_label_csv, table_of
from ...runtime.errors import InputError
from ...runtime.metrics.coco_files import read_json
from ...runtime.system.files import atomic_folder, check_writable
from .groups import Group


def check_folder(folder: Path) -> None:
    """Raise InputError: the folder of a split has files already, or cannot be made."""
    if folder.is_dir() and any(folder.iterdir()) or folder.is_file():
        raise InputError(f"{folder} exists: remove it, or choose another --output")
    check_writable(folder / "split.json")


def write_sides(
    folder: Path, annotations: Path, images: Path, sides: Mapping[str, Sequence[Group]], summary: Mapping[str, Any]
) -> None:
    """Write the annotations of each side as SIDE.json or SIDE.csv, as the whole file is, and `summary` as split.json.

    The files are written into a folder beside `folder`, which then takes its name.
    """
    check_folder(folder)
    names = {side: {name for group in groups for name in group.names} for side, groups in sides.items()}
    try:
        with atomic_folder(folder, None) as beside:
            if is_label_csv(annotations):
                for side, chosen in names.items():
                    rows = _rows(annotations, images, chosen)
                    (beside / f"{side}.csv").write_text(rows, encoding="utf-8", newline="")
            else:
                whole = read_json(annotations)
                for side, chosen in names.items():
                    (beside / f"{side}.json").write_text(json.dumps(_part(whole, chosen), indent=1))
            (beside / "split.json").write_text(json.dumps(summary, indent=1))
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error}") from error


def _part(whole: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    images = [record for record in whole["images"] if record["file_name"] in names]
    ids = {record["id"] for record in images}
    return {**whole, "images": images, "annotations": [a for a in whole["annotations"] if a["image_id"] in ids]}


def _rows(path: Path, images: Path, names: Collection[str]) -> str:
    head, rows = table_of(path, images)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([*head, *(row for name, row in rows if name in names)])
    return text.getvalue()
