"""The process that measures one backend, precision and mode of a bundle.

`posert bench` starts it, also in another install of posert, and talks to it in lines of JSON (`process.JsonProcess`).
The first line it writes names its stages ("parts" in this protocol, which is as old as 0.1.0-dev) or an error; then it
answers the requests {"do": "warm", "seconds": S}, {"do": "time", "part": INDEX, "burst": S} and {"do": "yardstick",
"burst": S}.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np

from ..errors import PosertError
from ..estimator import PoseEstimator
from ..selection import Selection, open_model, open_session
from ..system.memory import peak_mb
from ..system.process import answer_channel
from . import MODES
from .stages import Stage, latency, throughput
from .timing import timed, warm


def main() -> int:
    """Entry point; answers until standard input ends."""
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
    args = parser.parse_args()
    answer = answer_channel()
    try:
        stages = _stages(args)
    except PosertError as error:
        answer(error=str(error))
        return error.exit_status
    answer(parts=[{"part": s.name, "people": s.people, "frames": s.frames} for s in stages])
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "warm":
            answer(steady=warm({str(i): stage.call for i, stage in enumerate(stages)}, request["seconds"]))
        elif request["do"] == "yardstick":
            answer(seconds=timed(_yardstick, request["burst"]))
        else:
            answer(seconds=timed(stages[request["part"]].call, request["burst"]), peak_mb=peak_mb())
    return 0


def _stages(args: argparse.Namespace) -> list[Stage]:
    if args.cpus:
        os.sched_setaffinity(0, args.cpus)  # before any library counts the processors
    with open_model(args.bundle) as bundle:
        session = open_session(bundle, args.backend, args.precision, args.threads, args.mode == "throughput")
        selected = Selection(args.backend, args.precision, "measured")
        pose = PoseEstimator.from_session(bundle.contract, session, selected, args.flip_test)
    stages = latency if args.mode == "latency" else throughput
    return stages(pose, args.image, np.array(args.boxes, np.float64), args.people)


_NOISE = np.random.default_rng(0).integers(0, 256, (540, 960, 3)).astype(np.uint8)


def _yardstick() -> object:
    """Work that no version of posert changes: it shows how fast the machine is at the moment."""
    return cv2.GaussianBlur(_NOISE, (31, 31), 7.0)


if __name__ == "__main__":
    sys.exit(main())
