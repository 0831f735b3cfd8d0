"""The calibration cache: a JSON file with what calibration found of a graph.

The calibrate command writes it, the build command uses it. It holds the sha256 of the graph and of the calibration set,
the range of each tensor, the factors of its channels, the rounding of each layer's weights, and the state of each
observer. With the states an interrupted calibration resumes, and the ranges of caches of the same graph merge to what
one run over all their people would give; factors and roundings, which have no states, are then those of the largest.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.bundle.schema import NUMBER, check_shape
from ..runtime.errors import CalibrationError
from ..runtime.system.files import atomic_write
from ..runtime.system.input_file import read_text_file
from ..runtime.system.json_text import parse_json
from .calibrated import Calibrated, with_channels
from .looks import PHASH_BYTES, Hash, different, moment_of
from .observers import Observer, Range
from .overlap import EvaluationImages, Overlap, in_words
from .ranges import CalibrationState, Ranges
from .rounding import Rounded

SCHEMA = 3
_LARGEST = 1 << 30  # bytes of an array: no layer has as many weights
_RANGE = {"lo": NUMBER, "hi": NUMBER}
_SHAPE: dict[str, Any] = {
    "calibration_cache": int,
    "model": str,
    "graph": str,
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
    "observers": {"*": {"*": object}},
    "channels": {"*": str},
    "rounded": {"*": {"shape": [int], "change": str, "scales": str, "shift": str}},
    "unfinished?": {"chunk": int, "due": int, "before": {"*": _RANGE}},
}


@dataclass(frozen=True)
class CalibrationCache:
    """The content of a calibration cache.

    Attributes:
        model: name of the model, for messages.
        graph: sha256 of the float32 graph, as in a bundle's manifest.
        sets: the calibration sets, as `CalibrationSet.provenance` describes them, with the name of the images' source
            in `data` and its `kind`; of each file the sha256, and perceptual hashes of its people.
        state: the observers and how many crops they have seen.
        calibrated: what was found; None until the calibration is finished. If not, it can be resumed from `state`.
    """

    model: str
    graph: str
    sets: tuple[dict[str, Any], ...]
    state: CalibrationState
    calibrated: Calibrated | None = None

    @property
    def ranges(self) -> Ranges:
        """By tensor, and how they converged; empty until the calibration is finished."""
        return Ranges({}, self.state.curve) if self.calibrated is None else self.calibrated.ranges

    def result(self, source: str) -> Calibrated:
        """What was found.

        Raises:
            CalibrationError: the calibration was interrupted.
        """
        if self.calibrated is None:
            raise CalibrationError(
                f"{source} is unfinished ({self.state.crops} crops); run posert calibrate to finish it"
            )
        return self.calibrated

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
        "crops": c.state.crops,
        "sets": list(c.sets),
        "curve": [list(point) for point in c.ranges.curve],
        "settled": c.ranges.settled,
        "ranges": {name: asdict(r) for name, r in c.ranges.items()},
        "channels": {},
        "rounded": {},
        "observers": {name: one.to_json() for name, one in c.state.observers.items()},
    }
    if c.calibrated is None:
        before = {name: asdict(r) for name, r in c.state.before.items()}
        values["unfinished"] = {"chunk": c.state.chunk, "due": c.state.due, "before": before}
    else:
        values["channels"] = {name: _pack(scale) for name, scale in c.calibrated.channels.items()}
        values["rounded"] = {
            name: {"shape": list(r.change.shape), **{part: _pack(getattr(r, part)) for part in _PARTS}}
            for name, r in c.calibrated.rounded.items()
        }
    with atomic_write(path) as file:
        file.write(json.dumps(values, indent=1, allow_nan=False).encode() + b"\n")


def read_cache(path: str | os.PathLike[str]) -> CalibrationCache:
    """Read what `write_cache` wrote.

    Raises:
        CalibrationError: the file is missing or is not a calibration cache; the message says why.
    """
    try:
        values = parse_json(read_text_file(path))
        if not isinstance(values, dict) or values.get("calibration_cache") != SCHEMA:
            raise ValueError(f"it does not begin with calibration_cache: {SCHEMA}")
        check_shape(values, _SHAPE, "calibration cache")
        if not values["sets"]:
            raise ValueError("it has no calibration set")
        for file in (file for one in values["sets"] for file in one["files"].values()):
            for text in file["people"]:
                _hash(text)
        state = CalibrationState(values["crops"], curve=[(int(n), float(change)) for n, change in values["curve"]])
        for name, kept in values["observers"].items():
            state.observers[name] = Observer()
            state.observers[name].load_json(kept)
        found = None
        if "unfinished" in values:
            rest = values["unfinished"]
            state.chunk, state.due, state.before = rest["chunk"], rest["due"], _ranges_from_json(rest["before"])
        else:
            channels = {name: _positive(text) for name, text in values["channels"].items()}
            rounded = {name: _rounded(one) for name, one in values["rounded"].items()}
            found = with_channels(state.observers, channels, state.curve, rounded)
            if found.ranges != _ranges_from_json(values["ranges"]):
                raise ValueError("its ranges are not those of its observers")
    except OSError as error:
        raise CalibrationError(f"cannot read {path}: {error.strerror}; make it with posert calibrate") from error
    except (CalibrationError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CalibrationError(
            f"{path} is not a calibration cache of this version ({error}); make it again with posert calibrate"
        ) from error
    model, graph, sets = (values[name] for name in ("model", "graph", "sets"))
    return CalibrationCache(model, graph, tuple(sets), state, found)


_PARTS = ("change", "scales", "shift")  # of `Rounded`


def _pack(values: NDArray[Any]) -> str:
    """An array's values, compressed, as text; little-endian."""
    return base64.b64encode(zlib.compress(values.astype(values.dtype.newbyteorder("<")).tobytes(), 9)).decode()


def _unpacked(text: str, dtype: str) -> NDArray[Any]:
    try:
        packed = zlib.decompressobj()
        data = packed.decompress(base64.b64decode(text, validate=True), _LARGEST)
    except zlib.error as error:
        raise ValueError(f"an array cannot be decompressed: {error}") from error
    if not packed.eof:
        raise ValueError(f"an array is cut short, or of more than {_LARGEST >> 20} MB")
    found = np.frombuffer(data, dtype).astype(np.dtype(dtype).newbyteorder("="))
    if not np.isfinite(found).all():
        raise ValueError("an array holds NaN or infinity")
    return found


def _positive(text: str) -> NDArray[Any]:
    found = _unpacked(text, "<f4")
    if not len(found) or found.min() <= 0:
        raise ValueError("a factor or scale is not positive")
    return found


def _rounded(values: Mapping[str, Any]) -> Rounded:
    change = _unpacked(values["change"], "i1").reshape(values["shape"])
    return Rounded(change, _positive(values["scales"]), _unpacked(values["shift"], "<f4"))


def _hash(text: str) -> Hash:
    found = np.frombuffer(bytes.fromhex(text), np.uint8)
    if len(found) != PHASH_BYTES:
        raise ValueError(f"a perceptual hash has {PHASH_BYTES} bytes, got {text!r}")
    return found


def _ranges_from_json(values: Mapping[str, Any]) -> dict[str, Range]:
    return {name: Range(float(r["lo"]), float(r["hi"])) for name, r in values.items()}
