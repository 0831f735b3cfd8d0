"""Compare joints in px of the crop: polygraphy run GRAPH ... --compare-func-script compare.py

Heatmaps are compared by their relative error, which golden.npz bounds; the cells of their peaks are told in px.
"""

from collections import OrderedDict
from pathlib import Path

import numpy as np

golden = np.load(Path(__file__).parent / "golden.npz")


def compare_outputs(first, second):
    """Either run may be the PyTorch model; joints that it is not sure of do not count."""
    if "keypoints" in first:
        moved = np.linalg.norm(first["keypoints"][..., :2] - second["keypoints"][..., :2], axis=2)[golden["sure"]].max()
        print(f"joints moved by up to {moved:.3f} px of the crop; {golden['tolerance']:.3f} are allowed")
        return OrderedDict(keypoints=bool(moved <= golden["tolerance"]))
    passed = OrderedDict()
    for name in first:
        a, b = (np.asarray(run[name]) for run in (first, second))
        error = np.linalg.norm(a - b) / min(np.linalg.norm(a), np.linalg.norm(b))
        passed[name] = bool(error <= golden["error"])
        print(f"{name}: relative error {error:.5f}; {golden['error']:.5f} are allowed")
        if a.ndim == 4:
            peaks = [
                np.stack(np.divmod(m.reshape(*m.shape[:2], -1).argmax(2), m.shape[3])[::-1], axis=2) for m in (a, b)
            ]
            moved = np.linalg.norm((peaks[0] - peaks[1]) * golden["px_per_cell"], axis=2)[golden["sure"]].max()
            print(f"{name}: peaks moved by up to {moved:.1f} px of the crop")
    return passed
