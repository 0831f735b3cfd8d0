"""The PyTorch model as the source of truth: what every graph, precision and backend is compared with."""

from __future__ import annotations

import re

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...runtime.bundle.contract import Contract
from ...runtime.errors import PosertError
from ...runtime.pose.heads import Outputs, head
from .misfit import SOFTMAXED, outputs_line, softmaxed


class ExportError(PosertError):
    """A graph that does not compute what the reference computes: nothing is written."""


class Reference(nn.Module):
    """A network with the checkpoint's own normalisation in front.

    `forward` takes crops `(N, H, W, 3)` uint8 BGR, as the runtime cuts them, and returns what the network returns:
    heatmaps `(N, K, h, w)` float32, or a tuple of several outputs. It normalises as the checkpoint's training code
    does, `(p / 255 - mean) / std`.
    """

    mean: Tensor
    std: Tensor
    backend = "pytorch"  # how the gate's first row calls it

    def __init__(self, network: nn.Module, contract: Contract) -> None:
        super().__init__()
        self.network = network
        self.contract = contract
        self.swap = contract.model_color != contract.color
        self.register_buffer("mean", torch.tensor(contract.mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(contract.std).reshape(1, 3, 1, 1), persistent=False)
        self.eval()

    @property
    def size(self) -> int:
        """Of the weights, bytes."""
        return sum(p.numel() * p.element_size() for p in self.parameters())

    def normalise(self, crops: Tensor) -> Tensor:
        """Crops to the network's input `(N, 3, H, W)` float32."""
        images = crops.permute(0, 3, 1, 2).to(torch.float32)
        if self.swap:
            images = images.flip(1)
        return (images / 255.0 - self.mean) / self.std

    def forward(self, crops: Tensor) -> Tensor | tuple[Tensor, ...]:
        outputs: Tensor | tuple[Tensor, ...] = self.network(self.normalise(crops))
        return outputs

    def infer(self, crops: NDArray[np.uint8]) -> Outputs:
        """The same from arrays to arrays, as a backend's session (`backends.Session`)."""
        with torch.inference_mode():
            return arrays_of(self(torch.from_numpy(crops)))

    def with_contract(self, contract: Contract) -> Reference:
        """The same network behind another normalisation."""
        return Reference(self.network, contract)

    def check_output(self) -> None:
        """Run one crop and compare the outputs' shapes with those that the contract's decode rule reads.

        Raises ExportError: the network gives other shapes, or NaN.
        """
        c = self.contract
        try:
            seen = self.infer(np.zeros((1, c.height, c.width, 3), np.uint8))
        except RuntimeError as error:  # of torch, where sizes do not fit
            reason = str(error).splitlines()[0]
            channels = re.search(r"to have (\d+) channels, but got 3 channels", reason)
            if channels and channels[1] != "3":
                raise ExportError(
                    f"the network takes images of {channels[1]} channels ({reason}), and posert runs networks of "
                    "three, BGR or RGB. One of grey images needs a first layer that makes one channel of three, such "
                    "as images.mean(dim=1, keepdim=True)"
                ) from error
            raise ExportError(
                f"the network does not take images (1, 3, {c.height}, {c.width}): {reason}. Give the size that it was "
                "trained with; HRNet, hourglass and ResNet take heights and widths that are multiples of 32"
            ) from error
        check_shapes(seen, c)


def check_shapes(seen: Outputs, contract: Contract) -> None:
    """Raise ExportError unless the outputs for one crop are finite and have the shapes that the contract reads."""
    expected = [(1, *shape) for shape in head(contract.decode).shapes(contract)]
    shapes = [output.shape for output in seen]
    if shapes != expected:
        found = {f"output {i + 1}": shape[1:] for i, shape in enumerate(shapes)}
        raise ExportError(
            f"the network gives {', '.join(map(str, shapes))}; the decode rule {contract.decode!r} reads "
            f"{', '.join(map(str, expected))}: {outputs_line(contract, found)}"
        )
    if not all(bool(np.isfinite(output).all()) for output in seen):
        raise ExportError("the network gives NaN or infinity for a black crop: the weights or the network are damaged")
    if softmaxed(seen):
        raise ExportError(SOFTMAXED)


def arrays_of(outputs: Tensor | tuple[Tensor, ...]) -> Outputs:
    """What a network returned as arrays, one per output."""
    return (outputs.numpy(),) if isinstance(outputs, Tensor) else tuple(output.numpy() for output in outputs)


def random_crops(contract: Contract, count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Noise `(count, H, W, 3)` uint8 on which graphs are compared with the reference: every layer is exercised."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, contract.height, contract.width, 3), np.uint8)


def compare(name: str, seen: Outputs, expected: Outputs) -> float:
    """Largest absolute difference of a float32 graph's outputs from the reference's.

    Raises ExportError: one is larger than float32 arithmetic in another order explains, or the shapes differ.
    """
    shapes, wanted = (", ".join(str(output.shape) for output in outputs) for outputs in (seen, expected))
    if shapes != wanted:  # numpy would broadcast
        raise ExportError(f"{name} gives {shapes}, the PyTorch model {wanted}")
    errors = [float(np.abs(one - other).max()) for one, other in zip(seen, expected, strict=True)]
    for error, output in zip(errors, expected, strict=True):
        # Folding batch-norm and another order of sums were measured at up to 1e-5 of the output's range on networks of
        # 100 to 500 layers; a wrong layer moves the output by more than 1e-2 of it.
        bound = 1e-4 * float(np.abs(output).max()) + 1e-6
        if not error <= bound:
            raise ExportError(f"{name} differs from the PyTorch model by {error:.3g}, expected at most {bound:.3g}")
    return max(errors)
