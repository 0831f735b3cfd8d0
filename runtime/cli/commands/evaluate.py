"""`posert evaluate`: the figures of a bundle on the images of a data set, or of a results file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from ...datasets import PROTOCOLS, datasets
from ...errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add = parser.add_argument
    add("bundle", nargs="?", help="a .pose file to evaluate; or score a file with --results")
    add("--dataset", help=f"{', '.join(datasets())} (default: the bundle's own)")
    add("--annotations", required=True, metavar="FILE", help="annotation file of the data set")
    add("--results", metavar="FILE", help="score this results file; no bundle is run")
    add("--images", metavar="DIR", help="folder of the images")
    add("--detections", metavar="FILE", help="a detector's boxes in COCO's format (default: the annotated boxes)")
    add("--flip-test", action="store_true", help="also run mirrored crops; report figures and times with and without")
    add(
        "--protocol",
        default=PROTOCOLS[0],
        help="legacy: as in the published tables; v029: as in MMPose 0.29 (default: legacy)",
    )
    add(
        "--output",
        metavar="FILE",
        help="results file to write; an interrupted run resumes (default: out/evaluate/NAME.BACKEND.PRECISION.json, "
        "with the flip test .flip.json)",
    )
    add("--backend", default="auto", help="auto, openvino, onnxruntime, torchscript, ... (default: auto)")
    add(
        "--precision",
        default="auto",
        help="auto, fp32, bf16, fp16 or int8 (default: auto, the fastest that passed the accuracy gate)",
    )
    add("--threads", type=int, metavar="N", help="use at most N CPU threads")
    add("--workers", type=int, default=2, metavar="N", help="threads that decode images (default: 2)")


def main(args: argparse.Namespace) -> int:
    """Returns 1 if a figure differs from the published one."""
    from ...accuracy.evaluate import evaluate_bundle
    from ...accuracy.score import score_file

    if (args.bundle is None) == (args.results is None):
        raise InputError("give either a bundle or a results file: posert evaluate BUNDLE or --results FILE")
    if args.results is not None:
        if args.dataset is None:
            raise InputError(f"--results needs --dataset, one of {', '.join(datasets())}")
        options = ("images", "detections", "flip_test", "output")
        unused = [f"--{name.replace('_', '-')}" for name in options if getattr(args, name)]
        if unused:
            raise InputError(f"{', '.join(unused)}: only for a bundle; leave out with --results")
        report = score_file(args.dataset, args.annotations, args.results, args.protocol)
    else:
        if args.images is None:
            raise InputError("a bundle is evaluated on images: add --images DIR")
        if args.workers < 1:
            raise InputError(f"--workers {args.workers}: expected 1 or more")
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
    for label, part in (("", report), ("without flip test ", plain)):
        if part.get("ms_per_person"):
            yield f"  {label}{part['ms_per_person']:.1f} ms per person"
    if "verdict" in report:
        yield report["verdict"]
    if "results" in report:
        yield f"results: {report['results']}"
