"""The code blocks of a page of documentation, and how a test runs them: in order, in one folder, as a reader would.

A `text` block right below a block of code is what the code prints on standard output. It is compared as doctest does
it: `...` stands for anything, such as a time or progress, and white space of any length is equal.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

RUNNABLE = ("python", "bash", "sh", "shell", "console")
ELLIPSIS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    line: int
    prints: str | None = None  # None: nothing is said about it


def blocks(text: str) -> list[Block]:
    """Every block, in order; what a block of code prints is a part of it, too."""
    found = list(re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    below = {m.start(): m for m in found if m[1] == "text"}
    gaps = (len(text[m.end() :]) - len(text[m.end() :].lstrip()) for m in found)
    outputs = [below.get(m.end() + gap) if m[1] in RUNNABLE else None for m, gap in zip(found, gaps, strict=True)]
    return [
        Block(m[1], m[2], text.count("\n", 0, m.start()) + 1, None if shown is None else shown[2])
        for m, shown in zip(found, outputs, strict=True)
    ]


def runnable(text: str) -> list[Block]:
    return [block for block in blocks(text) if block.language in RUNNABLE]


def environment(cache: Path) -> dict[str, str]:
    """The commands of this Python first, a cache of the test's own."""
    here = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": os.pathsep.join([here, os.environ["PATH"]]), "XDG_CACHE_HOME": str(cache)}


def run(code: Iterable[Block], folder: Path, variables: dict[str, str]) -> None:
    for block in code:
        shell = ["bash", "-euo", "pipefail", "-c"]
        command = [*([sys.executable, "-c"] if block.language == "python" else shell), block.code]
        done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=600)
        said = f"the block in line {block.line}\n{block.code}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, f"status {done.returncode} of {said}"
        if block.prints is not None:
            same = doctest.OutputChecker().check_output(block.prints, done.stdout, ELLIPSIS)
            assert same, f"expected\n{block.prints}\nof {said}"
