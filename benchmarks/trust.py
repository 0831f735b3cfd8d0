"""Can the verdicts of `posert bench --against` be trusted here? A program against itself, and against a slower one.

    python -m posert.benchmarks.trust hrnet_w32.pose --runs 20

Each run times three sides in turn: a bundle, the same again, and the same with its frame to keypoints made 10 % longer.
The second has to be "no difference" in 19 of 20 runs, the third "slower". Finished runs are kept as JSON lines: the
same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from posert.benchmarks.harness.script import finished, keep, script
from posert.runtime.bench.compare import compare
from posert.runtime.bench.measure import Settings, Side
from posert.runtime.bundle.archive import Bundle
from posert.runtime.cli.commands.bench import sweep
from posert.runtime.errors import InputError
from posert.runtime.selection import choose
from posert.runtime.system.progress import track


@script(goes_on=True)
def main() -> int:
    """Entry point; returns 1 if the verdicts were wrong more often than they may be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--runs", type=int, default=20, help="in all, with those that are kept (20)")
    parser.add_argument("--people", type=int, default=1, help="per frame (1)")
    parser.add_argument("--rounds", type=int, default=40, help="of a run (40)")
    parser.add_argument("--slower", type=float, default=1.1, help="the slow side takes so many times as long (1.1)")
    parser.add_argument("--state", type=Path, default=Path("out/trust.jsonl"), help="finished runs (out/trust.jsonl)")
    args = parser.parse_args()
    rows = runs(args)
    print("\n".join(report(rows)))
    return 0 if trusted(rows) else 1


def runs(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Make the runs that are missing; a run's record holds both ratios."""
    with Bundle(args.bundle) as bundle:
        choice, name = choose(bundle), bundle.name
    setting = {"bundle": name, "backend": choice.backend, "precision": choice.precision}
    setting |= {"people": args.people, "rounds": args.rounds, "slower": args.slower}
    # finished runs of the same setting
    rows = [row for row in finished(args.state) if all(row.get(k) == v for k, v in setting.items())]
    sides = [Side(args.bundle), Side(args.bundle), Side(args.bundle, planted=args.slower)]
    how = Settings((args.people,), args.rounds)
    for _ in track(range(len(rows), args.runs), "runs"):
        plain, same, slow = sweep(sides, how, [(choice.backend, choice.precision, ["latency"])], [None] * 3)
        if plain["interrupted"]:
            break
        failed = [c["error"] for r in (plain, same, slow) for c in r["cells"] if "error" in c]
        if failed:
            raise InputError(f"nothing was measured: {failed[0]}")
        (unchanged,), (planted,) = compare(plain, same), compare(plain, slow)
        row = {
            **setting,
            "date": plain["date"],
            "load": plain["machine"]["load"],
            "unchanged": [*_figures(unchanged.ratio)],
            "planted": [*_figures(planted.ratio)],
        }
        keep(args.state, row)
        rows.append(row)
    return rows


def trusted(rows: list[dict[str, Any]]) -> bool:
    """Whether the unchanged program was called so in 19 of 20 runs, and the slower one slower as often."""
    right = sum(r["unchanged"][3] == "no difference" for r in rows), sum(r["planted"][3] == "slower" for r in rows)
    return bool(rows) and min(right) >= 0.95 * len(rows)


def report(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each run, and the count."""
    lines = []
    for r in rows:
        cells = (f"{r[k][0]:.3f} ({r[k][1]:.3f} to {r[k][2]:.3f}) {r[k][3]:14}" for k in ("unchanged", "planted"))
        lines.append(f"{r['date']}  load {r['load']:>5}  " + "  ".join(cells))
    unchanged = sum(r["unchanged"][3] == "no difference" for r in rows)
    planted = sum(r["planted"][3] == "slower" for r in rows)
    first = rows[0] if rows else {"backend": "", "precision": "", "slower": 1.0}
    what = f"{first['backend']} {first['precision']}"
    return [
        *lines,
        f"{what}: an unchanged program was called no different in {unchanged} of {len(rows)} runs, one that takes "
        f"{first['slower']:.2f} times as long slower in {planted}",
    ]


def _figures(ratio: Any) -> tuple[float, float, float, str]:
    return ratio.point, ratio.low, ratio.high, ratio.verdict


if __name__ == "__main__":
    sys.exit(main())
