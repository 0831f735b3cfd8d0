"""Runs the reliability campaign, or one case of it."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from posert.tests.campaign.case import PARTS, Outcome
from posert.tests.campaign.crew import Tally, run_part


def main() -> int:
    """Run parts of the campaign; the status is 1 if a case broke the rule."""
    parser = argparse.ArgumentParser(prog="python -m posert.tests.campaign", description=f"{__doc__}")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS.names())} (default: all)")
    parser.add_argument("--seed", type=int, default=18, help="of all chance (default: 18)")
    parser.add_argument("--short", action="store_true", help="few cases of each part, as the tests run")
    parser.add_argument("--cases", type=int, metavar="N", help="cases per part, in place of the part's own number")
    parser.add_argument("--case", type=int, metavar="I", help="run this case alone, and print all of its outcome")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes (default: cores)")
    parser.add_argument("--folder", type=Path, default=Path("build/campaign"), help="of journals: a run resumes there")
    args = parser.parse_args()
    folder = args.folder.absolute() / str(args.seed)
    tallies = []
    for name in args.parts or PARTS.names():
        part = PARTS.load(name)
        cases = range(args.cases or (part.short if args.short else part.count))
        if args.case is not None:
            cases, single = range(args.case, args.case + 1), folder / "single"
            (single / f"{name}.journal").unlink(missing_ok=True)
            print(*run_part(name, cases, seed=args.seed, folder=single).outcomes.values(), sep="\n")
            continue
        progress = _Progress(name, len(cases))
        tallies.append(run_part(name, cases, seed=args.seed, folder=folder, workers=args.workers, tell=progress))
    if tallies:
        print(table(tallies, args.seed))
    return int(any(tally.defects() for tally in tallies))


class _Progress:
    """Prints each defect when it is found, and how far a part is."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total, self._done, self._told = name, total, 0, time.monotonic()

    def __call__(self, index: int, outcome: Outcome) -> None:
        self._done += 1
        if outcome.result == "defect":
            print(f"{self._name} {index}: {outcome.kind}: {outcome.detail}\n    {outcome.done}", file=sys.stderr)
        if time.monotonic() > self._told + 30:
            self._told = time.monotonic()
            print(f"{self._name}: {self._done} of {self._total}", file=sys.stderr)


def table(tallies: list[Tally], seed: int) -> str:
    """Markdown, as in docs/reliability.md."""
    lines = ["| part | cases | held | refused | defects | time |", "|---|---|---|---|---|---|"]
    for t in tallies:
        held, refused, defects = (_kinds(t.count(result)) for result in ("held", "refused", "defect"))
        lines.append(
            f"| {t.part.name} | {len(t.outcomes):,} | {held} | {refused} | {defects or 0} | {t.seconds:.0f} s |"
        )
    return "\n".join([*lines, "", f"Seed {seed}."])


def _kinds(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in counts.items())


if __name__ == "__main__":
    sys.exit(main())
