"""Scoring a results file of COCO val2017's size: seconds, memory, and equality with pycocotools.

python -m posert.benchmarks.scoring

The annotations and detections are random, but as many and as crowded as the real ones: 5,000 images, 104,125 results.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from posert.benchmarks.harness.script import script
from posert.runtime.bench.memory import peak_mb

IMAGES, DETECTIONS, PEOPLE = 5000, 104_125, 11_004


@script(goes_on=False)
def main() -> int:
    """Entry point; prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--score", nargs=2, metavar=("ANNOTATIONS", "RESULTS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.score:
        print(json.dumps(_score(*args.score)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        truth, results = Path(folder, "annotations.json"), Path(folder, "results.json")
        coco, found = generate(seed=0)
        truth.write_text(json.dumps(coco))
        results.write_text(json.dumps(found))
        # A process of its own, so that the peak memory is that of scoring alone.
        command = [sys.executable, "-m", "posert.benchmarks.scoring", "--score", str(truth), str(results)]
        ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        start = time.perf_counter()
        theirs = pycocotools(truth, found)
        seconds = time.perf_counter() - start
    names = ("AP", "AP50", "AP75", "AP (M)", "AP (L)", "AR", "AR50", "AR75", "AR (M)", "AR (L)")
    difference = max(abs(ours["metrics"][n] - t) for n, t in zip(names, theirs, strict=True))
    print(
        json.dumps(
            {
                "images": IMAGES,
                "detections": DETECTIONS,
                "seconds": round(ours["seconds"], 2),
                "peak_gb": round(ours["peak_gb"], 3),
                "pycocotools_seconds": round(seconds, 2),
                "largest_difference": difference,
                "AP": ours["metrics"]["AP"],
            }
        )
    )
    return 0 if difference == 0 else 1


def generate(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Random people, and detections that are noisy copies of them, duplicates and inventions."""
    rng = np.random.default_rng(seed)
    images = [{"id": i + 1, "file_name": f"{i:012d}.jpg", "width": 640, "height": 480} for i in range(IMAGES)]
    where = np.sort(rng.integers(0, IMAGES, PEOPLE))
    corner, size = rng.uniform(0, 400, (PEOPLE, 2)), rng.uniform(20, 240, (PEOPLE, 2))
    joints = corner[:, None] + rng.uniform(0, 1, (PEOPLE, 17, 2)) * size[:, None]
    flags = rng.choice([0, 1, 2], (PEOPLE, 17), p=[0.4, 0.1, 0.5]) * (rng.random((PEOPLE, 1)) < 0.6)
    annotations = [
        {
            "id": i + 1,
            "image_id": int(where[i]) + 1,
            "category_id": 1,
            "iscrowd": int(i % 97 == 0),
            "area": float(size[i].prod() * 0.6),
            "bbox": [*corner[i].tolist(), *size[i].tolist()],
            "num_keypoints": int((flags[i] > 0).sum()),
            "keypoints": np.concatenate([joints[i], flags[i][:, None]], 1).ravel().tolist(),
        }
        for i in range(PEOPLE)
    ]
    source = rng.integers(0, PEOPLE, DETECTIONS)
    noise = rng.normal(0, 1, (DETECTIONS, 17, 2)) * size[source][:, None] * rng.uniform(0.005, 0.4, (DETECTIONS, 1, 1))
    scores = rng.random((DETECTIONS, 18))
    found = [
        {
            "image_id": int(where[source[i]]) + 1,
            "category_id": 1,
            "keypoints": np.concatenate([joints[source[i]] + noise[i], scores[i, :17, None]], 1).ravel().tolist(),
            "score": float(scores[i, 17]),
        }
        for i in range(DETECTIONS)
    ]
    categories = [{"id": 1, "name": "person", "keypoints": [str(k) for k in range(17)], "skeleton": []}]
    return {"images": images, "annotations": annotations, "categories": categories}, found


def pycocotools(truth: Path, found: list[dict[str, Any]]) -> list[float]:
    """The ten figures as pycocotools prints them."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        evaluation = COCOeval(coco, coco.loadRes(found), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(v) for v in evaluation.stats]


def _score(annotations: str, results: str) -> dict[str, Any]:
    from posert.runtime.accuracy.score import score_file

    start = time.perf_counter()
    scored = score_file("coco", annotations, results)
    seconds = time.perf_counter() - start
    return {"metrics": scored["metrics"], "seconds": seconds, "peak_gb": (peak_mb() or math.nan) / 1e3}


if __name__ == "__main__":
    sys.exit(main())
