"""Frame to keypoints on a GPU: the pipeline against its own network, PyTorch eager and torch.compile.

    python -m posert.benchmarks.gpu hrnet_w32.pose --output out/gpu.jsonl
    python -m posert.benchmarks.gpu hrnet_w32.pose --people 8    # the rows of docs/gpu.md; compiling takes minutes

For each number of people, which is the network's batch, every backend and precision: inference only as a CUDA graph and
without one, frame to keypoints with the frame on the GPU and on the host, a video through one and two streams.
Beside them PyTorch with OpenCV's crops and decoding on the CPU, eager and compiled, in the precisions that the networks
have: fp32 is without TF32 for all but TensorRT; tf32 is PyTorch's own default.
All take turns within a round; figures are medians over the rounds. `gpu` is the time on the GPU between two events,
`wall` the time that the caller waits. The roofline shows what inference achieves of the arithmetic and the bandwidth
measured on this GPU. What cannot run here is left out, with the reason.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posert.benchmarks.pytorch_baseline import Half, pytorch_pipeline
from posert.benchmarks.roofline import ceilings, place, work_of
from posert.benchmarks.script import digest, markdown, numbers, open_journal, parser, run
from posert.export.archs import build_arch
from posert.export.graph.reference import Reference
from posert.runtime.backends import BACKENDS
from posert.runtime.bench.meters import Meters
from posert.runtime.bench.timing import orders
from posert.runtime.bundle.archive import Bundle
from posert.runtime.bundle.contract import Contract
from posert.runtime.cuda.driver import Device, Memory, Pinned, Stream
from posert.runtime.cuda.library import missing as no_driver
from posert.runtime.cuda.network import Network, bucket_of, record, timed_ms
from posert.runtime.cuda.pipeline import Pipeline
from posert.runtime.errors import BackendError, InputError, PosertError
from posert.runtime.pose.heads import Shapes, head
from posert.runtime.pose.preprocess import check_boxes, crop_regions
from posert.runtime.selection import open_session

SLOTS = (1, 2)
WARM_UP, VIDEO = 10, 16  # rounds, and frames
FRAME = (1080, 1920, 3)
_FIGURES = ("gpu_ms", "gpu_ms_p95", "wall_ms", "wall_ms_p95")


class NoNetwork:
    """Takes the place of a network, so that only the work around it is left."""

    largest, capturable = 32, True

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes

    def outputs(self, crop: tuple[int, ...]) -> tuple[Shapes, np.dtype[Any]]:
        """See `Network.outputs`."""
        return self._shapes, np.dtype(np.float32)

    def bind(self, batch: int, crops: int, outputs: Sequence[int], stream: Stream) -> Callable[[], None]:
        """Leaves noise in the outputs; zeros have no peak, and its refinement would not run."""
        for shape, address in zip(self._shapes, outputs, strict=True):
            noise = Pinned((batch, *shape), np.float32)
            noise.array[:] = np.random.default_rng(0).random(noise.array.shape, np.float32)
            stream.upload(address, noise, noise.size)
            stream.synchronize()
        return lambda: None


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; prints tables."""
    arguments = parser(__doc__, "out/gpu.jsonl")
    arguments.add_argument("bundle", type=Path)
    arguments.add_argument("--people", type=numbers, default=[1, 2, 4, 8, 16, 32], help="comma list (1,2,4,8,16,32)")
    arguments.add_argument("--rounds", type=int, default=100, help="rounds to time (100)")
    arguments.add_argument("--backends", help="comma list (all that run on a GPU)")
    arguments.add_argument("--precision", default="fp32,fp16,int8", help="comma list (all that a backend has)")
    arguments.add_argument("--no-compile", action="store_true", help="leave out torch.compile, which takes minutes")
    return run(arguments, _work, argv)


def _work(args: argparse.Namespace) -> int:
    print("\n".join(table(*measure(args))))
    return 0


def measure(args: argparse.Namespace) -> tuple[dict[str, Any], dict[int, dict[str, Any]]]:
    """Time everything on the same frame, for each number of people that --output lacks.

    Returns:
        facts about the run; by number of people "rows" and "moments".
    """
    reason = no_driver()
    if reason:
        raise BackendError(reason)
    if max(args.people) > NoNetwork.largest:
        raise InputError(f"--people {args.people}: expected numbers up to {NoNetwork.largest}, such as 1,8")
    on_gpu = [name for name, spec in BACKENDS.specs().items() if spec.device == "cuda"]
    wanted = args.backends.split(",") if args.backends else on_gpu
    device, meters = Device(), Meters()
    with Bundle(args.bundle) as bundle:
        c, name, work = bundle.contract, bundle.name, work_of(bundle)
        networks, left_out = _open(bundle, wanted, args.precision.split(","))
        arch = bundle.manifest["model"]["arch"]
        single, half = (Reference(build_arch(arch, len(c.keypoints)), c).cuda() for _ in range(2))
    modules = {"fp32": single, "tf32": single, "fp16": Half(half)}
    shared = {key.split()[-1] for key in networks} & {"fp32", "fp16"}
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    roof = ceilings()
    driver = ".".join(map(str, device.driver))
    key = {"bundle": name, "rounds": args.rounds, "gpu": device.name, "driver": driver, "torch": torch.__version__}
    content = {"sha256": digest(args.bundle), "networks": list(networks), "compiled": not args.no_compile}
    journal = open_journal(args.output, "gpu", **key, **content)
    measured = {record["people"]: record for record in journal.records}
    for n in (n for n in args.people if n not in measured):
        comparison = Comparison(c, device, n, lambda frame: torch.from_numpy(frame).cuda())
        comparison.add_network("around the network", NoNetwork(head(c.decode).shapes(c)))
        for key_, network in networks.items():
            comparison.add_network(key_, network)
        for precision in sorted({*shared, "fp32", "tf32"}):
            comparison.add_pytorch(f"PyTorch eager {precision}", modules[precision], tf32=precision == "tf32")
        torch.compiler.reset()  # a network for each batch size; one for all of them would be slower
        for precision in () if args.no_compile else sorted(shared):
            compiled = torch.compile(modules[precision], mode="max-autotune", dynamic=False)
            comparison.add_pytorch(f"torch.compile(max-autotune) {precision}", compiled)
        before = meters.moment()
        rows = comparison.timed(args.rounds)
        for key_ in networks:
            row = rows[f"{key_}, inference only"]
            row["roofline"] = asdict(place(work, n, key_.split()[-1], row["gpu_ms"], roof))
        measured[n] = {"people": n, "rows": rows, "moments": [before, meters.moment()]}
        journal.add(measured[n])
        del comparison
        gc.collect()  # its buffers and graphs, before the next ones are made
    facts = {"date": datetime.now(timezone.utc).date().isoformat(), "machine": meters.describe()}
    return {**key, **facts, "ceilings": asdict(roof), "left out": left_out}, {n: measured[n] for n in args.people}


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


class Comparison:
    """What is timed on a frame with so many people, by name: `wall` on the host's clock, `gpu` on the GPU's."""

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
        """Inference only, and frame to keypoints with the frame on the GPU, from the host, and of a video."""
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
            shapes, dtype = network.outputs((c.height, c.width, 3))
            crops = Memory(batch * c.width * c.height * 3)
            outputs = [Memory(batch * int(np.prod(shape)) * dtype.itemsize) for shape in shapes]
            run = network.bind(batch, crops.address, [output.address for output in outputs], stream)
            graph = record(run, stream, network.capturable)

        def inference_ms(work: Callable[[], None], _kept: object = (crops, outputs)) -> list[float]:  # keeps them alive
            with device.active():
                return timed_ms(work, stream, 1)

        self.gpu[f"{name}, inference only"] = partial(inference_ms, graph)
        if network.capturable:
            self.gpu[f"{name}, inference only without a graph"] = partial(inference_ms, run)

    def add_pytorch(self, name: str, network: Callable[[Tensor], Tensor], tf32: bool = False) -> None:
        """Frame to keypoints by PyTorch, see `pytorch_baseline`."""
        work = partial(pytorch_pipeline, network, self._contract, self.frame, self.regions)

        def run() -> None:
            torch.backends.cudnn.allow_tf32 = tf32
            try:
                work()
            finally:  # the others run without it
                torch.backends.cudnn.allow_tf32 = False

        self.wall[name] = run

    def _video(self, pipeline: Pipeline) -> None:
        for _ in pipeline.video((self.frame, *self.regions) for _ in range(VIDEO)):
            pass

    def timed(self, rounds: int) -> dict[str, dict[str, Any]]:
        """Median and 95th percentile in ms; of a video per frame."""
        seen: dict[tuple[str, str], list[float]] = {}
        calls = [("wall_ms", n, c) for n, c in self.wall.items()] + [("gpu_ms", n, c) for n, c in self.gpu.items()]
        for i, order in enumerate(orders([str(i) for i in range(len(calls))], WARM_UP + rounds)):
            for kind, name, call in (calls[int(j)] for j in order):
                if kind == "gpu_ms" and name in self.wall:
                    self.wall[name]()  # the run that is then replayed
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


def table(facts: dict[str, Any], measured: dict[int, dict[str, Any]]) -> list[str]:
    """A table for each number of people, the roofline, and what was left out."""
    m = facts["machine"]
    lines = [
        f"{facts['bundle']}, {facts['rounds']} rounds, {facts['gpu']}, driver {facts['driver']}, torch "
        f"{facts['torch']}, {facts['date']}; energy {m['energy']}; governor {m['governor']}",
    ]
    roof = []
    for people, seen in measured.items():
        rows = sorted(seen["rows"].items())
        times = [[name, *(f"{row[k]:.3f}" if k in row else "" for k in _FIGURES)] for name, row in rows]
        lines += ["", markdown(f"{people} people | gpu ms | p95 | wall ms | p95", times)]
        slowed = {moment["gpu_slowed_by"] for moment in seen["moments"] if "gpu_slowed_by" in moment}
        clocks = [f"{moment['gpu_mhz']} MHz" for moment in seen["moments"] if "gpu_mhz" in moment]
        lines += [f"clock before and after: {', '.join(clocks)}"] if clocks else []
        lines += [f"throttled: {', '.join(slowed)}"] if slowed else []
        for name, row in rows:
            if (r := row.get("roofline")) is not None:
                of = "" if r["of_flops"] is None else f"{r['of_flops']:.0%}"
                arithmetic, memory = f"{r['flops'] / 1e12:.2f}", f"{r['bandwidth'] / 1e9:.0f}"
                ends = [f"{r['of_bandwidth']:.0%}", r["limit"], f"{r['share']:.0%}"]
                roof.append([name.removesuffix(", inference only"), str(people), arithmetic, of, memory, *ends])
    peaks = ", ".join(f"{name} {value / 1e12:.1f} TFLOP/s" for name, value in facts["ceilings"]["flops"].items())
    lines += ["", f"Measured ceilings: {facts['ceilings']['bandwidth'] / 1e9:.0f} GB/s, {peaks}", ""]
    head = "inference only | people | TFLOP/s | of ceiling | GB/s | of ceiling | limited by | of the roof"
    left_out = (f"left out: {name}: {reason}" for name, reason in facts["left out"].items())
    return [*lines, markdown(head, roof), "", *left_out]


if __name__ == "__main__":
    sys.exit(main())
