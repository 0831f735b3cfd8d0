"""`posert demo`: the demo network on a generated video, as one page to look at."""

from __future__ import annotations

import argparse
import json
import os
import sys
import webbrowser
from pathlib import Path
from typing import Any

from ...runtime.cli.command import Command
from ...runtime.errors import BundleError, InputError
from ...runtime.system.files import check_writable
from ...runtime.system.signals import StopSignals

_BUILD = ("--arch", "hrnet_demo", "--weights", "demo", "--precision", "fp32,int8", "--limit", "50", "--engine", "none")
_CLIP, _FRAMES = 3, 150  # of the split val: people who cross, leave and come back
_TITLE = "Generated people, found and followed"
_JOINT_SCORE = 0.3  # as of posert run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    output = "folder for the bundle, the detector, the video, keypoints and demo.html (default: out/demo)"
    add("--output", type=Path, default=Path("out/demo"), metavar="DIR", help=output)
    add("--no-open", action="store_true", help="do not open the page in a browser")


def run(args: argparse.Namespace) -> int:
    """Returns 1 if the bundle's accuracy gate failed, or a frame could not be used."""
    folder: Path = args.output
    page = folder / "demo.html"
    check_writable(page)
    bundle = _bundle(folder / "hrnet_demo.pose")
    detector = _detector(folder / "demo_detector.onnx")
    summary, lines = _run(bundle, detector, _video(folder / "clips"), page)
    opened = not args.no_open and _display() and webbrowser.open(page.resolve().as_uri())
    if args.json:
        print(json.dumps({**summary, "opened": opened}))
    else:
        how = "the browser shows it" if opened else "open it in a browser"
        print("\n".join([*lines, f"accuracy gate: {summary['verdict']}", f"page {page}: {how}"]))
    return 1 if summary["failed"] or summary["verdict"] == "failed" else 0


def _bundle(path: Path) -> Path:
    """The demo's bundle; one that is there and whole is taken."""
    from ...runtime.bundle.archive import Bundle

    if path.exists():
        try:
            with Bundle(path, trusted_keys=()) as bundle:
                bundle.check()
                source = bundle.manifest["model"].get("checkpoint", {}).get("source")
        except BundleError as error:
            _print(f"{error}: it is built again")
        else:
            if source != "demo":
                raise InputError(f"{path}: not the demo's bundle, which is written there: choose another --output")
            _print(f"{path}: there already")
            return path
    return _build(path)


def _build(path: Path) -> Path:
    from rich.console import Console

    from ...runtime.system.progress import steps
    from ..builder.pipeline import build_bundle
    from . import build

    parser = argparse.ArgumentParser()
    build.add_arguments(parser)
    plan = build.make_plan(parser.parse_args([*_BUILD, "--output", str(path)]))
    _print(f"posert build {' '.join(_BUILD)} --output {path}: calibrates and judges, about two minutes")
    path.parent.mkdir(parents=True, exist_ok=True)
    with steps(Console(stderr=True, markup=False)) as report:
        return build_bundle(plan, report).path


def _detector(path: Path) -> Path:
    """The demo's detector; a file that is there is taken, and `Detector` says if it is none."""
    if path.exists():
        return path
    from ..demo import detector

    _print(f"python -m posert.export.demo.detector --output {path}")
    return detector.write(path)


def _video(folder: Path) -> Path:
    """The generated video; one that is there is taken."""
    from ..demo import clip_labels, videos

    path = folder / "videos" / "val" / f"{clip_labels.clip_name('val', _CLIP)}.mp4"
    if not (folder / "coco_val.json").exists():  # which is written last
        _print(f"{path}: {_FRAMES} generated frames")
        videos.write(folder, "val", 1, _FRAMES, video=True, first=_CLIP)
    return path


def _run(bundle: Path, detector: Path, video: Path, page: Path) -> tuple[dict[str, Any], list[str]]:
    """Run the bundle on the video and write its page; returns the summary and its lines for a terminal."""
    from ...runtime.accuracy.gate_table import gate_table, gate_words
    from ...runtime.bundle.archive import Bundle
    from ...runtime.cli.estimated import estimated
    from ...runtime.cli.recorder import Recorder
    from ...runtime.cli.tally import Tally
    from ...runtime.detection import Detector
    from ...runtime.estimator import PoseEstimator
    from ...runtime.media.outputs import open_outputs, output_files
    from ...runtime.media.sources import open_source
    from ...runtime.page import RunJitter, RunPage, example, section, table
    from ...runtime.pipeline import PosePipeline
    from ...runtime.results import Subject
    from ...runtime.smoothing import OneEuro

    source = open_source(str(video))
    files = output_files(source, page.with_name("people.mp4"), [bundle, detector])
    with Bundle(bundle, trusted_keys=()) as opened:
        pose, accuracy = PoseEstimator(opened, throughput=True), opened.accuracy
    finder = Detector(detector, throughput=True)
    pipeline = PosePipeline(pose, finder, track=True, smooth=OneEuro(), fps=source.fps)
    facts = {"backend": pose.selection.backend, "precision": pose.selection.precision}
    about = {**facts, "reason": pose.selection.reason, "detector": finder.description, "smoothing": "one-euro"}
    told = {"bundle": str(bundle), **about, "video": str(video)}
    shown = RunPage(pose.contract, _TITLE, told, fps=source.fps, boxes=True, program="posert demo")
    tally, jitter = Tally(source, StopSignals(deferred=True), str(bundle)), RunJitter(_JOINT_SCORE)
    best: tuple[float, Any] = (-1.0, None)

    def summary() -> dict[str, Any]:
        verdict = {"verdict": accuracy["verdict"], "bundle": str(bundle), "page": str(page)}
        return {"source": str(video), **about, **verdict, **tally.summary(), "outputs": outputs.paths()}

    subject = Subject(str(video), pose.contract, facts, source.keys, smoothed=True)
    with open_outputs(files, subject, source.fps, summary) as outputs:
        recorder = Recorder(pose.contract, outputs, shown, tally, _JOINT_SCORE, True, jitter)
        with tally.stop, recorder.open() as recording:
            for (key, image), people, error in estimated(source, pipeline, tally):
                if image is not None and people and (clear := float(people.score.sum())) > best[0]:
                    best = clear, (key, image.copy(), people)  # the recorder draws into the image
                recording.add((key, image), people, error)
        tally.finish()
    if figures := jitter.figures():
        shown.add_figure("Jitter", "mean acceleration of the joints", "px per frame²", figures)
    if best[1] is not None:
        shown.before += example(pose.contract, *best[1])
    note = accuracy["data"]["note"]
    words = f"{accuracy['verdict'].capitalize()}. {gate_words(accuracy)} {note[:1].upper()}{note[1:]}."
    shown.tiles.append((accuracy["verdict"], "accuracy gate of the bundle"))
    shown.after.append(section("Accuracy of every graph", words, table(*gate_table(accuracy))))
    shown.write(page, interrupted=tally.stop.number != 0)
    return summary(), [*tally.lines(), f"wrote {' and '.join(outputs.paths())}"]


def _display() -> bool:
    """Whether a browser has a screen here."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _print(text: str) -> None:
    print(text, file=sys.stderr)


COMMAND = Command("Build the demo, run it on a generated video and show the page", "run", add_arguments, run, "export")
