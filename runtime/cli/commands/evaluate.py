"""`posert evaluate`: score a bundle on a data set's images, or a results file without a model."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ...system.files import atomic_write
from ...system.progress import track
from .. import options
from ..command import Command

if TYPE_CHECKING:
    from ...bundle.archive import Bundle
    from ...datasets import Dataset
    from ...estimator import PoseEstimator

_UNPUBLISHED = ("demo", "random")  # weights that do not reach the figures of the published row


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from ...datasets import PROTOCOLS, datasets

    add = parser.add_argument
    add("bundle", nargs="?", help="a .pose file (or score a file with --results)")
    add("--dataset", metavar="NAME", help=f"{', '.join(datasets())} (default: the bundle's)")
    add("--annotations", required=True, metavar="FILE", help="annotation file of the data set")
    add("--images", metavar="DIR", help="folder of the images in --annotations")
    add("--results", metavar="FILE", help="results file to score in place of a bundle")
    add("--detections", metavar="FILE", help="COCO detections to use as boxes (default: the annotated boxes)")
    add("--flip-test", action="store_true", help="average with the mirrored crop; reports figures with and without")
    add(
        "--protocol",
        default=PROTOCOLS[0],
        metavar="NAME",
        help="legacy: as in the published tables; v029: as in MMPose 0.29 (default: legacy)",
    )
    add(
        "--output",
        metavar="FILE",
        help="results file to write; an interrupted run resumes (default: out/evaluate/NAME.BACKEND.PRECISION.json, "
        "with --flip-test .flip.json)",
    )
    options.add_session(parser)
    add("--workers", type=options.positive, default=2, metavar="N", help="threads that decode images (default: 2)")


def run(args: argparse.Namespace) -> int:
    """Returns 1 if a figure differs from the published one."""
    from ...accuracy.score import score_file
    from ...datasets import datasets

    if (args.bundle is None) == (args.results is None):
        raise InputError("expected either a bundle or --results FILE")
    if args.results is not None:
        if args.dataset is None:
            raise InputError(f"--results needs --dataset NAME: {', '.join(datasets())}")
        unused = [
            f"--{n.replace('_', '-')}" for n in ("images", "detections", "flip_test", "output") if getattr(args, n)
        ]
        if unused:
            raise InputError(f"{', '.join(unused)} applies to a bundle, not to --results: remove it")
        report = score_file(args.dataset, args.annotations, args.results, args.protocol)
    else:
        if args.images is None:
            raise InputError("evaluating a bundle needs its images: add --images DIR")
        report = _evaluate(args)
    print(json.dumps(report) if args.json else "\n".join(_lines(report)))
    return 1 if report.get("verdict") == "FAIL" else 0


def _evaluate(args: argparse.Namespace) -> dict[str, Any]:
    from ...accuracy.evaluate import compare, read_people
    from ...bundle.archive import Bundle
    from ...datasets import dataset
    from ...estimator import PoseEstimator

    with Bundle(args.bundle) as bundle:
        which = dataset(args.dataset or bundle.contract.dataset)
        if which.keypoints != bundle.contract.keypoints:
            raise InputError(
                f"{bundle.name} predicts the joints of {bundle.contract.dataset}, not those of {which.name}"
            )
        pose = PoseEstimator(bundle, backend=args.backend, precision=args.precision, threads=args.threads)
        people = read_people(which, bundle.contract, args.annotations, args.detections, args.protocol)
        # Both passes keep their journals beside one name, so that --flip-test resumes an interrupted plain run.
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
        # Only now: a run interrupted in its second pass does not repeat the first.
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
        published = {} if source in _UNPUBLISHED else bundle.accuracy.get("published", {})
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
    """Estimate everyone, with a journal beside `base`; write the results to `output`, if any; and score them."""
    from ...accuracy.evaluate import Estimation, Journal, fingerprint, records_of
    from ...accuracy.score import score
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
    """The file that keeps the joints of one pass until the run is complete."""
    return base.with_name(f"{base.name}.{'flip.' if flip_test else ''}partial")


def _verdict(which: Dataset, boxes: str, args: argparse.Namespace, passed: bool) -> str:
    if not args.flip_test:
        return "not comparable: the published figures use --flip-test"
    if which.boxes not in (boxes, "either"):
        return f"not comparable: the published figures use {which.boxes} boxes"
    if args.protocol != "legacy":
        return "not comparable: the published figures use --protocol legacy"
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


COMMAND = Command(
    "Score a bundle or a results file with a data set's own metric", "check", add_arguments, run, extra="evaluate"
)
