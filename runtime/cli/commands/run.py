"""`posert run`: keypoints of images, a video or a camera stream, as JSON and drawn."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ...system.signals import StopSignals
from .. import options, people
from ..command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    options.add_model(parser)
    add("source", help="an image, a folder of images, a video, a camera number or a URL")
    people.add_arguments(parser)
    joints = "do not draw joints below this score (default: 0.3)"
    add("--joint-score", type=float, default=0.3, metavar="S", help=joints)
    output = (
        "a folder for the drawn frames and keypoints.json (default: out/run); an image or .mp4 file, with a .json "
        "beside it; or results alone, by their ending: NAME.json; NAME.coco.json, a list of COCO results; NAME.csv or "
        "NAME.parquet, a row per person; NAME.openpose, a folder of OpenPose's JSON, a file per frame"
    )
    add("--output", type=Path, default=Path("out/run"), metavar="PATH", help=output)
    report = "write report.html into this folder: drawn frames to step through, people, joint scores, speed, failures"
    add("--report", type=Path, metavar="DIR", help=report)
    options.add_session(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 1 if a frame could not be used. After a signal everything that was written is valid."""
    from ...estimator import PoseEstimator
    from ...media.box_file import BoxFile
    from ...media.outputs import open_outputs, output_files
    from ...media.sources import open_source
    from ...page import RunJitter, RunPage
    from ...pipeline import PosePipeline
    from ...results import Subject
    from ...smoothing import OneEuro
    from ...system.files import check_writable
    from ..estimated import estimated
    from ..recorder import Recorder
    from ..tally import Tally

    source = open_source(args.source)
    live = source.path is None
    tracked = people.check(args, source.video, live)
    people.check_frame_size(args, source)
    boxes = BoxFile(args.boxes, args.box_score) if args.boxes else None
    if boxes is not None:
        boxes.check(source.keys)
    report = args.report / "report.html" if args.report else None
    if report is not None:
        check_writable(report)
    files = output_files(source, args.output, [path for path in (args.bundle, args.boxes, args.detector) if path])
    many = not live and source.total != 1
    detector = people.open_detector(args, throughput=many)
    pose = PoseEstimator(
        args.bundle,
        backend=args.backend,
        precision=args.precision,
        threads=args.threads,
        throughput=many and args.detect_every == 1,  # in the frames between, each waits for the one before
    )
    pipeline = PosePipeline(
        pose,
        detector,
        track=tracked,
        detect_every=args.detect_every,
        smooth=OneEuro() if args.smooth == people.ONE_EURO else None,
        fps=source.fps or 25.0,
    )
    facts = {"backend": pose.selection.backend, "precision": pose.selection.precision}
    about = {**facts, "reason": pose.selection.reason}
    _print(f"{pose.selection.backend} {pose.selection.precision}: {pose.selection.reason}")
    boxed = boxes is not None or detector is not None
    if detector is not None:
        about["detector"] = detector.description
        _print(detector.description)
    elif boxes is None:
        _print(f"no --detector and no --boxes: each frame is taken as one {pose.contract.subject[0]}")
    given = args.bundle if boxes is None else f"{args.bundle} and {args.boxes}"
    tally = Tally(source, StopSignals(deferred=True), given, pose.contract.subject)
    page, jitter = None, RunJitter(args.joint_score) if source.video and report is not None else None
    if report is not None:
        told = {"bundle": str(args.bundle), **about, "output": str(args.output)}
        page = RunPage(pose.contract, args.source, told, fps=source.fps, threshold=args.joint_score, boxes=boxed)

    def summary() -> dict[str, Any]:
        pages = [str(report)] if page else []
        return {"source": args.source, **about, **tally.summary(), "outputs": [*outputs.paths(), *pages]}

    subject = Subject(args.source, pose.contract, facts, source.keys, smoothed=args.smooth is not None)
    with open_outputs(files, subject, source.fps, summary) as outputs:
        recorder = Recorder(pose.contract, outputs, page, tally, args.joint_score, boxed, jitter)
        with tally.stop, recorder.open() as recording:
            late = args.smooth == people.SAVITZKY_GOLAY
            for frame, found, error in estimated(source, pipeline, tally, boxes, smooth=late):
                recording.add(frame, found, error)
        tally.finish()
    if page is not None and report is not None:
        if jitter is not None and (figures := jitter.figures()):
            page.add_figure("Jitter", "mean acceleration of the joints", "px per frame²", figures)
        page.write(report, interrupted=tally.stop.number != 0)
    said = [*tally.lines(), f"wrote {' and '.join(summary()['outputs'])}"]
    print(json.dumps(summary()) if args.json else "\n".join(said))
    return 1 if tally.failed else 0


def _print(text: str) -> None:
    print(text, file=sys.stderr)


COMMAND = Command("Estimate keypoints in images, a video or a camera stream", "run", add_arguments, run)
