"""Frame to keypoints as PyTorch users do it on a GPU: OpenCV's crops, PyTorch's network, numpy's decoding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..export.graph.reference import Reference
from ..runtime.bundle.contract import Contract
from ..runtime.pose.decode import decode, to_frame
from ..runtime.pose.preprocess import crop, crop_matrices


class Half(nn.Module):
    """A reference whose network computes in half precision, in the layout of PyTorch's fastest kernels."""

    def __init__(self, reference: Reference) -> None:
        super().__init__()
        self.reference = reference
        reference.network.half().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, crops: Tensor) -> Tensor:
        """As `Reference.forward`."""
        heatmaps: Tensor = self.reference.network(self.reference.normalise(crops).half()).float()
        return heatmaps


def pytorch_pipeline(
    network: Callable[[Tensor], Tensor],
    c: Contract,
    frame: NDArray[np.uint8],
    regions: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Keypoints `(N, K, 2)`, px of the frame: crops by OpenCV, the network by PyTorch on the GPU, decoding by numpy."""
    crops = crop(frame, crop_matrices(*regions, c.width, c.height, c.udp), c.width, c.height)
    with torch.inference_mode():
        maps = network(torch.from_numpy(crops).cuda()).cpu().numpy()
    return to_frame(decode((maps,), c)[0], *regions, c.heatmap_width, c.heatmap_height, c.map_udp)
