"""A case of the campaign, the part that it belongs to, and the rule that it must keep."""

from __future__ import annotations

import os
import sys
import traceback
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from posert.runtime.errors import PosertError
from posert.runtime.registry import Registry
from posert.tests.campaign.watch import Watch

_HOLES = 0.01  # of files: they end in zeros that take no place on the disk


class Defect(Exception):
    """A case broke the rule; `kind` groups the defects of one sort."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail = kind, detail


class Refusal(Exception):
    """A command ended with status 2; `message` is what it printed."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind, self.message = kind, message


@dataclass
class Case:
    """One case.

    Attributes:
        rng: all chance of the case comes from here.
        folder: an empty folder of its own.
        index: its number in the part.
        done: what was done to the input, for the report.
        named: parts of file names. A refusal's message must have one of them; none: the input is no file.
    """

    rng: np.random.Generator
    folder: Path
    index: int = 0
    done: list[str] = field(default_factory=list)
    named: tuple[str, ...] = ()

    def write(self, name: str, data: bytes, holes: bool = True) -> Path:
        """A file of the case, which refusals have to name. With `holes` some get gigabytes of zeros at their end."""
        print(*self.done, sep="; ", file=sys.stderr, flush=True)  # read where the case ends its process
        path = self.folder / name
        path.write_bytes(data)
        if holes and self.rng.random() < _HOLES:
            self.done.append("a hole of 3 GB at its end")
            os.truncate(path, 3 << 30)
        self.named += (name,)
        return path


Run = Callable[[Case], str]


@dataclass(frozen=True)
class Part:
    """A part of the campaign.

    Attributes:
        name: that of its file.
        summary: what it tries, for the table.
        count: cases of a full run.
        short: cases of the short form, which CI runs.
        open: prepares in a worker, with a folder for files that all its cases share; returns the function that runs
            a case. It returns what held ("equal", ...), or raises `PosertError`, `Refusal` or `Defect`.
        limit_s: seconds after which a case hangs.
        workers: how many processes may share its cases.
        starts_programs: whether its cases start commands themselves.
    """

    name: str
    summary: str
    count: int
    short: int
    open: Callable[[Path], Run]
    limit_s: float = 20.0
    workers: int = 64
    starts_programs: bool = False


LOG = "log"
"""File in a worker's folder: what libraries print, and where a case hangs."""

PARTS = Registry("part", "posert.tests.campaign.parts", "PART", "posert.campaign", Part)


@dataclass(frozen=True)
class Outcome:
    """How a case ended: `result` is "held", "refused" or "defect"."""

    result: str
    kind: str
    done: str = ""
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def generator(seed: int, part: str, index: int) -> np.random.Generator:
    """The chance of a case: the same for the same three."""
    return np.random.default_rng([seed, zlib.crc32(part.encode()), index])


def judge(run: Run, case: Case, watch: Watch) -> Outcome:
    """Run a case and hold it to the rule."""
    watch.begin()
    try:
        result, kind, detail = "held", run(case), ""
    except Defect as error:
        result, kind, detail = "defect", error.kind, error.detail
    except (PosertError, Refusal) as error:
        result, kind = "refused", error.kind if isinstance(error, Refusal) else type(error).__name__
        detail = str(error)
        if case.named and not any(name in detail for name in case.named):
            result, kind = "defect", f"names no file: {kind}"
    except BaseException as error:  # whatever else comes out is what is looked for
        place = traceback.extract_tb(error.__traceback__)
        own = next((f for f in reversed(place) if "/posert/" in f.filename and "/tests/" not in f.filename), place[-1])
        result, kind = "defect", f"traceback: {type(error).__name__} at {Path(own.filename).name}:{own.name}"
        detail = f"{str(error)[:300]} ({own.filename}:{own.lineno})"
    if result != "defect" and (seen := watch.seen()):
        result, kind, detail = "defect", *seen
    if result != "defect" and (left := [p.name for p in case.folder.rglob(".*") if p.name not in case.named]):
        result, kind, detail = "defect", "left-over file", ", ".join(left)
    return Outcome(result, kind, "; ".join(case.done), detail[:600])
