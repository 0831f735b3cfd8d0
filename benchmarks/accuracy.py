"""AP beside its price: every backend and precision of bundles, with and without flip test, and the frontier as a plot.

    python -m posert.benchmarks.accuracy hrnet_w32.pose --annotations person_keypoints_val2017.json --images val2017
    python -m posert.benchmarks.accuracy hourglass_1.pose hourglass_2.pose     stages that were built with --stages

Without --annotations on synthetic people, whose figures say what a precision costs and nothing about photographs. Each
cell is measured in a process of its own; finished cells are kept in the folder of the output: the same command goes on
where it was stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from posert.benchmarks.harness.environments import ToolError, call
from posert.benchmarks.harness.frontier import Point, frontier
from posert.benchmarks.harness.script import script
from posert.benchmarks.scaling import whole
from posert.export.demo.people import write as write_people
from posert.runtime import doctor
from posert.runtime.accuracy.frames import Frames, read_frames
from posert.runtime.accuracy.results import person_scores
from posert.runtime.backends import backends, load_backend
from posert.runtime.bench.meters import Meters
from posert.runtime.bench.scene import HEIGHT, WIDTH
from posert.runtime.bundle.archive import Bundle
from posert.runtime.errors import InputError
from posert.runtime.estimator import PoseEstimator
from posert.runtime.metrics.bootstrap import paired_interval
from posert.runtime.metrics.oks import OksEvaluation, evaluate_oks
from posert.runtime.system.files import atomic_write
from posert.runtime.system.progress import track

_PEOPLE = 5  # in the frame that is timed


@script(goes_on=True)
def main() -> int:
    """Entry point; returns 1 if nothing could be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--annotations", type=Path, help="COCO key point file (synthetic people)")
    parser.add_argument("--images", type=Path, help="its folder of images")
    parser.add_argument("--limit", type=int, default=400, help="images at most (400)")
    parser.add_argument("--backend", default="all", help="comma list (all that can run here)")
    parser.add_argument("--seconds", type=float, default=3.0, help="for which a cell is timed once it is warm (3)")
    parser.add_argument("--output", type=Path, default=Path("out/accuracy"), help="folder (out/accuracy)")
    args = parser.parse_args()
    result = sweep(args)
    print("\n".join(table(result)))
    print(f"{args.output}/accuracy.json, {args.output}/frontier.svg")
    return 0 if any("ap" in r for r in result["rows"]) else 1


def sweep(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the cells that the output's folder does not hold; write accuracy.json and frontier.svg."""
    if (args.annotations is None) != (args.images is None):
        raise InputError("--annotations and --images go together")
    if args.annotations is None:
        folder = args.output / f"people-{args.limit}"
        if not (folder / "annotations.json").exists():
            write_people(folder, "val", args.limit)
        annotations, images = folder / "annotations.json", folder / "images"
    else:
        annotations, images = args.annotations, args.images
    frames = read_frames(annotations, images, args.limit)
    data = {"annotations": str(annotations), "images": str(images), "limit": args.limit}
    wanted = backends() if args.backend == "all" else args.backend.split(",")
    rows: list[dict[str, Any]] = []
    for cell in track(list(_cells(args.bundles, wanted)), "accuracy"):
        if "error" not in cell:
            content = hashlib.sha256(Path(cell["bundle"]).read_bytes()).hexdigest()
            key = hashlib.sha256(json.dumps([cell, content, data, args.seconds]).encode()).hexdigest()[:16]
            cell |= _measured(args.output / f"{key}.json", {**cell, **data, "seconds": args.seconds})
        rows.append(cell)
    _score(rows, frames)
    result = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "note": frames.note,
        "machine": Meters().describe(),
        "rows": [{k: v for k, v in r.items() if k != "results"} for r in rows],
    }
    points = [
        Point(_label(r), r["ms_per_person"], r["ap"], r["bundle_name"], r["flip_test"]) for r in rows if "ap" in r
    ]
    for name, text in (("accuracy.json", json.dumps(result, indent=1)), ("frontier.svg", frontier(points))):
        with atomic_write(args.output / name) as file:
            file.write(text.encode())
    return result


def measure(
    bundle: str,
    backend: str,
    precision: str,
    flip_test: bool,
    annotations: str,
    images: str,
    limit: int,
    seconds: float,
    bundle_name: str,
) -> dict[str, Any]:
    """One cell: joints of everybody in the annotations, and what a frame of five people costs."""
    pose = PoseEstimator(bundle, backend=backend, precision=precision, flip_test=flip_test)
    frames = read_frames(annotations, images, limit).with_joints_of(pose.contract)
    sizes = {r["id"]: r for r in frames.coco["images"]}
    people = frames.labelled()
    boxes = np.array([[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in people)], np.float64)
    found = []
    start = 0
    for image, group in groupby(people, key=lambda a: a["image_id"]):
        count = len(list(group))
        found.append(pose(frames.load(sizes[image]), boxes[start : start + count]))
        start += count
    xy, score = np.concatenate([f.xy for f in found]), np.concatenate([f.score for f in found])
    joints = np.concatenate([xy, score[..., None]], axis=2).astype(np.float64).reshape(len(people), -1)
    sure = person_scores(score, np.ones(len(people)))
    timing = whole(bundle, backend, precision, _PEOPLE, HEIGHT, WIDTH, seconds, flip_test=flip_test)
    kept = [
        {"image_id": a["image_id"], "category_id": a.get("category_id", 1), "keypoints": j.tolist(), "score": float(s)}
        for a, j, s in zip(people, joints, sure, strict=True)
    ]
    return {"ms_per_person": timing["ms"] / _PEOPLE, "people": len(people), "results": kept}


def table(result: dict[str, Any]) -> list[str]:
    """A row for each cell; what it lost against fp32 without flip test of the same bundle, with its 95 % interval."""
    m = result["machine"]
    lines = [
        f"{result['note']}, {result['date']}, {m['cpu']['name']}, {m['cpu']['cores']} cores, load before: {m['load']}",
        f"ms per person: frame to keypoints, {_PEOPLE} people in {WIDTH}x{HEIGHT}",
        "",
        f"{'':58}{'AP':>8}{'against fp32 (95 %)':>30}{'ms/person':>11}{'people':>8}",
    ]
    for r in result["rows"]:
        name = f"{r['bundle_name']} {_label(r)}"
        if "error" in r:
            lines.append(f"{name:58}not measured: {r['error']}")
            continue
        change = "" if r["change"] is None else "{:+.4f} ({:+.4f} to {:+.4f})".format(*r["change"])
        lines.append(f"{name:58}{r['ap']:8.4f}{change:>30}{r['ms_per_person']:11.2f}{r['people']:8}")
    return lines


def _cells(bundles: list[Path], wanted: list[str]) -> Iterator[dict[str, Any]]:
    probes = {name: doctor.probe(name) for name in wanted}
    for path in bundles:
        with Bundle(path) as bundle:
            name, artifacts = bundle.name, set(bundle.artifacts)
        for backend, probe in probes.items():
            cell = {"bundle": str(path), "bundle_name": name, "backend": backend}
            if probe.state != "ready":
                yield {**cell, "error": f"{probe.state}: {probe.reason}"}
                continue
            for precision, artifact in load_backend(backend).runnable().items():
                if artifact in artifacts:
                    for flip_test in (False, True):
                        yield {**cell, "precision": precision, "flip_test": flip_test}


def _measured(path: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """From the file, else from a process."""
    if path.exists():
        kept: dict[str, Any] = json.loads(path.read_text())
        return kept
    try:
        answer = call(sys.executable, "posert.benchmarks.accuracy:measure", arguments)
    except ToolError as error:
        return {"error": str(error).splitlines()[-1]}
    found = {**answer.value, "peak_mb": answer.peak_mb}
    with atomic_write(path) as file:
        file.write(json.dumps(found).encode())
    return found


def _score(rows: list[dict[str, Any]], frames: Frames) -> None:
    """Add AP and its change against fp32 without flip test of the same bundle, which comes first where it is there."""
    evaluated: dict[int, OksEvaluation] = {}
    for i, row in enumerate(rows):
        if "results" in row:
            with Bundle(row["bundle"]) as bundle:
                coco = frames.with_joints_of(bundle.contract).coco
                evaluated[i] = evaluate_oks(coco, row["results"], bundle.contract.sigmas)
            row["ap"] = evaluated[i].metrics["AP"]
    for i, seen in evaluated.items():
        same = (j for j in evaluated if rows[j]["bundle"] == rows[i]["bundle"] and not rows[j]["flip_test"])
        base = next((j for j in same if rows[j]["precision"] == "fp32"), None)
        rows[i]["change"] = None if base in (None, i) else paired_interval(seen, evaluated[base])


def _label(row: dict[str, Any]) -> str:
    flip = " flip test" if row.get("flip_test") else ""
    return f"{row['backend']} {row.get('precision', '')}{flip}".strip()


if __name__ == "__main__":
    sys.exit(main())
