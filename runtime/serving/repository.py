"""A bundle as a model of Triton's Python backend: a frame and boxes in, joints in px of the frame out."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle.archive import Bundle
from ..bundle.contract import Contract
from ..selection import verdict_of
from .model_config import FRAMES, METADATA, ModelFacts, Name, as_text, type_of, warmup

MAX_FRAMES = 8
"""Of one batch: as many people as one run of a network takes are there where each frame has one."""
BUNDLE = "model.pose"

_MODEL = '''\
"""The model for Triton's Python backend. What it does is in posert.runtime.serving.frames_model."""

import os
import site

for folder in filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)):
    site.addsitedir(folder)  # Triton's interpreter does not read the variable by itself

from posert.runtime.serving.frames_model import TritonPythonModel  # noqa: E402, F401
'''


def model_name(bundle: Path) -> str:
    """The model's name: the file's, without what has no place in a URL."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", bundle.stem)


def write_frames_model(
    folder: Path, bundle: Bundle, *, name: str, backend: str = "auto", precision: str = "auto", queue_delay: int = 0
) -> ModelFacts:
    """Write a model for Triton's Python backend into an empty folder: `config.pbtxt`, the bundle, a warm-up.

    Requests with frames of any sizes and any number of people share a batch. Python and posert have to be installed
    where the server runs.

    Args:
        folder: `REPOSITORY/NAME`.
        name: of the model.
        backend, precision: as of `PoseEstimator`; "auto" is decided on the machine that serves.
        queue_delay: ms that a request may wait for others, see `batching`.
    """
    c = bundle.contract
    outputs = ("keypoints",)
    facts = ModelFacts(c, FRAMES, "keypoints", _verdict(bundle, backend, precision), MAX_FRAMES, {}, outputs)
    frame, boxes = golden_frame(bundle.golden().crops[0], c)
    ragged = {"allow_ragged_batch": True}
    config: dict[str, Any] = {
        "name": name,
        "backend": "python",
        "max_batch_size": MAX_FRAMES,
        "input": [
            {"name": "frame", "data_type": Name(type_of("uint8")), "dims": [-1, -1, 3], **ragged},
            {"name": "boxes", "data_type": Name(type_of("float64")), "dims": [-1, 4], **ragged},
        ],
        "output": [
            {"name": "keypoints", "data_type": Name(type_of("float32")), "dims": [-1, len(c.keypoints), 3]},
        ],
        "dynamic_batching": batching(queue_delay, MAX_FRAMES),
        "instance_group": [{"count": 1, "kind": Name("KIND_CPU")}],
        "model_warmup": [warmup("golden", {"frame": frame, "boxes": boxes})],
        "parameters": [
            {"key": key, "value": {"string_value": value}}
            for key, value in ((METADATA, facts.parameter()), ("backend", backend), ("precision", precision))
        ],
    }
    (folder / "1").mkdir(parents=True)
    shutil.copyfile(bundle.path, folder / "1" / BUNDLE)
    (folder / "1" / "model.py").write_text(_MODEL)
    write_config(folder, config, {"golden.frame": frame, "golden.boxes": boxes})
    return facts


def batching(queue_delay: int, most: int) -> dict[str, Any]:
    """The field `dynamic_batching`: requests that wait while a batch runs go together, `most` at a time.

    With a `queue_delay`, in ms, the first of a batch also waits as long for others, unless `most` are there.
    """
    if not queue_delay:
        return {}
    return {"preferred_batch_size": [most], "max_queue_delay_microseconds": 1000 * queue_delay}


def write_config(folder: Path, config: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    """Write `config.pbtxt` and the raw arrays of its warm-up into a model's folder."""
    (folder / "config.pbtxt").write_text(as_text(config) + "\n", encoding="utf-8")
    (folder / "warmup").mkdir()
    for name, array in arrays.items():
        (folder / "warmup" / name).write_bytes(np.ascontiguousarray(array).tobytes())


def golden_frame(crop: NDArray[np.uint8], contract: Contract) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A crop as a frame `(H, W, 3)`, and the box `(1, 4)` xyxy whose crop it is: joints in px of both are the same.

    With UDP by an eighth of a pixel not: a region has the ratio of W to H, and spans W - 1 by H - 1 px of the crop.
    """
    c = contract
    center = (np.array([c.width, c.height], np.float64) - c.udp) / 2
    size = np.array([c.width, c.height], np.float64) - c.udp
    # The wider or higher direction decides how far a box grows; both give the ratio of the crop here.
    half = size / c.padding / np.asarray(c.enlarge) / 2
    return crop, np.concatenate([center - half, center + half])[None]


def _verdict(bundle: Bundle, backend: str, precision: str) -> str:
    """Of the gate on what will run, where that is known already."""
    from ..backends import BACKENDS

    if "auto" in (backend, precision):
        return str(bundle.accuracy["verdict"])
    artifact = BACKENDS.load(backend).precisions.get(precision, "")
    return verdict_of(bundle, backend, precision, artifact)
