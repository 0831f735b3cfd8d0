"""A session whose network runs on the GPU: what the GPU backends open."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..pose.heads import Outputs
from .driver import Device
from .network import ArrayRunner, Network


class GpuSession:
    """A network on a GPU, see `posert.runtime.backends.Session`.

    `PoseEstimator` calls `infer` only where the decode rule has no CUDA kernel. Else it hands `network` and `device` to
    the CUDA pipeline, which keeps crops and heatmaps on the GPU.
    """

    def __init__(self, network: Network, device: Device) -> None:
        self.network, self.device = network, device
        self._runner: ArrayRunner | None = None

    def infer(self, crops: NDArray[np.uint8]) -> Outputs:
        """See `posert.runtime.backends.Session.infer`.

        Raises:
            BackendError: the network has more than one output.
        """
        if self._runner is None:
            self._runner = ArrayRunner(self.device, self.network, crops.shape[1:])
        return (self._runner(crops),)
