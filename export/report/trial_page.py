"""The page of a trial: one HTML file with its style and pictures in it, and no script."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from ...runtime.bundle.contract import Contract
from ...runtime.pose.draw import SIDES, layout
from ...runtime.system.files import atomic_write
from ...runtime.system.text import writable
from ..configs.recognise import of_contract
from ..configs.words import in_words
from ..trial import Sight, Trial
from . import trial_words as words

Image = NDArray[np.uint8]

_FRAME = 1000  # px of a photo's longer side
_CROP = 480
_CELL = 110  # px of the longer side of one joint's heatmap
_JOINTS = 48  # maps of one person; a skeleton with fingers and a face shows those with the highest peaks
_TEXT = 0.026  # of a person's box: the height of joints' names in a photo
_POINTS = 160  # of the curve of a vector


def write_trial(trial: Trial, path: str | os.PathLike[str], meta: Mapping[str, Any]) -> Path:
    """Write the page of a trial; returns its path.

    Args:
        trial: what to show.
        path: the file; its folder is created.
        meta: how it was made: `model`, `weights`, `command` as text.
    """
    target = Path(path)
    with atomic_write(target) as file:
        file.write(writable(trial_page(trial, meta)).encode())
    return target


def trial_page(trial: Trial, meta: Mapping[str, Any]) -> str:
    """The whole page as text."""
    environment = Environment(
        loader=PackageLoader(__package__, ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"percent": words.percent, "gain": words.gain}
    c, judged = trial.contract, trial.judgement
    state = "open" if judged is None or judged.note else "bad" if judged.found else "good"
    marks = {"open": "Look", "bad": "Look here", "good": "Agrees"}
    return environment.get_template("trial.html").render(
        trial=trial,
        contract=c,
        described=_described(c),
        judged=judged,
        state=state,
        mark=marks[state],
        headline=words.headline(trial),
        twins=" ".join(words.twins(trial)),
        tiles=_tiles(trial),
        other="BGR" if c.model_color == "RGB" else "RGB",
        shape=_shape(c),
        names=[_short(name) for name in c.keypoints],
        photos=[_photo(trial, index) for index in trial.photos],
        people=[_person(sight, number, trial) for number, sight in enumerate(trial.sights, 1)],
        meta=meta,
    )


def _described(c: Contract) -> list[tuple[str, str]]:
    """The contract in words; whether a file asks for a flip test is not part of it."""
    rows = [(name, text.removeprefix("off in the file").strip("; ")) for name, text in in_words(of_contract(c, ""))]
    return [(name, text) for name, text in rows if text]


def _tiles(trial: Trial) -> list[tuple[str, str]]:
    t, judged, c = trial.twins, trial.judgement, trial.contract
    found = []
    if judged is not None:
        found += [
            (f"{judged.agreement.pck:.3f}", f"PCK@0.05 on {judged.people} {c.subject[1]}"),
            (words.percent(judged.agreement.distance), "of the box: mean distance from the labels"),
        ]
    other = "BGR" if c.model_color == "RGB" else "RGB"
    return [
        *found,
        (words.percent(t.gap), "of the box: mean distance of the mirror image's joints"),
        (f"{t.peak:.2f}", f"mean peak of the heatmaps; {t.swapped_peak:.2f} if the network took {other}"),
    ]


def _shape(c: Contract) -> dict[str, Any]:
    """Sides of the joints, and the limbs with theirs."""
    found = layout(c)
    limbs = [(a, b, SIDES[side]) for (a, b), side in zip(c.skeleton, found.limb_sides, strict=True)]
    return {"joints": [SIDES[side] for side in found.joint_sides], "limbs": limbs}


def _short(name: str) -> str:
    """A name for a picture: "L knee" for "left_knee"."""
    plain = name.replace("_", " ")
    for side in ("left", "right"):
        if plain.lower().startswith(f"{side} "):
            return f"{side[0].upper()} {plain[len(side) + 1 :]}"
    return plain


def _photo(trial: Trial, index: int) -> dict[str, Any]:
    """A frame with the people in it; coordinates in px of the frame."""
    name, frame = trial.photos[index]
    height, width = frame.shape[:2]
    members = [(number, s) for number, s in enumerate(trial.sights, 1) if s.image == index]
    return {
        "name": name,
        "size": (width, height),
        "picture": _jpeg(_shrunk(frame, _FRAME)),
        "people": [
            {
                "number": n,
                "box": s.box.tolist(),
                "region": s.region.tolist(),
                "xy": s.xy.tolist(),
                "labels": _seen(s),
                "text": _TEXT * float((s.box[2:] - s.box[:2]).max()),
            }
            for n, s in members
        ],
        "unit": max(width, height) / 100,
    }


def _seen(sight: Sight) -> list[list[float]]:
    return [] if sight.labels is None else sight.labels[sight.labels[:, 2] > 0, :2].tolist()


def _person(sight: Sight, number: int, trial: Trial) -> dict[str, Any]:
    """One person as every panel shows them; coordinates in px of the crop."""
    c = trial.contract
    height, width = sight.crop.shape[:2]
    top = float(sight.maps.max())
    order = np.sort(np.argsort(-sight.score, kind="stable")[:_JOINTS]).tolist()
    labels = None
    if sight.labels is not None and sight.labels_crop is not None:
        labels = [p.tolist() if v > 0 else None for p, v in zip(sight.labels_crop, sight.labels[:, 2], strict=True)]
    return {
        "number": number,
        "photo": trial.photos[sight.image][0],
        "size": (width, height),
        "unit": max(width, height) / 100,
        "crop": _jpeg(_shrunk(sight.crop, _CROP)),
        "swapped": _jpeg(_shrunk(np.ascontiguousarray(sight.crop[..., ::-1]), _CROP)),
        "heat": _jpeg(_heat(sight.crop, sight.maps.max(axis=0) / max(top, 1e-9), c)),
        "swapped_heat": _jpeg(_heat(sight.crop[..., ::-1], sight.swapped_maps.max(axis=0) / max(top, 1e-9), c)),
        "xy": sight.xy_crop.tolist(),
        "twin": sight.twin_crop.tolist(),
        "gap": sight.twin_gap,
        "labels": labels,
        "peak": float(sight.score.mean()),
        "joints": [_joint(sight, k, c) for k in order],
        "left_out": len(c.keypoints) - len(order),
    }


def _joint(sight: Sight, k: int, c: Contract) -> dict[str, Any]:
    """One joint's heatmap on its own scale, or its two vectors as curves."""
    found = {"name": c.keypoints[k].replace("_", " "), "score": float(sight.score[k])}
    if sight.vectors:
        return found | {"curves": [_curve(vector[k]) for vector in sight.vectors], "map": ""}
    own = sight.maps[k] / max(float(sight.maps[k].max()), 1e-9)
    return found | {"curves": [], "map": _jpeg(_shrunk(_heat(sight.crop, own, c), _CELL), 80)}


def _curve(vector: NDArray[np.float32]) -> str:
    """A vector as the points of a polyline in a field of 100 x 30, its maximum at the top; 0 at the bottom."""
    length = len(vector)
    places = np.linspace(0, length, min(length, _POINTS), endpoint=False).astype(int)
    # The maximum of each piece: a thin peak must not fall between two points.
    values = np.maximum(np.maximum.reduceat(vector, places), 0) / max(float(vector.max()), 1e-9)
    return " ".join(f"{100 * x / length:.1f},{29 - 28 * y:.1f}" for x, y in zip(places, values, strict=True))


def _heat(crop: Image, values: NDArray[np.floating], c: Contract) -> Image:
    """A map of 0 to 1 over the grey crop, each cell where decoding puts it."""
    height, width = crop.shape[:2]
    rows, columns = values.shape
    one = 1 if c.map_udp else 0
    edge = 1 if c.udp else 0
    scale = np.array([[(width - edge) / (columns - one), 0, 0], [0, (height - edge) / (rows - one), 0]])
    spread = cv2.warpAffine(
        np.clip(values, 0, 1).astype(np.float32), scale, (width, height), borderMode=cv2.BORDER_REPLICATE
    )
    grey = 0.55 * cv2.cvtColor(np.ascontiguousarray(crop), cv2.COLOR_BGR2GRAY)[..., None].repeat(3, axis=2)
    colour = cv2.applyColorMap(np.round(255 * spread).astype(np.uint8), cv2.COLORMAP_INFERNO)
    alpha = np.clip(1.6 * spread, 0, 0.92)[..., None]
    return np.asarray(np.round(grey * (1 - alpha) + colour * alpha), np.uint8)


def _shrunk(picture: Image, longest: int) -> Image:
    factor = longest / max(picture.shape[:2])
    if factor >= 1:
        return picture
    return np.asarray(cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)


def _jpeg(picture: Image, quality: int = 88) -> str:
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    return base64.b64encode(data).decode()
