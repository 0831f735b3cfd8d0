"""The golden crops of a bundle: does this engine, on this machine, still give the PyTorch model's heatmaps?"""

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

# Kernels of another machine add in another order, which changes the error a little: twice the error that was measured
# when the bundle was built is allowed. The floor is for graphs whose measured error is near zero. It is a tenth of the
# gate's HEATMAP_BOUND for fp32 and fp16, a third for bf16 and a fifteenth for int8.
_SLACK = 2.0
_FLOOR = {"fp32": 1e-4, "fp16": 2e-3, "bf16": 3e-2, "int8": 2e-2}


@dataclass(frozen=True)
class Check:
    """An artifact on a backend, compared with the golden outputs.

    Attributes:
        error: relative L2 error of the outputs, see `relative_error`; None if they are not finite.
        bound: the allowed error.
        drift: largest distance of a joint from the reference's, px of the crop, among the joints that the reference is
            sure of (a peak of at least half of the person's highest: the faint map of a hidden joint has no single
            maximum). 0 if it is sure of none, because no map is above zero.
        ms: time of one run over the golden crops, after a warm-up run.
        passed: whether `error` is within `bound`.
    """

    error: float | None
    bound: float
    drift: float | None
    ms: float
    passed: bool


def check_session(
    session: Session, artifact: Artifact, golden: Golden, contract: Contract, precision: str | None = None
) -> Check:
    """Run the golden crops through an open session of an artifact and compare the outputs.

    `precision` is what the session computes in, if that is not the graph's own.

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
