"""Calibrate a network: the ranges of its activations over images of people, in runs that can be resumed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from ..calib.cache import CalibrationCache, write_cache
from ..calib.calibrated import calibrate
from ..calib.images import CalibrationSet, crops_from_coco
from ..calib.looks import Picture, image_facts
from ..calib.placement import place
from ..calib.ranges import CalibrationState
from ..runtime.accuracy.frames import Frames
from ..runtime.bundle.contract import Contract
from ..runtime.errors import CalibrationError
from ..runtime.system.progress import Report
from .builder.graphs import CALIBRATION_PEOPLE
from .builder.tuning import calibration_sample_size

_SAVE_EVERY = 32  # crops; 300 histograms are saved in a third of a second


def partial_file(path: Path) -> Path:
    """The file that keeps an unfinished calibration to `path`."""
    return path.with_name(f"{path.name}.partial")


def calibrate_on(
    name: str,
    contract: Contract,
    graph: bytes,
    frames: Frames,
    *,
    samples: int | None,
    path: Path,
    before: CalibrationCache | None,
    report: Report,
    note: Callable[[str], None],
) -> CalibrationCache:
    """Calibrate the fp32 graph of the model `name`, which takes crops, on `samples` of the people in the frames.

    The state is saved in `partial_file(path)` on the way; `before` is the state of an interrupted run to resume. `note`
    is called with messages for the user. Raises CalibrationError: `before` belongs to another graph or set of crops.
    """
    frames = frames.with_joints_of(contract)
    crops = crops_from_coco(
        frames.coco, frames.read, contract, samples or calibration_sample_size(frames, CALIBRATION_PEOPLE)
    )
    if samples is not None and len(crops) < samples:
        note(f"--samples {samples}: only {len(crops)} crops are available; using all of them")
    model = onnx.load_from_string(graph)
    tensors = place(model).tensors
    sha256 = hashlib.sha256(graph).hexdigest()
    described, state = (_described(crops, frames),), CalibrationState()
    cache = CalibrationCache(name, sha256, described, state)
    partial = partial_file(path)
    if before is not None:
        _check_same(before, cache, tensors, partial)
        cache = before
        note(f"resuming after {cache.state.crops} of {len(crops)} crops ({partial})")
    saved = cache.state.crops

    def progress(done: int) -> None:
        nonlocal saved
        report("calibration", done, len(crops))
        if done - saved >= _SAVE_EVERY and done < len(crops):
            write_cache(partial, cache)
            saved = done

    def rounding(done: int, layers: int) -> None:
        report("rounding of weights", done, layers)

    return replace(cache, calibrated=calibrate(model, crops, progress=progress, rounding=rounding, state=cache.state))


def _described(crops: CalibrationSet, frames: Frames) -> dict[str, Any]:
    """Provenance of the set, and perceptual hashes of its people, which a build compares with its held-out ones."""
    described = crops.provenance()
    files, facts = {}, image_facts(frames.coco)
    for name, sha256 in described["files"].items():
        found = Picture(frames.read(name)).people(facts[name].boxes)
        files[name] = {"sha256": sha256, "people": [one.tobytes().hex() for one, _ in found]}
    return {**described, "data": frames.note, "kind": frames.kind, "files": files}


def _check_same(before: CalibrationCache, now: CalibrationCache, tensors: list[str], path: Path) -> None:
    for what, theirs, ours in (
        ("graph", before.graph, now.graph),
        ("set of crops", before.sets[0]["sha256"], now.sets[0]["sha256"]),
    ):
        if theirs != ours:
            raise CalibrationError(
                f"{path} belongs to an interrupted calibration with another {what} ({theirs}, now {ours}); delete it "
                "or choose another --output"
            )
    if before.calibrated is not None or set(before.state.observers) != set(tensors):
        raise CalibrationError(f"{path} is not the state of an interrupted calibration of this graph; delete it")
