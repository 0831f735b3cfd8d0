"""Annotations, results and detections of every data set: figures that are numbers, or a refusal."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.io import savemat

from posert.runtime.accuracy.label_csv import read_label_csv
from posert.runtime.datasets import datasets
from posert.tests.campaign import material
from posert.tests.campaign.case import Case, Defect, Part, Run
from posert.tests.campaign.command import posert
from posert.tests.campaign.mutate import change_bytes, change_json, json_text, pick

_MPII = {
    "pos_gt_src": np.random.default_rng(0).uniform(1, 99, (16, 2, 3)),
    "jnt_missing": np.zeros((16, 3)),
    "headboxes_src": np.stack([np.zeros((2, 3)), np.full((2, 3), 20.0)]),
}
_MPII_RESULTS = [{"image_id": i, "keypoints": [1.0] * 48} for i in range(3)]
_HEAD = [
    ["scorer", *["me"] * 6],
    ["bodyparts", *[name for name in ("nose", "left", "tail") for _ in range(2)]],
    ["coords", *["x", "y"] * 3],
]


def _check_figures(report: Any) -> None:
    metrics = report["metrics"]
    if not metrics or not all(isinstance(v, int | float) and math.isfinite(v) for v in metrics.values()):
        raise Defect("figures that are no numbers", f"{metrics}"[:300])


class _Uses:
    def __init__(self, folder: Path) -> None:
        self.images = folder / "images"
        self.images.mkdir(exist_ok=True)
        for i in range(3):
            cv2.imwrite(str(self.images / f"{i}.png"), material.frame(i))
        self.bundle = material.bundle(folder)
        self.names = [name for name in datasets() if name != "mpii"]
        self.valid = {name: material.labels_and_results(name) for name in self.names}

    def score(self, case: Case) -> str:
        """A results file and its annotations, one of them changed."""
        name = pick(case.rng, self.names)
        side = pick(case.rng, ("annotations", "results"))
        case.done.append(f"{name} {side}")
        files = {key: json.dumps(value).encode() for key, value in self.valid[name].items()}
        files[side] = json_text(case.rng, change_json(case.rng, self.valid[name][side], case.done), case.done)
        paths = {key: case.write(f"{key}.json", data) for key, data in files.items()}
        protocol = pick(case.rng, ("legacy", "v029"))
        _check_figures(
            posert(
                "evaluate",
                "--dataset",
                name,
                "--annotations",
                paths["annotations"],
                "--results",
                paths["results"],
                "--protocol",
                protocol,
            )
        )
        return "scored"

    def evaluate(self, case: Case) -> str:
        """A bundle on a data set whose annotations or detections are changed."""
        value = self.valid["coco"]
        side = pick(case.rng, ("annotations", "detections"))
        case.done.append(f"bundle on {side}")
        detections = [
            {"image_id": r["image_id"], "category_id": 1, "bbox": r["bbox"], "score": 0.9} for r in value["results"]
        ]
        files = {"annotations": value["annotations"], "detections": detections}
        texts = {key: json.dumps(file).encode() for key, file in files.items()}
        texts[side] = json_text(case.rng, change_json(case.rng, files[side], case.done), case.done)
        paths = {key: case.write(f"{key}.json", data) for key, data in texts.items()}
        more = ["--detections", paths["detections"]] if side == "detections" else []
        _check_figures(
            posert(
                "evaluate",
                self.bundle,
                "--annotations",
                paths["annotations"],
                "--images",
                self.images,
                "--output",
                case.folder / "r.json",
                "--backend",
                "onnxruntime",
                *more,
            )
        )
        json.loads((case.folder / "r.json").read_text())
        return "evaluated"

    def mpii(self, case: Case) -> str:
        """MPII's arrays, in its three formats."""
        rng, suffix = case.rng, pick(case.rng, (".mat", ".npz", ".json"))
        case.done.append(f"mpii {suffix}")
        truth = json.dumps({name: array.tolist() for name, array in _MPII.items()}).encode()
        results: Any = _MPII_RESULTS
        arrays: dict[str, Any] = {**_MPII}
        stream = io.BytesIO()
        if suffix == ".json":
            if rng.random() < 0.5:
                truth = json_text(rng, change_json(rng, json.loads(truth), case.done), case.done)
            else:
                results = change_json(rng, results, case.done)
        else:
            if rng.random() < 0.5:
                key = pick(rng, list(arrays))
                arrays[key] = pick(
                    rng,
                    (
                        np.zeros((16, 2, 4)),
                        np.zeros(0),
                        np.array("text"),
                        np.full((16, 2, 3), np.nan),
                        np.zeros((16, 3), complex),
                        np.full((16, 3), 1e300),
                        np.array([[1, "a"], [2.5, 3]], object),
                        np.zeros((3, 16)),
                        np.zeros((16, 3), bool),
                    ),
                )
                case.done.append(f"{key} {arrays[key].dtype} {arrays[key].shape}")
            if suffix == ".mat":
                savemat(stream, arrays, do_compression=bool(rng.random() < 0.5))
            else:
                (np.savez if rng.random() < 0.5 else np.savez_compressed)(stream, **arrays)
            truth = stream.getvalue()
            if rng.random() < 0.7:
                truth = change_bytes(rng, truth, case.done, 0, min(len(truth), pick(rng, (400, len(truth)))))
        first = case.write(f"truth{suffix}", truth)
        second = case.write("results.json", json.dumps(results).encode())
        _check_figures(posert("evaluate", "--dataset", "mpii", "--annotations", first, "--results", second))
        return "scored"

    def table(self, case: Case) -> str:
        """A table of DeepLabCut."""
        rng = case.rng
        rows = [*map(list, _HEAD), *([f"{i}.png", *map(str, rng.uniform(1, 90, 6).round(2))] for i in range(3))]
        for _ in range(int(rng.choice([1, 1, 2, 4]))):
            row = pick(rng, rows)
            at = int(rng.integers(len(row)))
            row[at] = pick(
                rng, ("", "nan", "1e999", "x", "-1", "9" * 400, "\0", "../../x.png", "scorer", "coords", "y")
            )
            case.done.append(f"cell {rows.index(row)} {at}: {row[at][:20]}")
        data = "\n".join(",".join(row) for row in rows).encode()
        if rng.random() < 0.5:
            data = change_bytes(rng, data, case.done)
        found = read_label_csv(case.write("labels.csv", data), self.images)
        numbers = [v for one in found["annotations"] for v in (*one["keypoints"], *one["bbox"])]
        if not numbers or not all(math.isfinite(v) for v in numbers):
            raise Defect("labels that are no numbers", f"{numbers}"[:300])
        return "labels"

    def split(self, case: Case) -> str:
        """Labels to be split."""
        value = change_json(case.rng, self.valid["coco"]["annotations"], case.done)
        path = case.write("labels.json", json_text(case.rng, value, case.done))
        output = case.folder / "split"
        posert("split", path, "--images", self.images, "--output", output)
        parts = [json.loads((output / f"{name}.json").read_text()) for name in ("train", "calib", "test")]
        if sum(len(part["images"]) for part in parts) > 3:
            raise Defect("images in two sets")
        return "split"


def open_part(folder: Path) -> Run:
    uses = _Uses(folder)
    ways: list[Callable[[Case], str]] = [
        *[uses.score] * 4,
        *[uses.mpii] * 2,
        *[uses.table] * 2,
        uses.evaluate,
        uses.split,
    ]

    def run(case: Case) -> str:
        return pick(case.rng, ways)(case)

    return run


PART = Part("labels", "annotations, results and detections: COCO and its kin, MPII, DeepLabCut", 4000, 60, open_part)
