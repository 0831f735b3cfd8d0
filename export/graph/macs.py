"""Parameters and multiply-adds of a network, counted by torch; those of an exported graph: `posert.calib.macs`."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..archs import architecture, on_meta
from ..catalog import Row


def of_network(network: nn.Module, height: int, width: int) -> int:
    """Multiply-adds at batch 1 for an image of this size, px.

    A network that lies on torch's meta device is counted without computing anything.
    """
    device = next(network.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.empty(1, 3, height, width, device=device))
    return counter.get_total_flops() // 2


def counted(row: Row) -> Row:
    """The row with the figures that it does not state; as it is where its network does not run on the meta device."""
    if row.params is not None and row.macs_test_path is not None:
        return row
    try:
        network = on_meta(row.arch, row.keypoints)
        macs = of_network(network, row.height, row.width)
    except Exception:  # whatever a network of somebody else raises: figures that are only displayed stop no command
        return row
    return replace(row, params=sum(p.numel() for p in network.parameters()), macs=macs, macs_test_path=macs)


def failure(row: Row) -> str | None:
    """Why a network cannot be run at its row's size; None if it can."""
    network: nn.Module | None = None
    try:
        network = on_meta(row.arch, row.keypoints)
        of_network(network, row.height, row.width)
    except Exception as error:  # of a network of somebody else
        first = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None) if network else None
        if first is not None and first.in_channels != 3:
            return f"its first convolution takes {first.in_channels} channels, and posert runs networks of three"
        return f"{type(error).__name__}: {(str(error) or 'without a message').splitlines()[0]:.200}"
    return None


def of_stages(row: Row) -> list[int]:
    """Multiply-adds of a network that is stopped after stage 1, 2, ... and the last; empty for one without stages."""
    count = architecture(row.arch).stages or 0
    return [of_network(on_meta(row.arch, row.keypoints, k), row.height, row.width) for k in range(1, count + 1)]
