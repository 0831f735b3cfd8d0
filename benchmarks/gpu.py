"""Frame to keypoints on a GPU: the pipeline against its own network, PyTorch eager and torch.compile.

    python -m posert.benchmarks.gpu hrnet_w32.pose --output out/gpu.json
    python -m posert.benchmarks.gpu hrnet_w32.pose --people 8    # the rows of docs/gpu.md; compiling takes minutes

For each number of people, which is the network's batch, every backend and precision: the bare network as a CUDA graph
and without one, frame to keypoints with the frame on the GPU and from the host, a video through one and two streams.
Beside them PyTorch with OpenCV's crops and decoding on the CPU, eager and compiled, in the precisions that the networks
have: fp32 is without TF32 for all but TensorRT; tf32 is PyTorch's own default.
Contenders take turns within a round, so that a slow moment falls on all of them; figures are medians over the rounds.
`gpu` is time on the GPU between two events, `wall` is what the caller waits. Then the roofline: what the bare network
achieves of the arithmetic and the bandwidth that this GPU was seen to have. Nothing is printed that was not measured: a
contender that cannot run here is left out, with the reason. What was measured is written after each number of people.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posert.benchmarks.harness.roofline import ceilings, place, work_of
from posert.benchmarks.harness.script import script
from posert.benchmarks.harness.usual import Half, on_cpu
from posert.export.archs import build_arch
from posert.export.graph.reference import Reference
from posert.runtime.bench.meters import Meters
from posert.runtime.bench.paired import orders
from posert.runtime.bundle.archive import Bundle
from posert.runtime.bundle.contract import Contract
from posert.runtime.cuda.driver import Device, Memory, Pinned, Stream
from posert.runtime.cuda.library import missing as no_driver
from posert.runtime.cuda.network import Network, bucket_of, record, timed_ms
from posert.runtime.cuda.pipeline import Pipeline
from posert.runtime.errors import BackendError, InputError, PosertError
from posert.runtime.pose.heads import head
from posert.runtime.pose.preprocess import check_boxes, crop_regions
from posert.runtime.selection import open_session
from posert.runtime.system.files import atomic_write

ON_CUDA = ("tensorrt", "tensorrt_rtx", "onnxruntime_cuda", "torchscript_cuda")
SLOTS = (1, 2)
WARM_UP, VIDEO = 10, 16  # rounds, and frames
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
        """Leaves noise in the heatmaps; in zeros there is no peak, and what refines it would not run."""
        noise = Pinned((batch, *self._heatmap), np.float32)
        noise.array[:] = np.random.default_rng(0).random(noise.array.shape, np.float32)
        stream.upload(heatmaps, noise, noise.size)
        stream.synchronize()
        return lambda: None


@script(goes_on=False)
def main() -> int:
    """Entry point; prints a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--people", default="1,2,4,8,16,32", help="comma list, up to 32 (1,2,4,8,16,32)")
    parser.add_argument("--rounds", type=int, default=100, help="rounds that are timed (100)")
    parser.add_argument("--backends", default=",".join(ON_CUDA), help="comma list (all)")
    parser.add_argument("--precision", default="fp32,fp16,int8", help="comma list (all that a backend has)")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile, which takes minutes")
    parser.add_argument("--output", type=Path, help="JSON")
    args = parser.parse_args()
    result: dict[str, Any] = {}
    try:
        measure(args, result)
    except KeyboardInterrupt:
        print("interrupted: what follows is what there is", file=sys.stderr)
    print("\n".join(table(result)))
    return 0


def measure(args: argparse.Namespace, result: dict[str, Any]) -> None:
    """Fill a result: all contenders over the same frame, for each number of people.

    Raises:
        BackendError: there is no GPU.
        InputError: a number of people that no network takes at once.
    """
    reason = no_driver()
    if reason:
        raise BackendError(reason)
    people = [int(n) for n in args.people.split(",") if n.isdigit()]
    if not people or not 1 <= min(people) <= max(people) <= NoNetwork.largest:
        raise InputError(f"--people {args.people}: expected numbers from 1 to {NoNetwork.largest}, such as 1,8")
    device, meters = Device(), Meters()
    with Bundle(args.bundle) as bundle:
        c, name, work = bundle.contract, bundle.name, work_of(bundle)
        networks, left_out = _open(bundle, args.backends.split(","), args.precision.split(","))
        arch = bundle.manifest["model"]["arch"]
        single, half = (Reference(build_arch(arch, len(c.keypoints)), c).cuda() for _ in range(2))
    modules = {"fp32": single, "tf32": single, "fp16": Half(half)}
    shared = {key.split()[-1] for key in networks} & {"fp32", "fp16"}
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    roof = ceilings()
    result |= {
        "bundle": name,
        "rounds": args.rounds,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "gpu": device.name,
        "driver": ".".join(map(str, device.driver)),
        "torch": torch.__version__,
        "machine": meters.describe(),
        "ceilings": asdict(roof),
        "people": {},
        "left out": left_out,
    }
    for n in people:
        contest = Contest(c, device, n, lambda frame: torch.from_numpy(frame).cuda())
        contest.add_network("around the network", NoNetwork(head(c.decode).shapes(c)[0]))
        for key, network in networks.items():
            contest.add_network(key, network)
        for precision in sorted({*shared, "fp32", "tf32"}):
            contest.add_usual(f"PyTorch eager {precision}", modules[precision], tf32=precision == "tf32")
        torch.compiler.reset()  # a network for each batch size, never one for all of them, which would be slower
        for precision in () if args.no_compile else sorted(shared):
            compiled = torch.compile(modules[precision], mode="max-autotune", dynamic=False)
            contest.add_usual(f"torch.compile(max-autotune) {precision}", compiled)
        before = meters.moment()
        rows = contest.timed(args.rounds)
        for key in networks:
            precision = key.split()[-1]
            ms = rows[f"{key}, bare network"]["gpu_ms"]
            rows[f"{key}, bare network"]["roofline"] = asdict(place(work, n, precision, ms, roof))
        result["people"][str(n)] = {"rows": rows, "moments": [before, meters.moment()]}
        del contest
        gc.collect()  # its buffers and graphs, before the next ones are made
        if args.output is not None:
            with atomic_write(args.output) as file:
                file.write(json.dumps(result, indent=1).encode())


def _open(bundle: Bundle, backends: list[str], precisions: list[str]) -> tuple[dict[str, Network], dict[str, str]]:
    """The networks that can run here, and why the others cannot."""
    networks: dict[str, Network] = {}
    left_out: dict[str, str] = {}
    for backend in backends:
        for precision in precisions:
            try:
                session = open_session(bundle, backend, precision)
            except PosertError as error:
                left_out[f"{backend} {precision}"] = str(error)
                continue
            networks[f"{backend} {precision}"] = session.network  # type: ignore[attr-defined]
    return networks, left_out


class Contest:
    """The contenders over a frame with so many people; `wall` and `gpu` give what is timed, by name."""

    def __init__(
        self, contract: Contract, device: Device, people: int, upload: Callable[[NDArray[np.uint8]], Any]
    ) -> None:
        rng = np.random.default_rng(0)
        self.frame = rng.integers(0, 256, FRAME).astype(np.uint8)
        corner = rng.uniform((0, 0), (FRAME[1] - 400, FRAME[0] - 600), (people, 2))
        boxes = np.concatenate([corner, corner + rng.uniform((150, 300), (400, 600), (people, 2))], axis=1)
        self.regions = crop_regions(check_boxes(boxes), contract)
        self._contract, self._device, self._people = contract, device, people
        self._on_device = upload(self.frame)
        self.wall: dict[str, Callable[[], object]] = {}
        self.gpu: dict[str, Callable[[], list[float]]] = {}

    def add_network(self, name: str, network: Network) -> None:
        """The bare network, and frame to keypoints with the frame on the GPU, from the host, and of a video."""
        c, device = self._contract, self._device
        pipeline = Pipeline(network, c, device)
        self.gpu[name] = lambda: pipeline.replay_ms(1)
        self.wall[name] = lambda: pipeline(self._on_device, *self.regions)
        if isinstance(network, NoNetwork):
            return
        self.wall[f"{name}, frame from the host"] = lambda: pipeline(self.frame, *self.regions)
        for slots in SLOTS:
            video = pipeline if slots == 1 else Pipeline(network, c, device, slots=slots)
            self.wall[f"{name}, video from the host, {slots} streams"] = partial(self._video, video)
        batch = bucket_of(self._people, network.largest)
        with device.active():
            stream = Stream()
            heatmap, dtype = network.output((c.height, c.width, 3))
            buffers = Memory(batch * c.width * c.height * 3), Memory(batch * int(np.prod(heatmap)) * dtype.itemsize)
            run = network.bind(batch, buffers[0].address, buffers[1].address, stream)
            graph = record(run, stream, network.capturable)

        def bare_ms(work: Callable[[], None], _buffers: object = buffers) -> list[float]:  # which live as long
            with device.active():
                return timed_ms(work, stream, 1)

        self.gpu[f"{name}, bare network"] = partial(bare_ms, graph)
        if network.capturable:
            self.gpu[f"{name}, bare network without a graph"] = partial(bare_ms, run)

    def add_usual(self, name: str, network: Callable[[Tensor], Tensor], tf32: bool = False) -> None:
        """Frame to keypoints as it is usually done, see `usual.on_cpu`."""
        work = partial(on_cpu, network, self._contract, self.frame, self.regions)

        def run() -> None:
            torch.backends.cudnn.allow_tf32 = tf32
            try:
                work()
            finally:  # the others, which may be captured in between, are without
                torch.backends.cudnn.allow_tf32 = False

        self.wall[name] = run

    def _video(self, pipeline: Pipeline) -> None:
        for _ in pipeline.video((self.frame, *self.regions) for _ in range(VIDEO)):
            pass

    def timed(self, rounds: int) -> dict[str, dict[str, Any]]:
        """Median and 95th percentile in ms; of a video per frame."""
        seen: dict[tuple[str, str], list[float]] = {}
        contenders = [("wall_ms", n, c) for n, c in self.wall.items()] + [("gpu_ms", n, c) for n, c in self.gpu.items()]
        for i, order in enumerate(orders([str(i) for i in range(len(contenders))], WARM_UP + rounds)):
            for kind, name, call in (contenders[int(j)] for j in order):
                if kind == "gpu_ms" and name in self.wall:
                    self.wall[name]()  # whose run is then run again
                start = time.perf_counter()
                answer = call()
                ms = 1e3 * (time.perf_counter() - start) / (VIDEO if ", video" in name else 1)
                seen.setdefault((name, kind), []).extend(answer if isinstance(answer, list) else [ms])
            if i + 1 == WARM_UP:
                seen.clear()
        rows: dict[str, dict[str, Any]] = {}
        for (name, kind), times in seen.items():
            p50, p95 = np.percentile(times, [50, 95])
            rows.setdefault(name, {}).update({kind: round(float(p50), 4), f"{kind}_p95": round(float(p95), 4)})
        return rows


def table(result: dict[str, Any]) -> list[str]:
    """A table for each number of people, the roofline, and what was left out."""
    if not result:
        return ["nothing was measured"]
    m = result["machine"]
    lines = [
        f"{result['bundle']}, {result['rounds']} rounds, {result['gpu']}, driver {result['driver']}, torch "
        f"{result['torch']}, {result['date']}; energy {m['energy']}; governor {m['governor']}",
    ]
    for people, measured in result["people"].items():
        lines += ["", f"| {people} people | gpu ms | p95 | wall ms | p95 |", "|---|---|---|---|---|"]
        for name, row in sorted(measured["rows"].items()):
            cells = (row.get(k) for k in ("gpu_ms", "gpu_ms_p95", "wall_ms", "wall_ms_p95"))
            lines.append(f"| {name} | " + " | ".join("" if v is None else f"{v:.3f}" for v in cells) + " |")
        slowed = {moment["gpu_slowed_by"] for moment in measured["moments"] if "gpu_slowed_by" in moment}
        clocks = [f"{moment['gpu_mhz']} MHz" for moment in measured["moments"] if "gpu_mhz" in moment]
        lines += [f"clock before and after: {', '.join(clocks)}"] if clocks else []
        lines += [f"throttled: {', '.join(slowed)}"] if slowed else []
    peaks = ", ".join(f"{name} {value / 1e12:.1f} TFLOP/s" for name, value in result["ceilings"]["flops"].items())
    lines += ["", f"Ceilings, measured: {result['ceilings']['bandwidth'] / 1e9:.0f} GB/s, {peaks}", ""]
    lines += ["| bare network | people | TFLOP/s | of ceiling | GB/s | of ceiling | limited by | of the roof |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for people, measured in result["people"].items():
        for name, row in sorted(measured["rows"].items()):
            if (r := row.get("roofline")) is not None:
                of = "" if r["of_flops"] is None else f"{r['of_flops']:.0%}"
                lines.append(
                    f"| {name.removesuffix(', bare network')} | {people} | {r['flops'] / 1e12:.2f} | {of} | "
                    f"{r['bandwidth'] / 1e9:.0f} | {r['of_bandwidth']:.0%} | {r['limit']} | {r['share']:.0%} |"
                )
    return [*lines, "", *(f"left out: {name}: {reason}" for name, reason in result["left out"].items())]


if __name__ == "__main__":
    sys.exit(main())
