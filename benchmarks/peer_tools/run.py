"""Time tools in turn: open them, compare their joints with the reference, and time rounds; each round is journalled."""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ...runtime.errors import PosertError
from ...runtime.pose.keypoints import Keypoints
from ...runtime.system.journal import Journal
from ...runtime.system.process import JsonProcess, ProcessError
from ..child import ToolError, environment, start
from .inputs import PEOPLE, prepare

BURST = 0.3  # seconds for which a tool is called again within its turn
PATIENCE = 600.0  # seconds until a tool that does not answer is given up
# Limits on threads in the environment: every tool chooses its threads as it does for its users.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class PeerTool:
    """A tool to time."""

    name: str  # of its row
    adapter: str  # "package.module:function" that opens it, see `adapter.Adapter`
    options: dict[str, Any] = field(default_factory=dict)  # added to the adapter's inputs
    requirements: Sequence[str] | None = None  # of an environment of its own; None runs in ours
    bare: Sequence[str] = ()  # see `child.environment`

    def python(self) -> Path:
        """The interpreter it runs in; its environment is made if need be, which may raise `ToolError`."""
        if self.requirements is None:
            return Path(sys.executable)
        return environment(self.adapter.partition(":")[2], self.requirements, bare=self.bare)


def run_tools(
    bundle: Path,
    journal: Journal,
    tools: Sequence[PeerTool],
    people: Sequence[int],
    rounds: int,
    weights: str | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> None:
    """Add the rounds that the journal lacks, `rounds` of each number of people; errors as for `inputs.prepare`.

    The journal gets {"tool": name, "description", "agreement" or "missing"}, and {"people": n, "seconds": {name:
    calls}, "peak_mb": {name: MB}} for each round. Each tool is a process; while one is timed the others are stopped,
    since threads that spin on would slow it down.
    """
    missing = {n: rounds - sum(r.get("people") == n for r in journal.records) for n in people}
    if max(missing.values()) <= 0:
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        log("preparing the frame, the weights and the graph")
        inputs, reference = prepare(bundle, weights, folder, max(people))
        processes: dict[str, JsonProcess] = {}
        env = {name: value for name, value in os.environ.items() if name not in _THREADS}
        for tool in tools:
            log(f"opening {tool.name}")
            try:
                process = start(tool.python(), f"{__package__}.adapter:serve", paused=True, patience=PATIENCE, env=env)
                stack.callback(process.close)
                hello = process.ask(function=tool.adapter, inputs=inputs | tool.options)
                if "error" in hello:
                    raise ToolError(hello["error"])
                joints = process.ask(do="joints", people=PEOPLE)
                found = agreement(reference, inputs["sigmas"], joints["xy"], joints["score"])
            except (ProcessError, ToolError) as error:
                _give_up(journal, tool.name, error, log)
                continue
            processes[tool.name] = process
            journal.add({"tool": tool.name, "description": hello["description"], "agreement": found})
        for n in people:  # to warm up
            _round(n, -1, processes, journal, log)
        for number in range(max(missing.values())):
            for n in (n for n in people if number < missing[n] and processes):
                answers = _round(n, number, processes, journal, log)
                record = {key: {name: a[key] for name, a in answers.items()} for key in ("seconds", "peak_mb")}
                journal.add({"people": n, **record})


def _round(
    people: int, number: int, processes: dict[str, JsonProcess], journal: Journal, log: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """One turn of each tool, in random order."""
    answers: dict[str, dict[str, Any]] = {}
    for name in random.Random(f"{number} {people}").sample(list(processes), len(processes)):
        log(f"round {number + 1}, {people} people, {name}")
        try:
            answers[name] = processes[name].ask(do="time", people=people, burst=BURST)
        except ProcessError as error:
            _give_up(journal, name, error, log)
            processes.pop(name).close()
    return answers


def _give_up(journal: Journal, name: str, error: Exception, log: Callable[[str], None]) -> None:
    log(f"{name}: {error}")
    journal.add({"tool": name, "missing": str(error)})


def agreement(reference: Keypoints, sigmas: ArrayLike, xy: Any, score: Any) -> dict[str, Any]:
    """How far joints `(N, K, 2)`, px of the frame, and scores `(N, K)` are from the reference's.

    Returns:
        px: median, 95th percentile and maximum over joints that the reference scores above 0.3; score: largest
        difference there; oks: mean similarity of the people, with the reference as ground truth and its box as area.
    """
    seen, scores = np.asarray(xy, np.float64), np.asarray(score, np.float64)
    if seen.shape != reference.xy.shape or scores.shape != reference.score.shape:
        raise PosertError(f"joints {seen.shape} and scores {scores.shape}, expected {reference.xy.shape}")
    shown = reference.score > 0.3
    squared = ((seen - reference.xy) ** 2).sum(axis=2)
    distance = np.sqrt(squared[shown])
    x1, y1, x2, y2 = reference.boxes.astype(np.float64).T
    area = ((x2 - x1) * (y2 - y1))[:, None]
    similar = np.exp(-squared / (2 * area * (2 * np.asarray(sigmas)) ** 2))
    some = shown.any(axis=1)
    oks = (similar * shown).sum(axis=1)[some] / shown.sum(axis=1)[some]
    return {
        "joints": int(shown.sum()),
        "px": {"p50": float(np.median(distance)), "p95": float(np.quantile(distance, 0.95)), "max": distance.max()},
        "score": float(np.abs(scores - reference.score)[shown].max()),
        "oks": float(oks.mean()),
    }
