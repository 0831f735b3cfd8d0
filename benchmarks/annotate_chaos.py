"""Disturb `posert annotate` until it is done: kills of driver and workers, full disks, sources that are away.

    python -m posert.benchmarks.annotate_chaos hrnet_demo.pose SOURCES... --kills 100 --output out/chaos

Afterwards every frame must have one result, all files must equal those of an undisturbed run byte by byte, and no
temporary file may be left.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from posert.benchmarks.script import log
from posert.runtime.annotation.folder import FRAMES, JOURNAL, PEOPLE, PLAN
from posert.runtime.errors import PosertError

_FULL = 2000  # bytes that a file may have on a "full disk": less than any shard's
_OVER = 60.0  # seconds that a process may live after its driver
KINDS = ("driver", "worker", "worker", "full disk", "terminate")


class ChaosError(PosertError):
    """A promise of `posert annotate` was broken."""

    exit_status = 1


@dataclass
class Done:
    """What was done to the runs."""

    counts: dict[str, int] = field(default_factory=dict)
    runs: int = 0

    def count(self, kind: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1


def chaos(
    arguments: Sequence[str],
    output: Path,
    kills: int,
    seed: int = 0,
    away: Path | None = None,
    longest: float = 4.0,
) -> Done:
    """Run `posert annotate ARGUMENTS --output OUTPUT` and disturb it so often, then let it end.

    Args:
        away: a source that is renamed, and named back, now and then while a run goes on.
        longest: seconds until a disturbance, at most.

    Raises ChaosError: a run did not end, or ended otherwise than by what was done to it.
    """
    rng, done = random.Random(seed), Done()
    command = [sys.executable, "-m", "posert.runtime.cli", "annotate", *arguments, "--output", str(output)]
    while sum(done.counts.values()) < kills:
        kind = rng.choice((*KINDS, "away")) if away is not None else rng.choice(KINDS)
        limit = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (_FULL, _FULL))) if kind == "full disk" else None
        done.runs += 1
        status = _one_run([*command, "--retry-failed"], kind, rng, done, kills, away, longest, limit)
        if status == 0:
            # It ended before it was disturbed enough: some of its work is undone, and begins again.
            _undo(output, rng)
    last = subprocess.run([*command, "--retry-failed"], capture_output=True, text=True, timeout=3600)
    if last.returncode not in (0, 1):
        raise ChaosError(f"the last run ended with {last.returncode}: {last.stderr[-2000:]}")
    return done


def _one_run(
    command: Sequence[str],
    kind: str,
    rng: random.Random,
    done: Done,
    kills: int,
    away: Path | None,
    longest: float,
    limit: Callable[[], None] | None,
) -> int:
    """One run with one kind of disturbance; of workers several may be killed."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=limit)
    hidden = None if away is None else away.with_name(f"{away.name}.away")
    workers: list[int] = []
    plan = Path(command[command.index("--output") + 1]) / PLAN
    try:
        while process.poll() is None and sum(done.counts.values()) < kills:
            time.sleep(rng.uniform(0.05, longest))
            workers = children(process.pid) or workers
            if process.poll() is not None:
                break
            if kind == "worker" and workers:
                with _gone():
                    os.kill(rng.choice(workers), signal.SIGKILL)
                done.count(kind)
            elif kind in ("driver", "terminate"):
                process.send_signal(signal.SIGKILL if kind == "driver" else signal.SIGTERM)
                done.count(kind)
                break
            elif kind == "away" and away is not None and hidden is not None and plan.is_file():
                away.rename(hidden)
                time.sleep(rng.uniform(0.05, longest / 2))
                hidden.rename(away)
                done.count(kind)
                break
        errors = process.communicate(timeout=3600)[1].decode(errors="replace")
    finally:
        process.kill()
    _wait_for_end(workers)
    if kind == "full disk":
        done.count(kind)
    # -15: before Python had started
    expected = {"driver": (-9,), "terminate": (143, -15), "full disk": (2,), "away": (2,)}.get(kind, ())
    if process.returncode not in (0, 1, *expected) and "no worker is left" not in errors:
        raise ChaosError(f"{kind}: ended with {process.returncode}: {errors[-2000:]}")
    return process.returncode


def _undo(output: Path, rng: random.Random) -> None:
    """Cut the journal at a random byte, as a power cut could."""
    journal = output / JOURNAL
    if journal.is_file() and journal.stat().st_size:
        os.truncate(journal, rng.randrange(journal.stat().st_size))


def children(pid: int) -> list[int]:
    """The child processes of a process."""
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _wait_for_end(pids: Sequence[int]) -> None:
    """Workers must not outlive their driver."""
    end = time.monotonic() + _OVER
    while left := [pid for pid in pids if _program(pid).find("annotation.worker") >= 0]:
        if time.monotonic() > end:
            raise ChaosError(f"the workers {left} live on {_OVER:g} s after their driver")
        time.sleep(0.05)


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


class _gone:
    """Passes over a process that has ended meanwhile."""

    def __enter__(self) -> None:
        """Nothing."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, ProcessLookupError)


def check(output: Path, undisturbed: Path) -> int:
    """Compare two folders; returns the number of result files.

    Raises ChaosError: they differ, or a temporary file is left.
    """
    known = {PEOPLE, FRAMES}
    left = [p for p in output.rglob("*") if p.name.startswith((".", "work-")) or p.name in ("lock", "lock.now")]
    if left:
        raise ChaosError(f"{left[0]} and {len(left) - 1} more temporary files are left")
    if (output / PLAN).read_bytes() != (undisturbed / PLAN).read_bytes():
        raise ChaosError("the plans differ")
    names = [{f"{part}/{p.name}" for part in known for p in (of / part).iterdir()} for of in (output, undisturbed)]
    if names[0] != names[1]:
        raise ChaosError(f"files differ: {sorted(names[0] ^ names[1])[:5]}")
    for name in sorted(names[0]):
        if (output / name).read_bytes() != (undisturbed / name).read_bytes():
            raise ChaosError(f"{name} differs")
    return len(names[0])


def run(bundle: str, sources: Sequence[str], output: Path, kills: int, seed: int, more: Sequence[str]) -> list[str]:
    """An undisturbed run, a disturbed one, and what was done, in lines."""
    arguments = [*sources, "--bundle", bundle, *more]
    command = [sys.executable, "-m", "posert.runtime.cli", "annotate", *arguments, "--output", str(output / "quiet")]
    log("the undisturbed run")
    quiet = subprocess.run(command, capture_output=True, text=True)
    if quiet.returncode not in (0, 1):
        raise ChaosError(quiet.stderr[-2000:])
    began = time.perf_counter()
    done = chaos(arguments, output / "disturbed", kills, seed, away=Path(sources[0]))
    files = check(output / "disturbed", output / "quiet")
    counts = ", ".join(f"{kind} {count}" for kind, count in sorted(done.counts.items()))
    return [
        f"{sum(done.counts.values())} disturbances ({counts}) of {done.runs} runs, {time.perf_counter() - began:.0f} s",
        f"{files} result files equal those of an undisturbed run; no temporary file is left",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("sources", nargs="+", help="the first one is away now and then")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("out/chaos"), help="a new folder (out/chaos)")
    args, more = parser.parse_known_args(argv)
    try:
        print("\n".join(run(args.bundle, args.sources, args.output, args.kills, args.seed, more)))
    except PosertError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
