"""The code blocks of a page of documentation, and how a test runs them: in order, in one folder, as a reader would.

A `text` block right below a block of code is what the code prints on standard output. It is compared as doctest does
it: `...` stands for anything, such as a time, and white space of any length is equal. A second `text` block before
the next code and heading is the error with which the code may stop, where something is missing that the page is
about; the rest of the page is not run then.
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


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    line: int
    prints: str | None = None  # None: nothing is said about it
    stops: str | None = None  # None: it must not stop


def blocks(text: str) -> list[Block]:
    """Every block, in order; what is said of the output of a block of code is a part of it, too."""
    found = list(re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    return [
        Block(m[1], m[2], text.count("\n", 0, m.start()) + 1, *(_outputs(text, m, found[i + 1 :])))
        for i, m in enumerate(found)
    ]


def _outputs(text: str, code: re.Match[str], later: list[re.Match[str]]) -> tuple[str | None, str | None]:
    said: list[str | None] = []
    end = code.end()
    for block in later:
        between = text[end : block.start()]
        if code[1] not in RUNNABLE or block[1] != "text" or re.search("^#", between, re.MULTILINE):
            break
        if not said and between.strip():
            break
        said.append(block[2])
        end = block.end()
    prints, stops, *_ = [*said, None, None]
    return prints, stops


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
        if done.returncode and block.stops is not None and _same(block.stops, done.stderr):
            return
        said = f"the block in line {block.line}\n{block.code}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, f"status {done.returncode} of {said}"
        assert block.prints is None or _same(block.prints, done.stdout), f"expected\n{block.prints}\nof {said}"


def _same(expected: str, printed: str) -> bool:
    return doctest.OutputChecker().check_output(expected, printed, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
