"""Frame to keypoints on a GPU: the pipeline against its own network, PyTorch eager and torch.compile.

    python -m posert.benchmarks.gpu hrnet_w32.pose --people 8

Contenders take turns within a round, so that a slow moment falls on all of them; figures are medians over the rounds.
`gpu` is time on the GPU between two events, `wall` is what the caller waits. Nothing is printed that was not measured:
a contender that cannot run here is left out, with the reason.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..export.archs import build_arch
from ..export.reference import Reference
from ..runtime.bundle import Bundle
from ..runtime.choice import open_session
from ..runtime.contract import Contract
from ..runtime.cuda.driver import Device, Memory, Stream
from ..runtime.cuda.library import missing as no_driver
from ..runtime.cuda.network import Network, bucket_of, record, timed_ms
from ..runtime.cuda.pipeline import Pipeline
from ..runtime.decode import decode, to_frame
from ..runtime.errors import BackendError, PosertError
from ..runtime.preprocess import boxes_to_center_scale, crop, crop_matrices

ON_CUDA = ("tensorrt", "tensorrt_rtx", "onnxruntime_cuda", "torchscript_cuda")
WARM_UP = 10
FRAME = (1080, 1920, 3)


class NoNetwork:
    """In place of a network: what is left is the work around it."""

    largest, capturable = 32, True

    def __init__(self, heatmap: tuple[int, ...]) -> None:
        self._heatmap = heatmap

    def output(self, crop: tuple[int, ...]) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """See `Network.output`."""
        return self._heatmap, np.dtype(np.float32)

    def bind(self, batch: int, crops: int, heatmaps: int, stream: Stream) -> Callable[[], None]:
        """Leaves the heatmaps at zero."""
        stream.clear(heatmaps, batch * int(np.prod(self._heatmap)) * 4)
        return lambda: None


def main() -> int:
    """Entry point; prints a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--people", type=int, default=8, help="people in the frame (8)")
    parser.add_argument("--rounds", type=int, default=200, help="rounds that are timed (200)")
    parser.add_argument("--backends", default=",".join(ON_CUDA), help="comma list (all)")
    parser.add_argument("--precision", default="fp32,fp16,int8", help="comma list (all that a backend has)")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile, which takes minutes")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    try:
        result = measure(args)
    except PosertError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    print(json.dumps(result, indent=1) if args.json else "\n".join(_table(result)))
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All contenders over the same frame.

    Raises:
        BackendError: there is no GPU.
    """
    reason = no_driver()
    if reason:
        raise BackendError(reason)
    device = Device()
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, FRAME).astype(np.uint8)
    corner = rng.uniform((0, 0), (FRAME[1] - 400, FRAME[0] - 600), (args.people, 2))
    boxes = np.concatenate([corner, corner + rng.uniform((150, 300), (400, 600), (args.people, 2))], axis=1)
    wall: dict[str, Callable[[], object]] = {}
    gpu: dict[str, Callable[[], list[float]]] = {}
    left_out: dict[str, str] = {}
    with Bundle(args.bundle) as bundle:
        c = bundle.contract
        regions = boxes_to_center_scale(boxes, c.width, c.height, c.padding)
        around = Pipeline(NoNetwork((_channels(c), c.heatmap_height, c.heatmap_width)), c, device)
        on_device = torch.from_numpy(frame).cuda()
        wall["around the network"] = lambda: around(on_device, *regions)
        gpu["around the network"] = lambda: around.replay_ms(1)
        for backend in args.backends.split(","):
            for precision in args.precision.split(","):
                name = f"{backend} {precision}"
                try:
                    session = open_session(bundle, backend, precision)
                except PosertError as error:
                    left_out[name] = str(error)
                    continue
                _add(name, session.network, c, device, frame, on_device, regions, wall, gpu)  # type: ignore[attr-defined]
        network = build_arch(bundle.manifest["model"]["arch"], len(c.keypoints))
        reference = Reference(network, c).cuda()
        wall["PyTorch eager"] = lambda: _on_cpu(reference, c, frame, regions)
        if not args.no_compile:
            compiled = torch.compile(reference, mode="max-autotune")
            wall["torch.compile(max-autotune)"] = lambda: _on_cpu(compiled, c, frame, regions)
        name = bundle.name
    return {
        "bundle": name,
        "people": args.people,
        "rounds": args.rounds,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "gpu": device.name,
        "driver": ".".join(map(str, device.driver)),
        "torch": torch.__version__,
        "rows": _timed(wall, gpu, args.rounds),
        "left out": left_out,
    }


def _add(
    name: str,
    network: Network,
    c: Contract,
    device: Device,
    frame: NDArray[np.uint8],
    on_device: torch.Tensor,
    regions: tuple[NDArray[np.float32], NDArray[np.float32]],
    wall: dict[str, Callable[[], object]],
    gpu: dict[str, Callable[[], list[float]]],
) -> None:
    """The bare network, and frame to keypoints with the frame on the GPU and from the host."""
    pipeline = Pipeline(network, c, device)
    batch = bucket_of(len(regions[0]), network.largest)
    with device.active():
        stream = Stream()
        heatmap, dtype = network.output((c.height, c.width, 3))
        buffers = Memory(batch * c.width * c.height * 3), Memory(batch * int(np.prod(heatmap)) * dtype.itemsize)
        run = network.bind(batch, buffers[0].address, buffers[1].address, stream)
        bare = record(run, stream, network.capturable)

    def bare_ms(_buffers: object = buffers) -> list[float]:  # which live as long as what reads them
        with device.active():
            return timed_ms(bare, stream, 1)

    gpu[f"{name}, bare network"] = bare_ms
    gpu[name] = lambda: pipeline.replay_ms(1)
    wall[name] = lambda: pipeline(on_device, *regions)
    wall[f"{name}, frame from the host"] = lambda: pipeline(frame, *regions)


def _on_cpu(
    network: Callable[[torch.Tensor], torch.Tensor],
    c: Contract,
    frame: NDArray[np.uint8],
    regions: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Crops by OpenCV, the network by PyTorch on the GPU, decoding by numpy: how it is usually done."""
    crops = crop(frame, crop_matrices(*regions, c.width, c.height, c.udp), c.width, c.height)
    with torch.inference_mode():
        maps = network(torch.from_numpy(crops).cuda()).cpu().numpy()
    return to_frame(decode(maps, c.decode, c.kernel)[0], *regions, c.heatmap_width, c.heatmap_height, c.udp)


def _timed(
    wall: dict[str, Callable[[], object]], gpu: dict[str, Callable[[], list[float]]], rounds: int
) -> dict[str, dict[str, float]]:
    seen: dict[tuple[str, str], list[float]] = {}
    for i in range(WARM_UP + rounds):
        for name, call in wall.items():
            start = time.perf_counter()
            call()
            seen.setdefault((name, "wall_ms"), []).append(1e3 * (time.perf_counter() - start))
        for name, ask in gpu.items():
            seen.setdefault((name, "gpu_ms"), []).extend(ask())
        if i + 1 == WARM_UP:
            seen.clear()
    rows: dict[str, dict[str, float]] = {}
    for (name, kind), times in seen.items():
        ordered = sorted(times)
        rows.setdefault(name, {})[kind] = round(statistics.median(times), 4)
        rows[name][f"{kind}_p95"] = round(ordered[int(0.95 * (len(ordered) - 1))], 4)
    return rows


def _channels(c: Contract) -> int:
    return len(c.keypoints) * (3 if c.decode == "udp_combined" else 1)


def _table(result: dict[str, Any]) -> list[str]:
    lines = [
        f"{result['bundle']}, {result['people']} people per frame, {result['rounds']} rounds, {result['gpu']}, "
        f"driver {result['driver']}, torch {result['torch']}, {result['date']}",
        "",
        "| | gpu ms | p95 | wall ms | p95 |",
        "|---|---|---|---|---|",
    ]
    for name, row in sorted(result["rows"].items()):
        cells = (row.get(k) for k in ("gpu_ms", "gpu_ms_p95", "wall_ms", "wall_ms_p95"))
        lines.append(f"| {name} | " + " | ".join("" if v is None else f"{v:.3f}" for v in cells) + " |")
    return [*lines, "", *(f"left out: {name}: {reason}" for name, reason in result["left out"].items())]


if __name__ == "__main__":
    sys.exit(main())
