"""The file of scales: the ranges of a graph's activations, and what it takes to go on, to merge and to trust them.

JSON. First what a person wants to read: the graph and the people that the ranges belong to, both by sha256, and the
range of each tensor. Then `seen`, what the method kept of each tensor (extremes; for methods that weigh values a
histogram, packed): with it two files of the same graph merge to what one run over all their people would have given.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.bundle.schema import NUMBER, check_shape
from ..runtime.errors import CalibrationError
from ..runtime.system.files import atomic_write
from .histogram import Range
from .methods import KEYPOINTS
from .methods import method as find_method
from .overlap import LOOK_BYTES, EvaluationSet
from .ranges import Ranges, Seen, mean_change

SCHEMA = 1
_RANGE = {"lo": NUMBER, "hi": NUMBER}
_SHAPE: dict[str, Any] = {
    "scales": int,
    "model": str,
    "graph": str,
    "method": str,
    "crops": int,
    "sets": [
        {
            **dict.fromkeys(("sha256", "data"), str),
            **dict.fromkeys(("people", "images"), int),
            "strata": {"*": int},
            "files": {"*": {"sha256": str, "look": (str, type(None))}},
        }
    ],
    "curve": [list],
    "settled": bool,
    "ranges": {"*": _RANGE},
    "seen": {"*": {**_RANGE, "*": object}},
    "unfinished?": {"chunk": int, "due": int, "before": {"*": _RANGE}},
}


@dataclass(frozen=True)
class Scales:
    """A file of scales.

    Attributes:
        model: name of the model, for people.
        graph: sha256 of the float32 graph, as a bundle's manifest has it.
        method: how a range was found, see methods.py.
        sets: the calibration sets, as `images.CalibrationSet.provenance` describes them, with whose images they are in
            `data` and a fingerprint of each file.
        ranges: by tensor, and how they settled; empty as long as it is not finished.
        seen: what was kept of the crops.
        finished: whether all crops of the sets were seen; if not, this is where to go on.
    """

    model: str
    graph: str
    method: str
    sets: tuple[dict[str, Any], ...]
    ranges: Ranges
    seen: Seen
    finished: bool = True

    def check_graph(self, sha256: str, source: str) -> None:
        """Refuse to be used on another graph.

        Raises:
            CalibrationError: both hashes are named.
        """
        if self.graph != sha256:
            raise CalibrationError(
                f"{source} holds scales of another graph: of {self.model}, float32 graph sha256 {self.graph}; this "
                f"build's has {sha256}. Calibrate this one: posert calibrate ... --scales {source}"
            )

    def check_held_out(self, held_out: EvaluationSet, source: str) -> None:
        """Refuse calibration images that accuracy is measured on, as far as hash and looks tell.

        Raises:
            CalibrationError: one is; it is named.
        """
        for name, file in ((n, f) for one in self.sets for n, f in one["files"].items()):
            look = np.frombuffer(bytes.fromhex(file["look"]), np.uint8) if file["look"] else None
            copied = held_out.match(file["sha256"], look)
            if copied is not None:
                raise CalibrationError(
                    f"{source}: calibration image {name!r} is also in the evaluation set, as {copied}: accuracy "
                    "measured there would flatter the quantised network. Calibrate on training images."
                )


def write_scales(path: str | os.PathLike[str], scales: Scales) -> None:
    """Write the file beside its name, then rename it. The same scales give the same bytes."""
    s = scales
    values = {
        "scales": SCHEMA,
        "model": s.model,
        "graph": s.graph,
        "method": s.method,
        "crops": s.seen.crops,
        "sets": list(s.sets),
        "curve": [list(point) for point in (s.ranges.curve if s.finished else s.seen.curve)],
        "settled": s.ranges.settled,
        "ranges": _plain(s.ranges),
        "seen": {name: one.to_json() for name, one in s.seen.observers.items()},
    }
    if not s.finished:
        values["unfinished"] = {"chunk": s.seen.chunk, "due": s.seen.due, "before": _plain(s.seen.before)}
    with atomic_write(path) as file:
        file.write(json.dumps(values, indent=1, allow_nan=False).encode() + b"\n")


def read_scales(path: str | os.PathLike[str]) -> Scales:
    """Read a file back.

    Raises:
        CalibrationError: it is missing or something else; the message says what.
    """
    try:
        values = json.loads(Path(path).read_bytes())
        if not isinstance(values, dict) or values.get("scales") != SCHEMA:
            raise ValueError(f"it does not begin with scales: {SCHEMA}")
        check_shape(values, _SHAPE, "scales")
        if not values["sets"]:
            raise ValueError("it names no people")
        for look in (file["look"] for one in values["sets"] for file in one["files"].values()):
            if look is not None and len(bytes.fromhex(look)) != LOOK_BYTES:
                raise ValueError(f"an image's look has {LOOK_BYTES} bytes, not {look!r}")
        start, _ = find_method(values["method"])
        seen = Seen(values["crops"], curve=[(int(crops), float(change)) for crops, change in values["curve"]])
        for name, kept in values["seen"].items():
            seen.observers[name] = start()
            seen.observers[name].restore(kept)
        if "unfinished" in values:
            rest = values["unfinished"]
            seen.chunk, seen.due, seen.before = rest["chunk"], rest["due"], _ranges(rest["before"])
        elif values["seen"].keys() != values["ranges"].keys():
            raise ValueError("ranges and seen name different tensors")
    except OSError as error:
        raise CalibrationError(f"cannot read {path}: {error.strerror}; posert calibrate makes such a file") from error
    except (CalibrationError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CalibrationError(
            f"{path} is not a file of scales, or of another version ({error}); posert calibrate makes such a file"
        ) from error
    return Scales(
        values["model"],
        values["graph"],
        values["method"],
        tuple(values["sets"]),
        Ranges(_ranges(values["ranges"]), seen.curve),
        seen,
        "unfinished" not in values,
    )


def merge_scales(parts: Sequence[tuple[str, Scales]]) -> Scales:
    """What one calibration over the people of all parts would have found.

    Minima and maxima are united and histograms added, so the ranges are those of one run; only the curve is not: its
    one point says how far the ranges moved from those of the first part. Ranges that were chosen by looking at crops
    again cannot be merged.

    Args:
        parts: name of the file, for messages, and scales; two or more.

    Raises:
        CalibrationError: graphs, methods or tensors differ, a part is unfinished, or two share a set or images.
    """
    (first_name, first), *others = parts
    if first.method == KEYPOINTS:
        raise CalibrationError(
            f"{first_name} holds ranges by {KEYPOINTS}, which are found on the crops, and no file keeps those: give "
            "all people to one calibration, or merge scales of --method mse"
        )
    sets = list(first.sets)
    owner = dict.fromkeys(_images(first), first_name)
    for name, other in others:
        other.check_graph(first.graph, name)
        if other.method != first.method or other.ranges.keys() != first.ranges.keys():
            raise CalibrationError(
                f"{name} holds {len(other.ranges)} ranges by {other.method}, {first_name} holds {len(first.ranges)} by "
                f"{first.method}: only scales of the same method and tensors can be merged"
            )
        known = {one["sha256"] for one in sets}
        twice = [one["sha256"] for one in other.sets if one["sha256"] in known]
        if twice:
            raise CalibrationError(f"{name}: the people of its set {twice[0]} are in already; they would count twice")
        images = _images(other)
        both = [sha256 for sha256 in images if sha256 in owner]
        if both:
            raise CalibrationError(
                f"{name}: {len(both)} of its {len(images)} images are also in {owner[both[0]]}, such as "
                f"{images[both[0]]!r} (sha256 {both[0]}); whom they show would count twice. Give each file images of "
                "its own, or all people to one calibration"
            )
        owner |= dict.fromkeys(images, name)
        sets += other.sets
    for name, part in parts:
        if not part.finished:
            raise CalibrationError(f"{name} is unfinished, {part.seen.crops} crops; go on with posert calibrate first")
    start, finish = find_method(first.method)
    observers = {}
    for tensor in first.ranges:
        observers[tensor] = start()
        for _, part in parts:
            observers[tensor].absorb(part.seen.observers[tensor])
    crops = sum(part.seen.crops for _, part in parts)
    found = {name: finish(one) for name, one in observers.items()}
    curve = [(crops, mean_change(first.ranges, found))]
    seen = Seen(crops, curve=curve, observers=observers)
    return replace(first, sets=tuple(sets), ranges=Ranges(found, curve), seen=seen)


def _images(scales: Scales) -> dict[str, str]:
    """File names by sha256. Which people of an image were drawn is not kept: one image is taken for the same people."""
    return {file["sha256"]: name for one in scales.sets for name, file in one["files"].items()}


def _plain(ranges: Mapping[str, Range]) -> dict[str, dict[str, float]]:
    return {name: {"lo": r.lo, "hi": r.hi} for name, r in ranges.items()}


def _ranges(values: Mapping[str, Any]) -> dict[str, Range]:
    return {name: Range(float(r["lo"]), float(r["hi"])) for name, r in values.items()}
