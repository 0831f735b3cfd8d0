"""AP beside its price: every backend and precision of bundles, with and without flip test.

    python -m posert.benchmarks.accuracy hrnet_w32.pose --annotations person_keypoints_val2017.json --images val2017
    python -m posert.benchmarks.accuracy hourglass_1.pose hourglass_2.pose     stages that were built with --stages

Without --annotations it runs on synthetic people, whose figures show what a precision costs and nothing about
photographs. Each cell is measured in a process of its own. A star marks the rows that no other beats in both.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from posert.benchmarks.child import ToolError, call
from posert.benchmarks.scaling import end_to_end
from posert.benchmarks.script import digest, open_journal, parser, run
from posert.export.demo.people import write as write_people
from posert.runtime import doctor
from posert.runtime.accuracy.estimation import estimate
from posert.runtime.accuracy.frames import Frames, read_frames
from posert.runtime.accuracy.people import labelled_people
from posert.runtime.backends import backends, load_backend
from posert.runtime.bench.meters import Meters
from posert.runtime.bundle.archive import Bundle
from posert.runtime.errors import InputError
from posert.runtime.estimator import PoseEstimator
from posert.runtime.metrics.oks import OksEvaluation, evaluate_oks, paired_interval
from posert.runtime.pose.keypoints import person_scores
from posert.runtime.system.journal import Journal
from posert.runtime.system.progress import track

_PEOPLE = 5  # in the frame that is timed


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns 1 if nothing could be measured."""
    arguments = parser(__doc__, "out/accuracy.jsonl")
    arguments.add_argument("bundles", nargs="+", type=Path)
    arguments.add_argument("--annotations", type=Path, help="COCO keypoint file (default: synthetic people)")
    arguments.add_argument("--images", type=Path, help="its folder of images")
    arguments.add_argument("--limit", type=int, default=400, help="images at most (400)")
    arguments.add_argument("--backend", default="all", help="comma list (default: all that can run here)")
    arguments.add_argument("--seconds", type=float, default=3.0, help="for which a cell is timed once it is warm (3)")
    return run(arguments, _work, argv)


def _work(args: argparse.Namespace) -> int:
    if (args.annotations is None) != (args.images is None):
        raise InputError("--annotations and --images go together")
    if args.annotations is None:
        folder = args.output.parent / f"people-{args.limit}"
        if not (folder / "annotations.json").exists():
            write_people(folder, "val", args.limit)
        args.annotations, args.images = folder / "annotations.json", folder / "images"
    frames = read_frames(args.annotations, args.images, args.limit)
    data = {"annotations": str(args.annotations), "images": str(args.images), "limit": args.limit}
    arguments = {"data": data, "seconds": args.seconds}
    journal = open_journal(args.output, "accuracy", **arguments)
    wanted = backends() if args.backend == "all" else args.backend.split(",")
    rows = [_measured(cell, arguments, journal) for cell in track(list(_cells(args.bundles, wanted)), "accuracy")]
    _score(rows, frames)
    print("\n".join(table(rows, frames.note)))
    return 0 if any("ap" in r for r in rows) else 1


def measure(
    bundle: str, backend: str, precision: str, flip_test: bool, data: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """One cell, in a process of its own: keypoints of everyone annotated, and the time of a frame with five people."""
    pose = PoseEstimator(bundle, backend=backend, precision=precision, flip_test=flip_test)
    results = keypoint_results(pose, read_frames(**data).with_joints_of(pose.contract))
    timing = end_to_end(bundle, backend, precision, seconds, _PEOPLE, flip_test=flip_test)
    return {"ms_per_person": timing["ms"] / _PEOPLE, "people": len(results), "results": results}


def table(rows: list[dict[str, Any]], note: str) -> list[str]:
    """A row for each cell, with its change against fp32 without flip test of the same bundle."""
    m = Meters().describe()
    best = frontier([(r["ms_per_person"], r["ap"]) for r in rows if "ap" in r])
    lines = [
        f"{note}, {m['cpu']['name']}, {m['cpu']['cores']} cores, load: {m['load']}",
        f"ms per person: frame to keypoints, {_PEOPLE} people in 1920x1080",
        "",
        f"{'':58}{'AP':>8}{'against fp32 (95 %)':>30}{'ms/person':>11}{'people':>8}",
    ]
    for r in rows:
        flip = " flip test" if r.get("flip_test") else ""
        name = f"{r['bundle_name']} {r['backend']} {r.get('precision', '')}{flip}".strip()
        if "error" in r:
            lines.append(f"{name:58}not measured: {r['error']}")
            continue
        change = "" if r["change"] is None else "{:+.4f} ({:+.4f} to {:+.4f})".format(*r["change"])
        star = " *" if (r["ms_per_person"], r["ap"]) in best else ""
        lines.append(f"{name:58}{r['ap']:8.4f}{change:>30}{r['ms_per_person']:11.2f}{r['people']:8}{star}")
    return lines


def frontier(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of points (ms, AP) those that no other beats in both, the fastest first."""
    best: list[tuple[float, float]] = []
    for ms, ap in sorted(points, key=lambda p: (p[0], -p[1])):
        if not best or ap > best[-1][1]:
            best.append((ms, ap))
    return best


def _cells(bundles: list[Path], wanted: list[str]) -> Iterator[dict[str, Any]]:
    probes = {name: doctor.probe(name) for name in wanted}
    for path in bundles:
        with Bundle(path) as bundle:
            name, artifacts = bundle.name, set(bundle.artifacts)
        for backend, probe in probes.items():
            cell = {"bundle": str(path), "bundle_name": name, "sha256": digest(path), "backend": backend}
            if probe.state != "ready":
                yield {**cell, "error": f"{probe.state}: {probe.reason}"}
                continue
            for precision, artifact in load_backend(backend).runnable().items():
                if artifact in artifacts:
                    for flip_test in (False, True):
                        yield {**cell, "precision": precision, "flip_test": flip_test}


def _measured(cell: dict[str, Any], arguments: dict[str, Any], journal: Journal) -> dict[str, Any]:
    """The cell with its figures, from the journal or from a process."""
    if "error" in cell:
        return cell
    for record in journal.records:
        if cell == {key: record.get(key) for key in cell}:
            return record
    arguments = arguments | {key: cell[key] for key in ("bundle", "backend", "precision", "flip_test")}
    try:
        answer = call(sys.executable, "posert.benchmarks.accuracy:measure", arguments)
    except ToolError as error:
        return cell | {"error": str(error).splitlines()[-1]}
    record = cell | answer.value
    journal.add(record)
    return record


def _score(rows: list[dict[str, Any]], frames: Frames) -> None:
    """Add AP, and its change against fp32 without flip test of the same bundle."""
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


def keypoint_results(pose: PoseEstimator, frames: Frames) -> list[dict[str, Any]]:
    """Results in COCO's format of everyone labelled, at their annotated boxes."""
    people, annotations = labelled_people(frames.coco), frames.coco["annotations"]
    results: list[dict[str, Any]] = []
    for one in estimate(people, frames.load_index, lambda frame, members: pose(frame, people.xyxy[members])):
        found = one.result
        joints = np.concatenate([found.xy, found.score[..., None]], axis=2).astype(np.float64)
        scores = person_scores(found.score, people.box_score[one.members])
        for i, j, score in zip(one.members, joints, scores, strict=True):
            row = {"image_id": people.image_ids[i], "category_id": annotations[people.source[i]].get("category_id", 1)}
            results.append({**row, "keypoints": j.ravel().tolist(), "score": float(score)})
    return results


def part_of(frames: Frames, images: list[dict[str, Any]]) -> Frames:
    """Some of the images, by their records, with their annotations."""
    kept = {r["id"] for r in images}
    annotations = [a for a in frames.coco["annotations"] if a["image_id"] in kept]
    return replace(frames, coco={**frames.coco, "images": images, "annotations": annotations})


if __name__ == "__main__":
    sys.exit(main())
