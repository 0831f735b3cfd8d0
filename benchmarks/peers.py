"""Frame to keypoints, ours beside other tools: the same weights, frame and boxes, taking turns in one run.

python -m posert.benchmarks.peers out/w32.pose --people 1,8 --output out/peers.json

Each tool runs in a process of its own, peers from other projects in environments of their own that are made under
out/environments. While one is timed, the others are stopped. A tool that cannot take part is a row that says why.
A run that was stopped goes on where it was when the same command is given again; a finished one is made anew.
Beside the JSON lies a plot, FILE-PEOPLE.svg for each number of people.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from posert.benchmarks.contenders.contest import Result, compete, progress
from posert.benchmarks.contenders.page import plot, table
from posert.benchmarks.contenders.roster import contenders
from posert.benchmarks.harness.script import script
from posert.runtime.errors import InputError
from posert.runtime.system.files import atomic_write, check_writable


@script(goes_on=True)
def main() -> int:
    """Entry point; prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--people", type=_numbers, default=[1, 8], help="people per frame (1,8)")
    parser.add_argument("--rounds", type=int, default=12, help="turns of each (12); ratios need 6")
    parser.add_argument("--only", metavar="TEXT,...", help="rows whose name contains one of these")
    parser.add_argument("--weights", help="file of the weights, where the bundle was made from one")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON")
    args = parser.parse_args()
    result = _run(args)
    print(table(result))
    for people in result["people"]:
        with atomic_write(args.output.with_name(f"{args.output.stem}-{people}.svg")) as file:
            file.write(plot(result, str(people)).encode())
    return 0


def _run(args: argparse.Namespace) -> Result:
    wanted = contenders()
    if args.only:
        parts = args.only.split(",")
        wanted = [c for c in wanted if any(part in c.name for part in parts)]
        if not wanted:
            raise InputError(f"--only {args.only} fits none of {', '.join(c.name for c in contenders())}")
    if args.rounds < 1:
        raise InputError(f"--rounds {args.rounds}: expected 1 or more")
    check_writable(args.output)
    return compete(args.bundle, args.output, wanted, args.people, args.rounds, args.weights, progress)


def _numbers(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers of people such as 1,8")
    return [int(part) for part in parts]


if __name__ == "__main__":
    sys.exit(main())
