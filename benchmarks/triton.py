"""Load on a Triton server with a bundle as its model: latency, throughput and memory, every answer checked.

    make test-triton                                                                # installs the server
    python -m posert.benchmarks.triton hrnet_demo.pose --requests 100000

Clients are processes that send one frame after the other. Throughput stands beside `PoseEstimator.stream` on the same
frames, before and after, without the server. On a CPU the clients compete with it, and so does whatever else runs:
processor time per frame does not depend on that.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from posert.benchmarks.script import run
from posert.runtime.bench.scene import crowd
from posert.runtime.bundle.archive import Bundle
from posert.runtime.estimator import PoseEstimator
from posert.runtime.serving import PoseClient, Server, write_frames_model
from posert.runtime.system.files import atomic_write
from posert.runtime.system.memory import resident_mb

SCENES = 16
"""Different frames; a client takes one after the other."""
_SECONDS = 10.0  # of the estimator alone, before and after


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns 1 if an answer was lost or wrong."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("bundle")
    arguments.add_argument(
        "--output", type=Path, default=Path("out/triton.json"), metavar="FILE", help="(out/triton.json)"
    )
    arguments.add_argument("--backend", default="auto", help="one backend (auto)")
    arguments.add_argument("--precision", default="auto", help="one precision (auto)")
    arguments.add_argument("--requests", type=int, default=100_000, help="in all (100000)")
    arguments.add_argument("--clients", type=int, default=8, help="at a time (8)")
    arguments.add_argument("--queue-delay", type=int, default=0, metavar="MS", help="as of posert serve (0)")
    arguments.add_argument("--people", type=int, default=1, help="per frame (1)")
    arguments.add_argument("--protocol", choices=("grpc", "http"), default="grpc", help="(grpc)")
    return run(arguments, _work, argv)


def _work(args: argparse.Namespace) -> int:
    pose = PoseEstimator(args.bundle, backend=args.backend, precision=args.precision, throughput=True)
    chosen = pose.selection
    frames = scenes(pose, args.people)
    expected = [np.concatenate([p.xy, p.score[..., None]], axis=2) for p in pose.stream(frames)]
    before = streamed(pose, frames)
    with tempfile.TemporaryDirectory() as folder:
        with Bundle(args.bundle) as bundle:
            options = {"backend": chosen.backend, "precision": chosen.precision}
            write_frames_model(Path(folder) / "pose", bundle, name="pose", queue_delay=args.queue_delay, **options)
        with Server(folder, http_port=free_port(), grpc_port=free_port()) as server, memory(server.pid) as seen:
            port = server.grpc_port if args.protocol == "grpc" else server.http_port
            used = processor_seconds(server.pid)
            found = loaded(f"127.0.0.1:{port}", args, frames, expected)
            used = processor_seconds(server.pid) - used
            batches = batch_sizes(f"127.0.0.1:{server.grpc_port}")
    after = streamed(pose, frames)
    milliseconds = np.array([ms for client in found for ms in client["ms"]])
    per_second = len(milliseconds) / max(client["seconds"] for client in found)
    quarter = max(1, len(seen) // 4)
    row = {
        "model": f"{args.bundle} {chosen.backend} {chosen.precision}",
        "requests": args.requests,
        "clients": args.clients,
        "people": args.people,
        "protocol": args.protocol,
        "queue delay ms": args.queue_delay,
        "answered": len(milliseconds),
        "wrong": sum(client["wrong"] for client in found),
        "errors": [error for client in found for error in client["errors"]][:5],
        "p50 ms": round(float(np.percentile(milliseconds, 50)), 2),
        "p99 ms": round(float(np.percentile(milliseconds, 99)), 2),
        "frames/s": round(per_second, 1),
        "stream frames/s": [round(before[0], 1), round(after[0], 1)],
        "of stream": round(per_second / statistics.mean([before[0], after[0]]), 3),
        "processor ms per frame": {
            "server": round(1000 * used / len(milliseconds), 2),
            "clients": round(1000 * sum(client["processor"] for client in found) / len(milliseconds), 2),
            "stream": [round(1000 * one, 2) for one in (before[1], after[1])],
        },
        "frames per batch": batches,
        "RSS MB, first and last quarter": [
            round(statistics.median(part)) for part in (seen[:quarter], seen[-quarter:])
        ],
    }
    with atomic_write(args.output) as file:
        file.write(json.dumps(row, indent=1).encode())
    print(json.dumps(row, indent=1))
    return 0 if row["answered"] == args.requests and not row["wrong"] else 1


def scenes(pose: PoseEstimator, people: int) -> list[tuple[Any, Any]]:
    """Frames of 640x360 with boxes, as a camera of a shop gives them."""
    found = []
    for number in range(SCENES):
        frame, boxes = crowd(people, 360, 640)
        found.append((np.roll(frame, 20 * number, axis=1).copy(), boxes))
    return found


def streamed(pose: PoseEstimator, frames: list[tuple[Any, Any]]) -> tuple[float, float]:
    """Frames per second of `PoseEstimator.stream`, and its processor seconds per frame."""
    start, used, count = time.perf_counter(), time.process_time(), 0

    def endless() -> Iterator[tuple[Any, Any]]:
        while time.perf_counter() < start + _SECONDS:
            yield from frames

    for _ in pose.stream(endless()):
        count += 1
    return count / (time.perf_counter() - start), (time.process_time() - used) / count


def loaded(url: str, args: argparse.Namespace, frames: list[Any], expected: list[Any]) -> list[dict[str, Any]]:
    """What each of the clients saw; they begin together."""
    shares = [args.requests // args.clients + (i < args.requests % args.clients) for i in range(args.clients)]
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(args.clients), context.Queue()
    work = [(url, args.protocol, share, index, frames, expected) for index, share in enumerate(shares)]
    processes = [context.Process(target=_client, args=(barrier, queue, *one)) for one in work]
    for process in processes:
        process.start()
    found = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    return found


def _client(
    barrier: Any, queue: Any, url: str, protocol: Any, share: int, index: int, frames: list[Any], expected: list[Any]
) -> None:
    milliseconds: list[float] = []
    errors: list[str] = []
    wrong = 0
    with PoseClient(url, "pose", protocol=protocol, timeout=120) as pose:
        pose(*frames[0])
        barrier.wait()
        start, used = time.perf_counter(), time.process_time()
        for number in range(share):
            which = (number + index) % len(frames)
            before = time.perf_counter()
            try:
                people = pose(*frames[which])
            except Exception as error:  # counted, as what it is: an answer that was lost
                errors.append(repr(error))
                continue
            milliseconds.append(1000 * (time.perf_counter() - before))
            joints = np.concatenate([people.xy, people.score[..., None]], axis=2)
            wrong += not np.array_equal(joints, expected[which])
        seconds, used = time.perf_counter() - start, time.process_time() - used
    queue.put({"ms": milliseconds, "seconds": seconds, "processor": used, "wrong": wrong, "errors": errors})


def batch_sizes(url: str) -> float:
    """Mean number of frames of a batch."""
    import tritonclient.grpc as triton

    with triton.InferenceServerClient(url) as client:
        (stats,) = client.get_inference_statistics("pose").model_stats
    return round(stats.inference_count / max(stats.execution_count, 1), 2)


@contextmanager
def memory(pid: int) -> Iterator[list[float]]:
    """Resident memory, MB, of the server and of the processes below it, once a second."""
    seen: list[float] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(1):
            seen.append(sum(resident_mb(one) or 0 for one in (pid, *below(pid))))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def processor_seconds(pid: int) -> float:
    """Processor time that a process and its children have used, which other programs on the machine hardly change."""
    ticks = 0
    for one in (pid, *below(pid)):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def below(pid: int) -> list[int]:
    """The children of a process."""
    return [int(n) for path in Path(f"/proc/{pid}/task").glob("*/children") for n in path.read_text().split()]


def free_port() -> int:
    """A port of the loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    raise SystemExit(main())
