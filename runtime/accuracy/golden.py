"""Does this engine, on this machine, still give what the PyTorch model gave? Golden crops answer in milliseconds."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from ..backends import Session
from ..bundle.archive import Artifact, Golden
from ..bundle.contract import Contract
from ..errors import BackendError
from ..pose.decode import decode
from ..pose.heads import Outputs, check_outputs

# Another machine's kernels add in another order. Twice the error that was measured when the bundle was built, and at
# least a tenth of what the precision may have at all, leaves room for that and for nothing else.
_SLACK = 2.0
_FLOOR = {"fp32": 1e-4, "fp16": 2e-3, "bf16": 3e-2, "int8": 2e-2}


@dataclass(frozen=True)
class Check:
    """One artifact on one backend against the golden outputs.

    Attributes:
        error: relative L2 error of the outputs, see `relative_error`; `bound` is what it may be.
        drift: largest distance of a joint from the reference's, px of the crop, among the joints that the reference is
            sure of (at least half of its highest peak): a hidden joint's faint map has no one place. 0 where it is sure
            of none, because no map of it is above zero.
        ms: time of one run over the golden crops, the first run left out.
        passed: the verdict.
    """

    error: float | None
    bound: float
    drift: float | None
    ms: float
    passed: bool


def check_session(
    session: Session, artifact: Artifact, golden: Golden, contract: Contract, precision: str | None = None
) -> Check:
    """Run the golden crops through an open session and compare.

    `precision` is what the session computes in where that is not the graph's own.

    Raises:
        BackendError: the graph gives outputs of other shapes than the golden ones.
        InputError: the golden outputs are not what the contract's decode rule reads.
    """
    check_outputs(golden.outputs, contract)
    session.infer(golden.crops)
    start = time.perf_counter()
    seen = session.infer(golden.crops)
    ms = 1e3 * (time.perf_counter() - start)
    shapes, expected = ([output.shape for output in outputs] for outputs in (seen, golden.outputs))
    if shapes != expected:
        raise BackendError(
            f"the {artifact.name} graph gives {', '.join(map(str, shapes))}, the golden outputs are "
            f"{', '.join(map(str, expected))}: the graph belongs to another model; rebuild the bundle: posert build"
        )
    bound = max(_SLACK * (artifact.golden_error or 0.0), _FLOOR["bf16" if precision == "bf16" else artifact.precision])
    if not all(np.isfinite(output).all() for output in seen):
        return Check(None, bound, None, ms, False)
    error = relative_error(seen, golden.outputs)
    theirs, score = decode(golden.outputs, contract)
    ours = decode(seen, contract)[0]
    moved = np.linalg.norm(ours - theirs, axis=2)[score >= 0.5 * score.max(axis=1, keepdims=True)]
    drift = float(moved.max(initial=0.0)) * contract.width / contract.heatmap_width
    return Check(error, bound, drift, ms, bool(error <= bound))


def relative_error(seen: Outputs, expected: Outputs) -> float:
    """Relative L2 error of a network's outputs: of several the largest. NaN where one is not finite."""
    errors = [np.linalg.norm(a - b) / max(float(np.linalg.norm(b)), 1e-12) for a, b in zip(seen, expected, strict=True)]
    return float(np.max(errors))
