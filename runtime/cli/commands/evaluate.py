"""`posert evaluate`: the figures of a bundle on the images of a data set, or of a results file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from ...errors import InputError
from .. import options
from ..command import Command


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
    protocols = "legacy: as in the published tables; v029: as in MMPose 0.29 (default: legacy)"
    add("--protocol", default=PROTOCOLS[0], metavar="NAME", help=protocols)
    output = "out/evaluate/NAME.BACKEND.PRECISION.json, with --flip-test .flip.json"
    add("--output", metavar="FILE", help=f"results file to write; an interrupted run resumes (default: {output})")
    options.add_session(parser)
    add("--workers", type=options.positive, default=2, metavar="N", help="threads that decode images (default: 2)")


def run(args: argparse.Namespace) -> int:
    """Returns 1 if a figure differs from the published one."""
    from ...accuracy.evaluate import evaluate_bundle
    from ...accuracy.score import score_file
    from ...datasets import datasets

    if (args.bundle is None) == (args.results is None):
        raise InputError("give either a bundle or a results file: posert evaluate BUNDLE or --results FILE")
    if args.results is not None:
        if args.dataset is None:
            raise InputError(f"--results needs --dataset, one of {', '.join(datasets())}")
        of_bundles = ("images", "detections", "flip_test", "output")
        if unused := [f"--{name.replace('_', '-')}" for name in of_bundles if getattr(args, name)]:
            raise InputError(f"{', '.join(unused)}: only for a bundle; leave out with --results")
        report = score_file(args.dataset, args.annotations, args.results, args.protocol)
    else:
        if args.images is None:
            raise InputError("a bundle is evaluated on images: add --images DIR")
        report = evaluate_bundle(
            args.bundle,
            args.annotations,
            args.images,
            dataset_name=args.dataset,
            detections=args.detections,
            protocol=args.protocol,
            flip_test=args.flip_test,
            output=args.output,
            backend=args.backend,
            precision=args.precision,
            threads=args.threads,
            workers=args.workers,
        )
    print(json.dumps(report) if args.json else "\n".join(_lines(report)))
    return 1 if report.get("verdict") == "FAIL" else 0


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
    for name, value in report.get("tracking", {}).items():
        yield f"  {name:10} {value:.0f}" if name == "id switches" else f"  {name:10} {value:.4f}"
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
