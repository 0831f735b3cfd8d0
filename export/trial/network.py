"""A network on people, as a contract takes them: crops, outputs and joints, by the code that the runtime runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...runtime.accuracy.people import People
from ...runtime.bundle.contract import Contract
from ...runtime.pose.decode import decode, to_frame
from ...runtime.pose.heads import Outputs, check_outputs, head
from ...runtime.pose.preprocess import crop, crop_matrices
from ..graph.onnx_reference import OnnxReference
from ..graph.reference import Reference

Image = NDArray[np.uint8]
Float = NDArray[np.float32]
Advance = Callable[[int, int], None]
"""Told of the people that are done, and of all."""

_BATCH = 8


class Subjects:
    """N people and a network, which any contract can put in front of it.

    Attributes:
        reference: the network, with the contract that is tried.
        contract: that one.
        people: who.
        load: one frame `(H, W, 3)` uint8 BGR by its index in `people.files`.
    """

    def __init__(
        self, reference: Reference | OnnxReference, people: People, load: Callable[[int], NDArray[np.uint8]]
    ) -> None:
        self.reference, self.contract = reference, reference.contract
        self.people, self.load = people, load

    def crops(self, contract: Contract) -> Image:
        """The crops `(N, H, W, 3)` uint8 BGR. Raises InputError: a frame cannot be read, or a box has no area."""
        c = contract
        center, extent = self.people.regions(c)
        found = np.empty((len(self.people), c.height, c.width, 3), np.uint8)
        for image, members in self.people.by_image():
            matrices = crop_matrices(center[members], extent[members], c.width, c.height, c.udp)
            found[members] = crop(self.load(image), matrices, c.width, c.height)
        return found

    def outputs(
        self, contract: Contract, crops: Image, mirrored: bool = False, advance: Advance = lambda done, total: None
    ) -> Outputs:
        """The network's outputs for crops of `crops`, or for their mirror images; one array `(N, ...)` each.

        Raises InputError: they have other shapes than the contract's decode rule reads.
        """
        reference = self._with_pixels(contract)
        # The order of the colours is turned in the crop: the same to the network, and the graph stays as it is.
        channels = -1 if contract.model_color != reference.contract.model_color else 1
        columns = -1 if mirrored else 1
        parts = []
        for first in range(0, len(crops), _BATCH):
            batch = np.ascontiguousarray(crops[first : first + _BATCH, :, ::columns, ::channels])
            parts.append(reference.infer(batch))
            advance(min(first + _BATCH, len(crops)), len(crops))
        found = tuple(np.concatenate(part) for part in zip(*parts, strict=True))
        check_outputs(found, contract)
        return found

    def joints(self, contract: Contract, outputs: Outputs) -> tuple[Float, Float]:
        """xy `(N, K, 2)` px of the frame and score `(N, K)`. Raises InputError: the outputs are not finite."""
        c = contract
        cells, score = decode(outputs, c)
        return to_frame(cells, *self.people.regions(c), c.heatmap_width, c.heatmap_height, c.map_udp), score

    def _with_pixels(self, contract: Contract) -> Reference | OnnxReference:
        """The same network behind the mean and std of a contract."""
        own = self.reference
        if (contract.mean, contract.std) == (own.contract.mean, own.contract.std):
            return own
        return own.with_contract(replace(own.contract, mean=contract.mean, std=contract.std))


def turned_back(mirrored: Outputs, contract: Contract) -> Outputs:
    """Outputs for mirror images as a flip test turns them back, before it averages them."""
    nothing = tuple([np.zeros_like(output) for output in mirrored])
    both = tuple([np.concatenate(pair) for pair in zip(nothing, mirrored, strict=True)])
    return tuple([2 * half for half in head(contract.decode).merge(both, contract)])
