"""`posert annotate`: keypoints of many videos and images, on all devices, in runs that resume."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from .. import options, people
from ..command import Command

if TYPE_CHECKING:
    from ...annotation import Limits, Settings
    from ...annotation.devices import Device
    from ...annotation.sources import Found
    from ...selection import Selection

_TERMINAL, _LOG = 0.5, 30.0  # seconds between two lines about the state: on a terminal, and in a log


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("sources", nargs="*", help="images, videos, tar files of images, folders with all below them, and patterns")
    add("--list", dest="listed", metavar="FILE", help="more sources, one a line; - reads standard input")
    add("--bundle", type=Path, metavar="FILE", help="a .pose file")
    output = (
        "folder of the results, or its URL, such as s3://bucket/results; the same command continues what was "
        "interrupted, and more sources may be added"
    )
    add("--output", required=True, metavar="DIR", help=output)
    merged = (
        "write all results of DIR into one file, at the end or, without --bundle, of what is there: NAME.parquet, ..."
    )
    add("--merge", type=Path, metavar="FILE", help=merged)
    people.add_arguments(parser)
    work = parser.add_argument_group("work").add_argument
    devices = (
        "one worker for each: cpu:0,1 (two processors), cpu:0-3,4-7 (two groups), cuda:0,1 (two GPUs); default: auto, "
        "all GPUs, or all processors in up to 8 groups"
    )
    work("--devices", default=options.AUTO, metavar="KIND:N,...", help=devices)
    work("--shard-images", type=options.positive, default=500, metavar="N", help="images of a shard (default: 500)")
    span = "cut videos into shards of N frames (default: a video is one shard; with ids it always is)"
    work("--video-frames", type=options.positive, metavar="N", help=span)
    work("--retry-failed", action="store_true", help="do again what failed in earlier runs")
    work("--max-failures", type=int, metavar="N", help="stop after more than N frames or shards failed")
    work(
        "--price",
        type=float,
        metavar="P",
        help="price of an hour of this machine, to tell the cost of a million frames",
    )
    ray = parser.add_argument_group("many machines").add_argument
    where = 'run on a Ray cluster: auto, HOST:PORT, or "local" for one on this machine; pip install "posert[ray]"'
    ray("--ray", metavar="ADDRESS", help=where)
    ray(
        "--workers",
        type=options.positive,
        metavar="N",
        help="number of workers (default: what the cluster has room for)",
    )
    ray("--worker-cpus", type=options.positive, metavar="N", help="processors of a worker (default: 1)")
    ray("--worker-gpus", type=float, metavar="N", help="GPUs of a worker; may be a part of one (default: 0)")
    options.add_session(parser, threads=False)


def run(args: argparse.Namespace) -> int:
    """Returns 1 if something failed, in this run or in those before."""
    from ...annotation import Limits, annotate, find
    from ...annotation.places import open_output

    if args.max_failures is not None and args.max_failures < 0:
        raise InputError(f"--max-failures {args.max_failures}: expected 0 or more")
    if args.bundle is None and args.merge is not None and not args.sources and args.listed is None:
        return _merge(args, alone=True)
    if args.bundle is None:
        raise InputError("the network is missing: add --bundle FILE")
    found = find(args.sources, args.listed)
    open_output(args.output).check()
    state = _State()
    limits = Limits(args.retry_failed, args.max_failures, args.price)
    try:
        if args.ray is None:
            settings, devices = _settings(args)
            summary = annotate(found, settings, devices, args.output, limits, say=state.say, show=state.show)
        else:
            summary = _on_cluster(args, found, limits, state)
    finally:
        state.end()
    print(json.dumps(summary) if args.json else "\n".join(_lines(summary)))
    bad = bool(summary["failures"] or summary["lost_devices"] or summary["stopped"])
    if args.merge is not None and not summary["shards"]["left"]:
        bad |= bool(_merge(args))
    return 1 if bad else 0


def _merge(args: argparse.Namespace, alone: bool = False) -> int:
    """Returns 1 if shards are missing in the file, because they failed. `alone`: no summary of a run was printed."""
    from ...annotation import merge

    merged = merge(args.output, args.merge)
    failed = f"; without {merged.failed} shards that failed" if merged.failed else ""
    _print(f"wrote {args.merge}: {merged.people:,} people of {merged.shards} shards{failed}")
    if alone and args.json:
        print(json.dumps({"output": args.output, "merged": str(args.merge), **asdict(merged)}))
    return 1 if merged.failed else 0


def _settings(args: argparse.Namespace) -> tuple[Settings, list[Device]]:
    """How to annotate, and where."""
    from ...annotation import choose
    from ...bundle.archive import Bundle

    if args.workers or args.worker_cpus or args.worker_gpus:
        raise InputError("--workers, --worker-cpus and --worker-gpus are of a cluster: add --ray ADDRESS")
    tracked = people.check(args, video=True, live=False)
    with Bundle(args.bundle) as bundle:
        selected, devices = choose(bundle, args.backend, args.precision, args.devices)
    _say_selected(args, selected, f"workers on {', '.join(map(str, devices))}")
    return _settings_of(args, selected, tracked), devices


def _on_cluster(args: argparse.Namespace, found: list[Found], limits: Limits, state: _State) -> dict[str, Any]:
    from ...scale import Cluster, annotate_sources, choose_there

    if args.devices != options.AUTO:
        raise InputError("--devices are those of this machine: with --ray say --worker-cpus or --worker-gpus")
    tracked = people.check(args, video=True, live=False)
    cluster = Cluster(args.ray, args.workers, args.worker_cpus or 1, args.worker_gpus or 0.0)
    with cluster.connected():
        selected = choose_there(cluster, str(args.bundle), args.backend, args.precision)
        gpus = f" and {cluster.gpus:g} GPU each" if cluster.gpus else " each"
        _say_selected(args, selected, f"workers: {cluster.room()}, with {cluster.cpus} CPU{gpus}")
        settings = _settings_of(args, selected, tracked)
        return annotate_sources(found, settings, cluster, args.output, limits, say=state.say, show=state.show)


def _say_selected(args: argparse.Namespace, selected: Selection, workers: str) -> None:
    _print(f"{selected.backend} {selected.precision}: {selected.reason}; {workers}")
    if args.detector is None and args.boxes is None:
        _print("no --detector and no --boxes: each frame is taken as one person")


def _settings_of(args: argparse.Namespace, selected: Selection, tracked: bool) -> Settings:
    from ...annotation import Settings

    wanted = args.detect_class
    return Settings(
        bundle=str(args.bundle.absolute()),
        backend=selected.backend,
        precision=selected.precision,
        detector=None if args.detector is None else str(args.detector.absolute()),
        detector_layout=args.detector_layout,
        detector_score=args.detector_score,
        detector_class=int(wanted) if wanted.isdecimal() else wanted,
        boxes=None if args.boxes is None else str(args.boxes),
        box_score=args.box_score,
        track=tracked,
        detect_every=args.detect_every,
        smooth=args.smooth,
        images=args.shard_images,
        frames=args.video_frames,
    )


class _State:
    """Tells on standard error how a run goes: one line that is written again and again, on a terminal."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._last, self._width = time.monotonic(), 0

    def show(self, line: str) -> None:
        now = time.monotonic()
        if now - self._last < (_TERMINAL if self._terminal else _LOG):
            return
        self._last = now
        if self._terminal:
            print(f"\r{line:{self._width}}", end="", file=sys.stderr, flush=True)
            self._width = len(line)
        else:
            _print(line)

    def say(self, text: str) -> None:
        self.end()
        _print(text)

    def end(self) -> None:
        """Remove the line."""
        if self._width:
            print(f"\r{'':{self._width}}\r", end="", file=sys.stderr, flush=True)
            self._width = 0


def _lines(summary: dict[str, Any]) -> list[str]:
    """The summary for a terminal."""
    run, shards = summary["run"], summary["shards"]
    lines = [
        f"{summary['output']}: {summary['frames']:,} frames, {summary['people']:,} people; "
        f"shards: {shards['done']} done, {shards['failed']} failed, {shards['left']} left"
    ]
    if run["frames"]:
        stages = ", ".join(f"{name} {figures['seconds']:.1f} s" for name, figures in run["stages"].items())
        lines.append(
            f"this run: {run['frames']:,} frames in {run['seconds']:.1f} s with the start of the workers; after it "
            f"{run['frames_per_second']} frames/s, {run['people_per_second']} people/s; all workers together: {stages}"
        )
    if run["cost_per_million_frames"] is not None:
        lines.append(f"a million frames cost {run['cost_per_million_frames']:.2f} at {run['price_per_hour']:g} an hour")
    lines += [f"failed {count:,} times: {why}" for why, count in summary["failures"].items()]
    if summary["stopped"]:
        lines.append(summary["stopped"])
    return lines


def _print(text: str) -> None:
    print(text, file=sys.stderr)


COMMAND = Command("Annotate many videos and images, in runs that resume", "run", add_arguments, run, extra="parquet")
