"""The calibration cache: a JSON file with the ranges of a graph's activations.

`posert calibrate` writes it, `posert build` uses it. It holds the sha256 of the graph and of the calibration set, the
range of each tensor, and the state of each observer (minimum and maximum; for methods that weigh values also a
compressed histogram). With the states an interrupted calibration resumes, and caches of the same graph merge to what
one run over all their people would give.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.bundle.schema import NUMBER, check_shape
from ..runtime.errors import CalibrationError
from ..runtime.system.files import atomic_write
from .looks import PHASH_BYTES, Hash, different, moment_of
from .methods import method as find_method
from .observers import Range
from .overlap import EvaluationImages, Overlap, in_words
from .ranges import CalibrationState, Ranges, mean_change

SCHEMA = 2
_RANGE = {"lo": NUMBER, "hi": NUMBER}
_SHAPE: dict[str, Any] = {
    "calibration_cache": int,
    "model": str,
    "graph": str,
    "method": str,
    "crops": int,
    "sets": [
        {
            **{"sha256": str, "data": str, "kind": str, "people": int, "images": int},
            "strata": {"*": int},
            "files": {"*": {"sha256": str, "people": [str]}},
        }
    ],
    "curve": [list],
    "settled": bool,
    "ranges": {"*": _RANGE},
    "observers": {"*": {**_RANGE, "*": object}},
    "unfinished?": {"chunk": int, "due": int, "before": {"*": _RANGE}},
}


@dataclass(frozen=True)
class CalibrationCache:
    """The content of a calibration cache.

    Attributes:
        model: name of the model, for messages.
        graph: sha256 of the float32 graph, as in a bundle's manifest.
        method: range method, see methods.py.
        sets: the calibration sets, as `CalibrationSet.provenance` describes them, with the name of the images' source
            in `data` and its `kind`; of each file the sha256, and perceptual hashes of its people.
        ranges: by tensor, and how they converged; empty until the calibration is finished.
        state: the observers and how many crops they have seen.
        finished: whether all crops of the sets were observed; if not, the calibration can be resumed from `state`.
    """

    model: str
    graph: str
    method: str
    sets: tuple[dict[str, Any], ...]
    ranges: Ranges
    state: CalibrationState
    finished: bool = True

    @property
    def different(self) -> int:
        """How many of the people that were calibrated on do not look alike."""
        texts = [text for one in self.sets for file in one["files"].values() for text in file["people"]]
        return min(self.state.crops, different([_hash(text) for text in texts]) or self.state.crops)

    def check_graph(self, sha256: str, source: str) -> None:
        """Refuse another graph than the one that was calibrated.

        Raises:
            CalibrationError: the hashes differ; the message names both.
        """
        if self.graph != sha256:
            raise CalibrationError(
                f"{source} is the calibration cache of another graph: {self.model}, float32 graph sha256 {self.graph}; "
                f"expected {sha256}. Calibrate that graph with posert calibrate"
            )

    def check_held_out(self, held_out: EvaluationImages, source: str) -> None:
        """Refuse calibration images that are in the evaluation set or look like an image of it: what the ranges rest on
        cannot be taken out of them.

        Raises:
            CalibrationError: there are such images; the message names them.
        """
        found = Overlap({}, {})
        for name, file in ((n, f) for one in self.sets for n, f in one["files"].items()):
            people = [_hash(text) for text in file["people"]]
            if (copied := held_out.file(file["sha256"])) is not None:
                found.copies[name] = copied
            elif (alike := held_out.similar(people, moment_of({"file_name": name}))) is not None:
                found.similar[name] = alike
        held_out.suspects |= found.similar
        if found.copies or (found.similar and not held_out.allow_similar):
            raise CalibrationError(
                f"{source}: of the images that it was calibrated on, {len(found.copies)} are also in the evaluation "
                f"set and {len(found.similar)} look like an image of it: "
                f"{in_words({**found.copies, **found.similar}, 'there')}. Accuracy measured there could be too high. "
                "Calibrate again without them, or give the build --calib and --calib-images in place of this file: it "
                "leaves out what looks alike (--allow-similar keeps it)"
            )


def write_cache(path: str | os.PathLike[str], cache: CalibrationCache) -> None:
    """Write the file atomically. The same content gives the same bytes."""
    c = cache
    values = {
        "calibration_cache": SCHEMA,
        "model": c.model,
        "graph": c.graph,
        "method": c.method,
        "crops": c.state.crops,
        "sets": list(c.sets),
        "curve": [list(point) for point in (c.ranges.curve if c.finished else c.state.curve)],
        "settled": c.ranges.settled,
        "ranges": {name: asdict(r) for name, r in c.ranges.items()},
        "observers": {name: one.to_json() for name, one in c.state.observers.items()},
    }
    if not c.finished:
        before = {name: asdict(r) for name, r in c.state.before.items()}
        values["unfinished"] = {"chunk": c.state.chunk, "due": c.state.due, "before": before}
    with atomic_write(path) as file:
        file.write(json.dumps(values, indent=1, allow_nan=False).encode() + b"\n")


def read_cache(path: str | os.PathLike[str]) -> CalibrationCache:
    """Read what `write_cache` wrote.

    Raises:
        CalibrationError: the file is missing or is not a calibration cache; the message says why.
    """
    try:
        values = json.loads(Path(path).read_bytes())
        if not isinstance(values, dict) or values.get("calibration_cache") != SCHEMA:
            raise ValueError(f"it does not begin with calibration_cache: {SCHEMA}")
        check_shape(values, _SHAPE, "calibration cache")
        if not values["sets"]:
            raise ValueError("it has no calibration set")
        for file in (file for one in values["sets"] for file in one["files"].values()):
            for text in file["people"]:
                _hash(text)
        observer, _ = find_method(values["method"])
        curve = [(int(crops), float(change)) for crops, change in values["curve"]]
        state = CalibrationState(values["crops"], curve=curve)
        for name, kept in values["observers"].items():
            state.observers[name] = observer()
            state.observers[name].load_json(kept)
        if "unfinished" in values:
            rest = values["unfinished"]
            state.chunk, state.due, state.before = rest["chunk"], rest["due"], _ranges_from_json(rest["before"])
        elif values["observers"].keys() != values["ranges"].keys():
            raise ValueError("ranges and observers name different tensors")
    except OSError as error:
        raise CalibrationError(f"cannot read {path}: {error.strerror}; make it with posert calibrate") from error
    except (CalibrationError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CalibrationError(
            f"{path} is not a calibration cache of this version ({error}); make it again with posert calibrate"
        ) from error
    model, graph, method, sets = (values[name] for name in ("model", "graph", "method", "sets"))
    ranges = Ranges(_ranges_from_json(values["ranges"]), curve)
    return CalibrationCache(model, graph, method, tuple(sets), ranges, state, "unfinished" not in values)


def merge_caches(parts: Sequence[tuple[str, CalibrationCache]]) -> CalibrationCache:
    """Compute what one calibration over the people of all parts would give.

    Minima, maxima and histograms are merged, so the ranges are those of one run. The curve is not: its one point is the
    change from the ranges of the first part.

    Args:
        parts: (file name for messages, cache); two or more.

    Raises:
        CalibrationError: graphs, methods or tensors differ, a part is unfinished, or two share a set or images.
    """
    (first_name, first), *others = parts
    sets = list(first.sets)
    owner = dict.fromkeys(_images(first), first_name)
    for name, other in others:
        other.check_graph(first.graph, name)
        if other.method != first.method or other.ranges.keys() != first.ranges.keys():
            raise CalibrationError(
                f"{name} holds {len(other.ranges)} ranges by {other.method}, {first_name} holds {len(first.ranges)} by "
                f"{first.method}; only caches of the same method and tensors can be merged"
            )
        known = {one["sha256"] for one in sets}
        twice = [one["sha256"] for one in other.sets if one["sha256"] in known]
        if twice:
            raise CalibrationError(f"{name}: its calibration set {twice[0]} is already in another file to merge")
        images = _images(other)
        both = [sha256 for sha256 in images if sha256 in owner]
        if both:
            raise CalibrationError(
                f"{name}: {len(both)} of its {len(images)} images are also in {owner[both[0]]}, such as "
                f"{images[both[0]]!r} (sha256 {both[0]}), and their people would count twice. Use separate images for "
                "each file, or calibrate once on all people"
            )
        owner |= dict.fromkeys(images, name)
        sets += other.sets
    for name, part in parts:
        if not part.finished:
            crops = part.state.crops
            raise CalibrationError(f"{name} is unfinished ({crops} crops); run posert calibrate to finish it")
    observer, range_of = find_method(first.method)
    observers = {tensor: observer() for tensor in first.ranges}
    for tensor in observers:
        for _, part in parts:
            observers[tensor].merge(part.state.observers[tensor])
    crops = sum(part.state.crops for _, part in parts)
    found = {name: range_of(one) for name, one in observers.items()}
    curve = [(crops, mean_change(first.ranges, found))]
    state = CalibrationState(crops, curve=curve, observers=observers)
    return replace(first, sets=tuple(sets), ranges=Ranges(found, curve), state=state)


def _hash(text: str) -> Hash:
    found = np.frombuffer(bytes.fromhex(text), np.uint8)
    if len(found) != PHASH_BYTES:
        raise ValueError(f"a perceptual hash has {PHASH_BYTES} bytes, got {text!r}")
    return found


def _images(cache: CalibrationCache) -> dict[str, str]:
    """File names by sha256. The cache does not say which people of an image were sampled, so a shared image counts as
    shared people."""
    return {file["sha256"]: name for one in cache.sets for name, file in one["files"].items()}


def _ranges_from_json(values: Mapping[str, Any]) -> dict[str, Range]:
    return {name: Range(float(r["lo"]), float(r["hi"])) for name, r in values.items()}
