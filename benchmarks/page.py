"""Make the figures of docs/benchmarks.md anew: runs the commands that stand in it and puts in what they print.

    python -m posert.benchmarks.page                 all of them: half an hour on a quiet machine
    python -m posert.benchmarks.page startup peers   those whose command contains one of these words

A figure is a block ```text whose first line is `$ COMMAND`. The page is written after each command, and a command that
fails leaves the block as it was.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from posert.benchmarks.harness.script import script
from posert.runtime.bench.meters import Meters
from posert.runtime.errors import InputError
from posert.runtime.system.files import atomic_write

PAGE = Path("docs/benchmarks.md")
_BLOCK = re.compile(r"(?m)^```text\n\$ (.+)\n(?:.*\n)*?```$")


@script(goes_on=False)
def main() -> int:
    """Entry point; returns 1 if a command failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only commands that contain one of these")
    parser.add_argument("--page", type=Path, default=PAGE, help=f"({PAGE})")
    args = parser.parse_args()
    failed = refresh(args.page, args.words)
    for command, reason in failed.items():
        print(f"kept as it was: {command}: {reason}", file=sys.stderr)
    return 1 if failed else 0


def refresh(page: Path, words: list[str], run: Callable[[str], str] | None = None) -> dict[str, str]:
    """Run the commands of a page and put in their output; those that failed, with the reason.

    Raises:
        InputError: the page has no such command, or one that is none of posert's.
    """
    commands = [c for c in _BLOCK.findall(page.read_text()) if not words or any(w in c for w in words)]
    if not commands:
        raise InputError(f"{page} has no block that begins with `$ COMMAND` and contains {' or '.join(words) or 'one'}")
    failed: dict[str, str] = {}
    for command in commands:
        try:
            block = (run or _run)(command)
        except (subprocess.CalledProcessError, OSError) as error:
            said = str(getattr(error, "stderr", "") or error).strip().splitlines()
            failed[command] = said[-1] if said else "no message"
            continue
        text = page.read_text()
        old = next(m for m in _BLOCK.finditer(text) if m[1] == command)
        with atomic_write(page) as file:
            file.write((text[: old.start()] + block + text[old.end() :]).encode())
    return failed


def _run(command: str) -> str:
    """A block with what a command printed, when, and on which machine."""
    words = shlex.split(command)
    if words[0] == "posert":
        words = ["python", "-m", "posert.runtime.cli", *words[1:]]
    if words[:2] != ["python", "-m"] or not words[2].startswith("posert."):
        raise InputError(f"{command}: only posert's own commands are run")
    facts = Meters().describe()
    # Not the status: 1 is a verdict, such as a comparison that found something slower.
    done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True)
    if done.returncode not in (0, 1) or not done.stdout.strip():
        raise subprocess.CalledProcessError(done.returncode, command, stderr=done.stderr)
    cpu = facts["cpu"]
    what = f"{time.strftime('%Y-%m-%d')}, {cpu['name']}, {cpu['cores']} cores, GPU {facts['gpu']}, load {facts['load']}"
    return f"```text\n$ {command}\n# {what}\n{done.stdout.rstrip()}\n```"


if __name__ == "__main__":
    sys.exit(main())
