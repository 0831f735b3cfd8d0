"""The roofline's arithmetic, and the counts of a real graph."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from posert.benchmarks.roofline import Ceilings, Work, place, work_of
from posert.calib.macs import of_graph
from posert.export.graph.reference import Reference
from posert.runtime.bundle.archive import Bundle


def test_counts_of_a_graph(narrow_bundle: Path, narrow_reference: Reference, narrow_onnx: object):
    with Bundle(narrow_bundle) as bundle:
        work = work_of(bundle)
    assert work.flops == 2 * of_graph(narrow_onnx)  # type: ignore[arg-type]
    convolutions = [
        m for m in narrow_reference.network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)
    ]
    assert work.weights == sum(m.weight.numel() for m in convolutions)
    seen = 0

    def count(module: object, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal seen
        seen += inputs[0].numel() + output.numel()

    hooks = [m.register_forward_hook(count) for m in convolutions]
    narrow_reference.network(torch.zeros(1, 3, 128, 96))
    for hook in hooks:
        hook.remove()
    assert work.activations == seen


def test_places():
    work = Work(flops=1000, activations=100, weights=50)
    assert work.traffic(2, "fp16") == 500
    roof = Ceilings(bandwidth=1e6, flops={"fp16": 10e6})
    fast = place(work, 2, "fp16", 1.0, roof)  # 2000 operations take 0.2 ms, 500 bytes 0.5 ms
    assert fast.limit == "memory" and fast.share == pytest.approx(0.5)
    assert fast.flops == pytest.approx(2e6) and fast.of_flops == pytest.approx(0.2)
    assert fast.bandwidth == pytest.approx(5e5) and fast.of_bandwidth == pytest.approx(0.5)
    heavy = place(Work(100000, 100, 50), 1, "fp16", 20.0, roof)
    assert heavy.limit == "arithmetic" and heavy.share == pytest.approx(0.5)
    assert place(work, 1, "int8_gpu", 1.0, roof).of_flops is None  # no ceiling was measured
