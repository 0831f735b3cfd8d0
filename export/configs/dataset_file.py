"""Joints from a data set file: posert's own, MMPose's, a COCO annotation file, or ultralytics' data.yaml."""

from __future__ import annotations

import json
import mmap
import re
from pathlib import Path
from typing import Any

from ...runtime.errors import ConfigError, naming
from . import yaml_file
from .evaluate import read_config
from .fields import Field
from .files import MAX_TEXT, decode, is_regular, read_bytes
from .joints import Joints, Pairs, of_metainfo

_EXPECTED = (
    "keypoints (a list of names), MMPose's dataset_info, the categories of a COCO annotation file, or kpt_shape of "
    "ultralytics' data.yaml"
)
_SIDES = (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT"), ("l", "r"), ("L", "R"))


def read_joints(path: str | Path, config_root: Path | None = None) -> Joints:
    """Read the joints of a data set.

    The project's own form is YAML or JSON with `name` and `keypoints`, and optionally `flip_pairs` (by index or name)
    or `flip_idx`, `skeleton` (by index or name) and `sigmas`. Indices begin with 0.

    Raises:
        ConfigError: the file cannot be read, or does not say the joints; the message says what is expected.
    """
    with naming(path):
        return _read(Path(path), config_root)


def _read(path: Path, config_root: Path | None) -> Joints:
    if path.suffix == ".py":
        top = read_config(path, config_root).top
        if not top["dataset_info"]:
            raise top["dataset_info"].error("the joints, as in MMPose's configs/_base_/datasets")
        return of_metainfo(top["dataset_info"]).known()
    if is_regular(path) and path.stat().st_size > MAX_TEXT:
        return _of_category(Field({"categories": _categories(path)}, "", str(path)), path.stem)
    top = Field(yaml_file.load(decode(read_bytes(path), str(path)), str(path)), "", str(path))
    top.mapping()
    if top["categories"]:
        return _of_category(top, path.stem)
    if top["dataset_info"]:
        top = top["dataset_info"]
    if top["keypoint_info"]:
        return of_metainfo(_with_numbers(top)).known()
    if top["kpt_shape"]:
        return _of_ultralytics(top, path.stem)
    if top["keypoints"]:
        return _own(top, path.stem)
    raise ConfigError(f"{path}: the joints are missing; expected {_EXPECTED}")


def _own(top: Field, stem: str) -> Joints:
    unknown = top.mapping().keys() - {"name", "keypoints", "flip_pairs", "flip_idx", "skeleton", "sigmas"}
    if unknown:
        raise ConfigError(
            f"{top.label}: unknown {', '.join(sorted(map(str, unknown)))[:200]}; expected name, keypoints and "
            "optionally flip_pairs or flip_idx, skeleton, sigmas"
        )
    names = tuple(name.text() for name in top["keypoints"].items())
    pairs = _flip_idx(top["flip_idx"], len(names)) if top["flip_idx"] else _pairs(top["flip_pairs"], names)
    notes: tuple[str, ...] = ()
    if not top["flip_idx"] and top["flip_pairs"].value is None and (guessed := guess_pairs(names)):
        pairs, notes = guessed, (_guess_note(guessed, names),)
    return Joints(
        top["name"].text(stem),
        names,
        pairs,
        _pairs(top["skeleton"], names),
        tuple(sigma.number() for sigma in top["sigmas"].items()),
        notes,
    ).known(fill_in=True)


def _of_category(top: Field, stem: str) -> Joints:
    """COCO's own form, whose skeleton counts from 1."""
    with_joints = [c for c in top["categories"].items() if c["keypoints"]]
    if len({tuple(c["keypoints"].value) for c in with_joints}) != 1:
        raise top["categories"].error("one category with keypoints, or several with the same ones")
    category = with_joints[0]
    names = tuple(name.text() for name in category["keypoints"].items())
    skeleton = tuple((a - 1, b - 1) for a, b in _pairs(category["skeleton"], names, 1))
    pairs = guess_pairs(names)
    joints = Joints(category["name"].text(stem), names, pairs, skeleton)
    known = joints.known(fill_in=True)
    if known.name != joints.name or not pairs:
        return known
    return Joints(known.name, names, pairs, skeleton, (), (_guess_note(pairs, names),))


def _of_ultralytics(top: Field, stem: str) -> Joints:
    shape = [part.whole() for part in top["kpt_shape"].items()]
    if len(shape) != 2 or not 0 < shape[0] <= 1000:
        raise top["kpt_shape"].error("[joints, 2 or 3]")
    names, notes = tuple(f"joint{i}" for i in range(shape[0])), ["names: joint0, joint1, ...; the file has none"]
    listed = top["kpt_names"].value
    if isinstance(listed, dict) and listed:  # newer files have them, by class
        first = next(iter(listed))
        names, notes = tuple(n.text() for n in Field(listed[first], "kpt_names", top.label).items()), []
        if len(names) != shape[0]:
            raise top["kpt_names"].error(f"{shape[0]} names, as kpt_shape says")
    pairs = _flip_idx(top["flip_idx"], shape[0]) if top["flip_idx"] else ()
    if not top["flip_idx"]:
        notes.append("flip pairs: none; the file has no flip_idx")
    return Joints(stem, names, pairs, (), (), tuple(notes)).known()


def _flip_idx(field: Field, count: int) -> Pairs:
    index = [part.whole() for part in field.items()]
    if len(index) != count or any(not 0 <= j < count or index[j] != i for i, j in enumerate(index)):
        raise field.error(f"for each of {count} joints its partner in a mirror image, or itself")
    return tuple((i, j) for i, j in enumerate(index) if i < j)


def _pairs(field: Field, names: tuple[str, ...], first: int = 0) -> Pairs:
    """Pairs of joints by index, counted from `first`, or by name."""

    def joint(part: Field) -> int:
        if isinstance(part.value, str):
            if part.value not in names:
                raise part.error(f"a joint, such as {names[0]!r}")
            return names.index(part.value) + first
        if not first <= part.whole() < len(names) + first:
            raise part.error(f"a joint from {first} to {len(names) + first - 1}")
        return part.whole()

    out = []
    for pair in field.items():
        if len(pair.items()) != 2:
            raise pair.error("two joints")
        out.append((joint(pair[0]), joint(pair[1])))
    return tuple(out)


def guess_pairs(names: tuple[str, ...]) -> Pairs:
    """Joints whose names differ by left and right (or l and r, as words) alone."""
    index = {name: i for i, name in enumerate(names)}
    pairs = set()
    for name, i in index.items():
        for left, right in _SIDES:
            parts = re.split(r"([^A-Za-z]+|(?<=[a-z])(?=[A-Z]))", name) if len(left) == 1 else [name]
            mirrored = [re.sub(left, right, p) if len(left) > 1 else right if p == left else p for p in parts if p]
            other = index.get("".join(mirrored))
            if other is not None and other != i:
                pairs.add((min(i, other), max(i, other)))
    return tuple(sorted(pairs))


def _guess_note(pairs: Pairs, names: tuple[str, ...]) -> str:
    return "flip pairs: guessed from the names: " + ", ".join(f"{names[a]}/{names[b]}" for a, b in pairs)[:300]


def _with_numbers(info: Field) -> Field:
    """MMPose's form in JSON, whose keys are texts."""
    table: Any = {int(k) if str(k).isdecimal() else k: v for k, v in info["keypoint_info"].mapping().items()}
    return Field({**info.mapping(), "keypoint_info": table}, info.path, info.label)


def _categories(path: Path) -> Any:
    """`categories` of a COCO annotation file, without reading its hundreds of megabytes of annotations."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = len(data)
        for _ in range(100):
            at = data.rfind(b'"categories"', 0, at)
            if at < 0:
                break
            text = data[at + 12 : at + 12 + MAX_TEXT].decode("utf-8", "replace")
            try:
                value, _end = json.JSONDecoder().raw_decode(text.lstrip(" \t\r\n:"))
            except (ValueError, RecursionError):
                continue
            if isinstance(value, list):
                return value
    raise ConfigError(f"{path}: larger than {MAX_TEXT} bytes and no COCO annotation file; expected {_EXPECTED}")
