"""`posert evaluate`: a data set's figures, of a bundle on its images or of a results file with no model at all."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...accuracy.score import score, score_file
from ...bundle.archive import Bundle
from ...datasets import PROTOCOLS, Dataset, dataset, datasets
from ...errors import InputError
from ...estimator import PoseEstimator
from ...system.files import atomic_write
from ...system.progress import track

_MADE_UP = ("demo", "random")  # weights whose figures are not those of the published row


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add = parser.add_argument
    add("bundle", nargs="?", help="a .pose file; without it, --results are scored")
    add("--dataset", help=f"{', '.join(datasets())} (the bundle's own)")
    add("--annotations", required=True, metavar="FILE", help="the data set's annotation file")
    add("--results", metavar="FILE", help="results to score, instead of a bundle's")
    add("--images", metavar="DIR", help="folder of the images")
    add("--detections", metavar="FILE", help="a detector's boxes in COCO's format. Without: the annotated boxes")
    add("--flip-test", action="store_true", help="with the mirror images too; figures and times are given of both ways")
    add("--protocol", default=PROTOCOLS[0], help="legacy: of the published tables (default); v029: of MMPose 0.29")
    add(
        "--output",
        metavar="FILE",
        help="results to write (out/evaluate/NAME.BACKEND.PRECISION.json, with the flip test .flip.json); a run that "
        "stopped goes on from it",
    )
    add("--backend", default="auto", help="auto, openvino, onnxruntime, torchscript, ... (auto)")
    add("--precision", default="auto", help="auto, fp32, bf16, fp16 or int8 (auto: the fastest that passed its gate)")
    add("--threads", type=int, metavar="N", help="bound on CPU threads")
    add("--workers", type=int, default=2, metavar="N", help="threads that decode images (2)")


def main(args: argparse.Namespace) -> int:
    """Returns 1 if a figure is not the published one."""
    if (args.bundle is None) == (args.results is None):
        raise InputError("name a bundle, or a file with --results; not both")
    if args.results is not None:
        if args.dataset is None:
            raise InputError(f"--results need --dataset: {', '.join(datasets())}")
        unused = [
            f"--{n.replace('_', '-')}" for n in ("images", "detections", "flip_test", "output") if getattr(args, n)
        ]
        if unused:
            raise InputError(f"{', '.join(unused)}: for a bundle; --results are scored as they are")
        report = score_file(args.dataset, args.annotations, args.results, args.protocol)
    else:
        if args.images is None:
            raise InputError("a bundle is evaluated on images: add --images DIR")
        if args.workers < 1:
            raise InputError(f"--workers {args.workers}: expected 1 or more")
        report = _evaluate(args)
    print(json.dumps(report) if args.json else "\n".join(_lines(report)))
    return 1 if report.get("verdict") == "FAIL" else 0


def _evaluate(args: argparse.Namespace) -> dict[str, Any]:
    from ...accuracy.evaluate import compare, read_people

    with Bundle(args.bundle) as bundle:
        which = dataset(args.dataset or bundle.contract.dataset)
        if which.keypoints != bundle.contract.keypoints:
            raise InputError(f"{bundle.name} gives the joints of {bundle.contract.dataset}, not of {which.name}")
        pose = PoseEstimator(bundle, backend=args.backend, precision=args.precision, threads=args.threads)
        people = read_people(which, bundle.contract, args.annotations, args.detections, args.protocol)
        # Both ways have their journals beside one name, so that the flip test goes on from a plain run that stopped.
        base = Path(args.output or f"out/evaluate/{bundle.name}.{pose.choice.backend}.{pose.choice.precision}.json")
        output = base if args.output or not args.flip_test else base.with_suffix(".flip.json")
        report: dict[str, Any] = {"dataset": which.name, "protocol": args.protocol}
        plain = _run(args, bundle, which, pose, people, base, None if args.flip_test else output)
        if args.flip_test:
            flipped = PoseEstimator.from_session(pose.contract, pose.session, pose.choice, flip_test=True)
            report |= _run(args, bundle, which, flipped, people, base, output)
            report["without_flip_test"] = plain
        else:
            report |= plain
        # Not before all figures are there: a run that is stopped on its second pass need not make the first one again.
        for flip_test in {False, args.flip_test}:
            _journal(base, flip_test).unlink()
        report |= {
            "bundle": str(args.bundle),
            "backend": pose.choice.backend,
            "precision": pose.choice.precision,
            "flip_test": args.flip_test,
            "people": len(people.image),
            "images": len(set(people.image.tolist())),
            "boxes": people.boxes,
            "results": str(output),
        }
        source = bundle.manifest["model"].get("checkpoint", {}).get("source")
        published = {} if source in _MADE_UP else bundle.accuracy.get("published", {})
    rows = compare(published, report["metrics"])
    if rows:
        report["published"] = [asdict(row) for row in rows]
        report["verdict"] = _verdict(which, people.boxes, args, all(row.passed for row in rows))
    return report


def _run(
    args: argparse.Namespace,
    bundle: Bundle,
    which: Dataset,
    pose: PoseEstimator,
    people: Any,
    base: Path,
    output: Path | None,
) -> dict[str, Any]:
    """Estimate everyone, with a journal beside `base`, write the results if there is an output, and score them."""
    from ...accuracy.evaluate import Estimation, Journal, fingerprint, records_of
    from ...backends import load_backend

    artifact = bundle.artifacts[load_backend(pose.choice.backend).PRECISIONS[pose.choice.precision]]
    name = "flip test" if pose.flip_test else "images"
    journal = Journal(_journal(base, pose.flip_test), fingerprint(artifact.sha256, pose, people))
    try:
        steps = Estimation(pose, people, Path(args.images), journal, args.workers)
        for _ in track(steps, name, steps.total):
            pass
        records = records_of(which, people, journal, args.protocol)
    finally:
        journal.close()
    if output is not None:
        with atomic_write(output) as file:
            file.write(json.dumps(records).encode())
    return {"metrics": score(which, people.truth, records, args.protocol), "ms_per_person": steps.ms_per_person}


def _journal(base: Path, flip_test: bool) -> Path:
    """Where the joints of one pass are kept until the run is done."""
    return base.with_name(f"{base.name}.{'flip.' if flip_test else ''}partial")


def _verdict(which: Dataset, boxes: str, args: argparse.Namespace, passed: bool) -> str:
    if not args.flip_test:
        return "not comparable: the published figures have the flip test (--flip-test)"
    if which.boxes not in (boxes, "either"):
        return f"not comparable: the published figures are of the boxes of {which.boxes}"
    if args.protocol != "legacy":
        return "not comparable: the published figures are of --protocol legacy"
    return "PASS" if passed else "FAIL"


def _lines(report: dict[str, Any]) -> Iterator[str]:
    """The report for a terminal."""
    yield f"{report['dataset']}, protocol {report['protocol']}"
    if "bundle" in report:
        yield (
            f"{report['bundle']} on {report['backend']} {report['precision']}: {report['people']} people in "
            f"{report['images']} images, {report['boxes']} boxes"
        )
    published = {row["figure"]: row for row in report.get("published", [])}
    plain = report.get("without_flip_test", {})
    for name, value in report["metrics"].items():
        line = f"  {name:10} {value:.4f}"
        if plain:
            line += f"   without flip test {plain['metrics'][name]:.4f}"
        if name in published:
            row = published[name]
            line += f"   published {row['published']:.3f} ({row['difference']:+.4f})"
        yield line
    for label, part in (("", report), ("without flip test ", plain)):
        if part.get("ms_per_person"):
            yield f"  {label}{part['ms_per_person']:.1f} ms per person"
    if "verdict" in report:
        yield report["verdict"]
    if "results" in report:
        yield f"results: {report['results']}"
