"""PyTorch eager with the pipeline by hand."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ...export.archs import build_arch
from .handwritten import DOES, pipeline
from .worker import Given, Opened


def open(given: Given) -> Opened:
    """The network as it was trained, from the same weights."""
    network = build_arch(given["arch"], given["keypoints"])
    network.load_state_dict(torch.load(given["weights"]))
    network.eval()

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            heatmaps: NDArray[np.float32] = network(torch.from_numpy(images)).numpy()
        return heatmaps

    does = {"tool": f"PyTorch {torch.__version__}", "precision": "fp32", "threads": torch.get_num_threads(), **DOES}
    return Opened(pipeline(given, run), does)
