"""One backend, precision and mode of a bundle in a process of its own, which times what it is told to time.

`posert bench` starts it and speaks with it in lines of JSON, so that two installs of posert can be timed in turn. The
first line that it writes tells its parts, or why there are none.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..backends import load_backend
from ..bundle.archive import Bundle
from ..errors import PosertError
from ..estimator import PoseEstimator
from ..selection import Choice, open_session
from .memory import peak_mb
from .paired import timed, warm
from .stages import MODES, Part, latency, throughput


def main() -> int:
    """Entry point; answers on standard output until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("backend")
    parser.add_argument("precision")
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--boxes", type=json.loads, required=True, help="JSON, xyxy")
    parser.add_argument("--people", type=json.loads, required=True, help="JSON, numbers of people")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--cpus", type=json.loads, help="JSON, numbers of processors")
    parser.add_argument("--flip-test", action="store_true")
    parser.add_argument("--planted", type=float, default=1.0, help="make the whole take so many times as long")
    args = parser.parse_args()
    # Libraries write to standard output as they like: the answers get a way of their own.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")

    try:
        parts = _parts(args)
    except PosertError as error:
        answer(error=str(error), absent=_absent(args))
        return error.exit_status
    answer(parts=[{"part": p.name, "people": p.people, "frames": p.frames} for p in parts])
    for line in sys.stdin:
        ask = json.loads(line)
        if ask["do"] == "warm":
            answer(steady=warm({str(i): part.call for i, part in enumerate(parts)}, ask["seconds"]))
        elif ask["do"] == "yardstick":
            answer(seconds=timed(_yardstick, ask["burst"]))
        else:
            answer(seconds=timed(parts[ask["part"]].call, ask["burst"]), peak_mb=peak_mb())
    return 0


def _parts(args: argparse.Namespace) -> list[Part]:
    if args.cpus:
        os.sched_setaffinity(0, args.cpus)  # before any library counts the processors
    with Bundle(args.bundle) as bundle:
        session = open_session(bundle, args.backend, args.precision, args.threads, args.mode == "throughput")
        choice = Choice(args.backend, args.precision, "measured")
        pose = PoseEstimator.from_session(bundle.contract, session, choice, args.flip_test)
    boxes = np.array(args.boxes, np.float64)
    parts = (latency if args.mode == "latency" else throughput)(pose, args.image, boxes, args.people)
    if args.planted > 1:
        longer = {i: _Longer(p.call, args.planted) for i, p in enumerate(parts) if p.name == "whole"}
        parts = [dataclasses.replace(p, call=longer.get(i, p.call)) for i, p in enumerate(parts)]
    return parts


def _absent(args: argparse.Namespace) -> bool:
    """Whether the backend could run this precision, and only the bundle does not hold it."""
    try:
        artifact = load_backend(args.backend).runnable()[args.precision]
        with Bundle(args.bundle) as bundle:
            return artifact not in bundle.artifacts
    except (PosertError, KeyError):
        return False


class _Longer:
    """A call that takes so many times as long: a slow-down whose size is known, to test verdicts with.

    It computes for as long as a share of the call itself computed, on one processor: on a machine that is shared with
    others both are interrupted alike, which a wait by the clock is not.
    """

    def __init__(self, call: Callable[[], object], times: float) -> None:
        self._call, self._share = call, times - 1
        self._fastest, self._side_by_side = math.inf, 1.0

    def __call__(self) -> None:
        start, computed = time.perf_counter(), time.process_time()
        self._call()
        wall, computed = time.perf_counter() - start, time.process_time() - computed
        if wall < self._fastest:  # nobody was in the way: so many processors work at a time
            self._fastest, self._side_by_side = wall, max(1.0, computed / wall)
        end = time.thread_time() + self._share * computed / self._side_by_side
        while time.thread_time() < end:
            pass


_SHEET = np.random.default_rng(0).integers(0, 256, (540, 960, 3)).astype(np.uint8)


def _yardstick() -> object:
    """Work that no version of posert changes: it tells how fast the machine is at the moment."""
    return cv2.GaussianBlur(_SHEET, (31, 31), 7.0)


if __name__ == "__main__":
    sys.exit(main())
