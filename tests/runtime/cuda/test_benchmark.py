"""The GPU benchmark on the driver whose GPU is the CPU: what is timed runs, and rows have their names."""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from posert.benchmarks import gpu
from posert.benchmarks.roofline import Ceilings, Work, place
from posert.export.graph.reference import Reference, random_crops
from posert.runtime.backends import onnxruntime_cuda
from posert.runtime.bench.stages import latency
from posert.runtime.bundle.contract import Contract
from posert.runtime.cuda.driver import Device, Memory, Stream
from posert.runtime.cuda.session import GpuSession
from posert.runtime.estimator import PoseEstimator
from posert.runtime.selection import Selection


class Still:
    """Heatmaps that stay at zero."""

    largest, capturable = 8, True

    def outputs(self, crop: tuple[int, ...]) -> tuple[tuple[tuple[int, ...], ...], np.dtype[Any]]:
        return ((4, 16, 12),), np.dtype(np.float32)

    def bind(self, batch: int, crops: int, outputs: Sequence[int], stream: Stream) -> Callable[[], None]:
        return lambda: stream.clear(outputs[0], batch * 4 * 16 * 12 * 4)


def on_host(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return frame  # this GPU has no memory of its own


CONTRACT = Contract(
    dataset="test",
    keypoints=("nose", "left", "right", "top"),
    flip_pairs=((1, 2),),
    skeleton=(),
    sigmas=(0.1,) * 4,
    width=48,
    height=64,
    heatmap_width=12,
    heatmap_height=16,
)


def test_stages_of_the_road_on_a_gpu(fake_gpu: ctypes.CDLL, tmp_path: Path):
    frame = np.random.default_rng(0).integers(0, 256, (120, 160, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "frame.png"), frame)
    session = GpuSession(Still(), Device())
    pose = PoseEstimator.from_session(CONTRACT, session, Selection("fake", "fp16", ""))
    boxes = np.array([[10.0, 10, 60, 100], [40, 20, 90, 110]])
    parts = latency(pose, tmp_path / "frame.png", boxes, [1, 2])
    stages = ["upload", "crop", "inference only", "decode", "download", "end to end"]
    assert [(p.name, p.people) for p in parts] == [("decode image", 0), *((s, n) for n in (1, 2) for s in stages)]
    before = pose(frame, boxes)
    for part in reversed(parts):
        part.call()
    np.testing.assert_array_equal(pose(frame, boxes).xy, before.xy)


def test_around_the_network_there_are_peaks_to_refine(fake_gpu: ctypes.CDLL):
    with Device().active():
        heatmaps, stream = Memory(2 * 4 * 16 * 12 * 4), Stream()
        gpu.NoNetwork(((4, 16, 12),)).bind(2, 0, [heatmaps.address], stream)
        values = np.ctypeslib.as_array((ctypes.c_float * (2 * 4 * 16 * 12)).from_address(heatmaps.address))
        assert values.min() >= 0 and values.reshape(8, -1).max(axis=1).min() > 0.5


@pytest.mark.parametrize("tf32", [False, True])
def test_tf32_is_of_those_contenders_that_are_named_so(
    fake_gpu: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch, tf32: bool
):
    seen: list[bool] = []
    monkeypatch.setattr(gpu, "pytorch_pipeline", lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # and put back behind the test
    comparison = gpu.Comparison(CONTRACT, Device(), 1, on_host)
    comparison.add_pytorch("usual", torch.nn.Identity(), tf32=tf32)
    comparison.wall["usual"]()
    assert seen == [tf32] and torch.backends.cudnn.allow_tf32 is False


def test_half_precision_gives_what_single_precision_gives(narrow_reference: Reference):
    crops = torch.from_numpy(random_crops(narrow_reference.contract, 1))
    half = gpu.Half(copy.deepcopy(narrow_reference))
    with torch.inference_mode():
        seen, expected = half(crops), narrow_reference(crops)
    assert seen.dtype == torch.float32 and next(half.reference.network.parameters()).dtype == torch.float16
    # 11 bits of mantissa, through some dozen layers
    np.testing.assert_allclose(seen.numpy(), expected.numpy(), atol=1e-2 * float(expected.abs().max()))


def test_a_whole_measurement(
    fake_gpu: ctypes.CDLL,
    narrow_bundle: Path,
    narrow_reference: Reference,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """With ONNX Runtime's CPU provider as the backend, and PyTorch on the CPU as the usual way."""
    compiled: list[dict[str, Any]] = []

    def compile(module: Any, **options: Any) -> Any:
        compiled.append(options)
        return module

    monkeypatch.setattr(onnxruntime_cuda, "_PROVIDER", "CPUExecutionProvider")
    monkeypatch.setattr(onnxruntime_cuda, "_DEVICE", "cpu")
    monkeypatch.setattr(gpu, "build_arch", lambda *_: copy.deepcopy(narrow_reference.network))
    monkeypatch.setattr(gpu, "ceilings", lambda: Ceilings(1e9, {"fp32": 1e12}))
    monkeypatch.setattr(gpu, "WARM_UP", 0)
    monkeypatch.setattr(gpu, "VIDEO", 1)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # and put back behind the test
    for kind in (torch.nn.Module, torch.Tensor):
        monkeypatch.setattr(kind, "cuda", lambda self: self)
    monkeypatch.setattr(torch, "compile", compile)
    args = SimpleNamespace(
        bundle=narrow_bundle,
        people=[1, 2],
        rounds=1,
        backends="tensorrt,onnxruntime_cuda",
        precision="fp32,fp16",
        no_compile=False,
        output=tmp_path / "gpu.jsonl",
    )
    facts, measured = gpu.measure(args)  # type: ignore[arg-type]
    assert compiled == [{"mode": "max-autotune", "dynamic": False}] * 2  # for each number of people
    assert facts["left out"].keys() == {"tensorrt fp32", "tensorrt fp16", "onnxruntime_cuda fp16"}
    assert list(gpu.measure(args)[1]) == [1, 2] and len(compiled) == 2  # type: ignore[arg-type] # nothing is left to do
    for people in (1, 2):
        rows = measured[people]["rows"]
        assert {n for n in rows if "torch" in n.lower()} == {
            "PyTorch eager fp32",
            "PyTorch eager tf32",
            "torch.compile(max-autotune) fp32",
        }
        assert rows["onnxruntime_cuda fp32, inference only"]["roofline"]["limit"]
    assert "| PyTorch eager fp32 |" in "\n".join(gpu.table(facts, measured))


def test_a_comparison(fake_gpu: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gpu, "FRAME", (700, 500, 3))
    monkeypatch.setattr(gpu, "WARM_UP", 1)
    monkeypatch.setattr(gpu, "VIDEO", 2)
    comparison = gpu.Comparison(CONTRACT, Device(), 3, on_host)
    comparison.add_network("around the network", gpu.NoNetwork(((4, 16, 12),)))
    comparison.add_network("still fp16", Still())
    rows = comparison.timed(2)
    assert set(rows) == {
        "around the network",
        *("still fp16" + more for more in ("", ", frame from the host", ", inference only")),
        "still fp16, inference only without a graph",
        *(f"still fp16, video from the host, {slots} streams" for slots in gpu.SLOTS),
    }
    assert rows["still fp16, inference only"]["gpu_ms"] == 1.0  # as the fake GPU's clock goes
    assert all(row.get("wall_ms", 1) > 0 for row in rows.values())
    bare = rows["still fp16, inference only"]
    bare["roofline"] = vars(place(Work(10, 10, 10), 3, "fp16", bare["gpu_ms"], Ceilings(1e9, {"fp16": 1e12})))
    text = "\n".join(
        gpu.table(
            {
                **{"bundle": "net", "rounds": 2, "gpu": "fake", "driver": "12.0", "torch": "2", "date": "2026-01-01"},
                "machine": {"energy": "none", "governor": "none"},
                "ceilings": {"bandwidth": 1e9, "flops": {"fp16": 1e12}},
                "left out": {"tensorrt fp16": "not installed"},
            },
            {3: {"rows": rows, "moments": [{"gpu_mhz": 900, "gpu_slowed_by": "power cap"}]}},
        )
    )
    assert "| still fp16 | 3 |" in text and "left out: tensorrt fp16" in text and "throttled: power cap" in text
