"""A real Triton server with a bundle as its model: results, batches, bad requests, kill and restart."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posert.runtime import Keypoints, PoseEstimator
from posert.runtime.bundle.archive import Bundle
from posert.runtime.errors import InputError, PosertError, ServerError
from posert.runtime.serving import PoseClient, Server, write_frames_model
from posert.runtime.serving.server import find_server

pytest.importorskip("tritonclient", reason="tritonclient is not installed: make test-triton")
try:
    find_server()
except ServerError as error:
    pytest.skip(f"{error}", allow_module_level=True)

pytestmark = pytest.mark.slow
Ports = Callable[[], tuple[int, int]]


def write_repository(bundle: Path, folder: Path) -> Path:
    with Bundle(bundle) as opened:
        write_frames_model(folder / "pose", opened, name="pose")
    return folder


@pytest.fixture(scope="module")
def repository(narrow_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(narrow_bundle, tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="module")
def server(repository: Path, free_ports: Ports) -> Iterator[Server]:
    http, grpc = free_ports()
    with Server(repository, http_port=http, grpc_port=grpc) as running:
        yield running


@pytest.fixture(scope="module")
def pose(narrow_bundle: Path) -> PoseEstimator:
    return PoseEstimator(narrow_bundle)


def client(server: Server, protocol: Any = "grpc", timeout: float = 60) -> PoseClient:
    port = server.grpc_port if protocol == "grpc" else server.http_port
    return PoseClient(f"{server.host}:{port}", "pose", protocol=protocol, timeout=timeout)


def scene(rng: np.random.Generator, people: int) -> tuple[np.ndarray, np.ndarray]:
    """A frame of some size, and boxes, some of which reach over its edge."""
    height, width = rng.integers(40, 200, 2)
    first = rng.uniform(-20, [width - 5, height - 5], (people, 2))
    return rng.integers(0, 256, (height, width, 3), np.uint8), np.hstack(
        [first, first + rng.uniform(25, 90, (people, 2))]
    )


def assert_same(found: Keypoints, expected: Keypoints) -> None:
    for name in ("xy", "score", "boxes"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == other.dtype and one.shape == other.shape
        np.testing.assert_array_equal(one, other)
    assert found.names == expected.names


def in_threads(work: Callable[[int], None], count: int = 8) -> None:
    """Run `work(0)`, ... at the same time; what one of them raises is raised."""
    failures: list[BaseException] = []

    def run(index: int) -> None:
        try:
            work(index)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def counts(server: Server) -> tuple[int, int]:
    """Frames that the model answered, and batches that they came in."""
    import tritonclient.grpc as triton

    with triton.InferenceServerClient(f"{server.host}:{server.grpc_port}") as admin:
        (stats,) = admin.get_inference_statistics("pose").model_stats
    return stats.inference_count, stats.execution_count


def test_eight_clients_get_the_bits_of_the_estimator(server: Server, pose: PoseEstimator) -> None:
    frames, batches = counts(server)

    ready = threading.Barrier(8, timeout=60)

    def work(index: int) -> None:
        rng = np.random.default_rng(index)
        scenes = [scene(rng, (index + i) % 10) for i in range(12)]  # nobody, too, and more than one run takes
        expected = [pose(frame, boxes) for frame, boxes in scenes]
        with client(server, "http" if index % 2 else "grpc") as remote:
            assert remote.contract == pose.contract and remote.facts.verdict == "unproven"
            ready.wait()  # nothing but requests from here on, so that they come together
            found = [remote(frame, boxes) for frame, boxes in scenes]
            for one, right in zip(found, expected, strict=True):
                assert_same(one, right)
            frame, _ = scenes[-1]
            assert_same(remote(frame), pose(frame))

    in_threads(work)
    after = counts(server)
    assert after[0] - frames == 8 * 13
    assert after[1] - batches < 8 * 13  # some came together


def test_bad_requests_have_no_effect_on_others(server: Server, pose: PoseEstimator) -> None:
    import tritonclient.grpc as triton
    from tritonclient.utils import InferenceServerException

    def tensor(name: str, array: np.ndarray, kind: str) -> Any:
        given = triton.InferInput(name, array.shape, kind)
        given.set_data_from_numpy(array)
        return given

    def refused(index: int) -> None:
        frame, boxes = scene(np.random.default_rng(index), 2)
        good, raw = tensor("frame", frame[None], "UINT8"), triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")
        wrong: tuple[tuple[list[Any], str], ...] = (
            ([good, tensor("boxes", np.full((1, 1, 4), np.nan), "FP64")], "box 0"),
            ([good, tensor("boxes", boxes[None, :1] + 9000, "FP64")], "lies outside the"),
            ([good, tensor("boxes", boxes[None, :, ::-1], "FP64")], "x2 > x1"),
            ([good, tensor("boxes", boxes[None].astype(np.float32), "FP32")], "data-type"),
            ([good, tensor("boxes", boxes[None, :, :3].copy(), "FP64")], "shape"),
            ([tensor("frame", frame[None, ..., :2].copy(), "UINT8"), tensor("boxes", boxes[None], "FP64")], "shape"),
            ([good], "boxes"),
            ([tensor("frame", np.repeat(frame[None], 9, 0), "UINT8"), tensor("boxes", boxes[None], "FP64")], "batch"),
        )
        with raw:
            for inputs, message in wrong:
                with pytest.raises(InferenceServerException, match=message):
                    raw.infer("pose", inputs)
        with client(server) as remote, pytest.raises(InputError, match="lies outside the"):
            remote(frame, boxes + 9000)

    def answered(index: int) -> None:
        rng = np.random.default_rng(index)
        with client(server) as remote:
            for _ in range(10):
                frame, boxes = scene(rng, 3)
                assert_same(remote(frame, boxes), pose(frame, boxes))

    in_threads(lambda index: (refused if index % 2 else answered)(index))


def test_several_frames_in_one_request(server: Server, pose: PoseEstimator) -> None:
    import tritonclient.http as triton

    frame, boxes = scene(np.random.default_rng(0), 2)
    frames, several = np.stack([frame, frame[::-1], frame[:, ::-1]]), np.stack([boxes, boxes + 1, boxes + 2])
    inputs = [triton.InferInput("frame", frames.shape, "UINT8"), triton.InferInput("boxes", several.shape, "FP64")]
    for given, array in zip(inputs, (frames, several), strict=True):
        given.set_data_from_numpy(array)
    with triton.InferenceServerClient(f"127.0.0.1:{server.http_port}") as raw:
        found = raw.infer("pose", inputs).as_numpy("keypoints")
    for joints, image, rows in zip(found, frames, several, strict=True):
        expected = pose(image, rows)
        np.testing.assert_array_equal(joints, np.concatenate([expected.xy, expected.score[..., None]], axis=2))


def test_what_a_client_is_told(server: Server) -> None:
    with pytest.raises(ServerError, match="nosuch"):
        PoseClient(f"127.0.0.1:{server.grpc_port}", "nosuch", timeout=5)
    with pytest.raises(InputError, match="expected 'grpc' or 'http'"):
        PoseClient("127.0.0.1:1", "pose", protocol="udp")  # type: ignore[arg-type]
    with client(server) as remote, pytest.raises(InputError, match="frame is float64"):
        remote(np.zeros((4, 4, 3)))


def children(pid: int) -> list[int]:
    done = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(line) for line in done.stdout.split()]


def alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_kill_and_restart(repository: Path, free_ports: Ports, pose: PoseEstimator, protocol: Any) -> None:
    http, grpc = free_ports()
    rng = np.random.default_rng(0)
    with Server(repository, http_port=http, grpc_port=grpc) as first:
        remote = client(first, protocol)
        frame, boxes = scene(rng, 2)
        expected = pose(frame, boxes)
        assert_same(remote(frame, boxes), expected)
        models = children(first.pid)
        assert models
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        with client_of_nobody(remote, 0.5), pytest.raises(ServerError, match=r"did not answer within 0.5 s"):
            remote(frame, boxes)
        answers: list[Keypoints] = []

        def ask() -> None:
            with client(first, protocol) as another:
                answers.append(another(frame, boxes))

        waiting = threading.Thread(target=ask)
        waiting.start()
        with Server(repository, http_port=http, grpc_port=grpc):
            waiting.join()
            assert_same(answers[0], expected)
            assert_same(remote(frame, boxes), expected)
        remote.close()
    for _ in range(100):
        if not any(map(alive, models)):
            break
        time.sleep(0.1)
    assert not any(map(alive, models))  # a killed server leaves no process behind


@contextlib.contextmanager
def client_of_nobody(remote: PoseClient, timeout: float) -> Iterator[None]:
    """The client with a shorter deadline."""
    before, remote._timeout = remote._timeout, timeout
    yield
    remote._timeout = before


def test_a_server_that_does_not_start(
    repository: Path, narrow_bundle: Path, tmp_path: Path, free_ports: Ports, server: Server
) -> None:
    http, grpc = free_ports()
    broken = write_repository(narrow_bundle, tmp_path / "broken")
    (broken / "pose" / "1" / "model.pose").write_bytes(b"PK no bundle")
    with pytest.raises(ServerError, match=r"(?s)ended with status 1 before it was ready.*model\.pose"):
        Server(broken, http_port=http, grpc_port=grpc).__enter__()
    with pytest.raises(ServerError, match=r"(?s)in use"):
        Server(repository, http_port=server.http_port, grpc_port=grpc).__enter__()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_posert_serve(
    narrow_bundle: Path, free_ports: Ports, pose: PoseEstimator, tmp_path: Path, end: signal.Signals
) -> None:
    http, grpc = free_ports()
    line = [sys.executable, "-m", "posert.runtime.cli", "serve", str(narrow_bundle)]
    line += ["--port", str(http), "--grpc-port", str(grpc)]
    process = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said == f"narrow, openvino fp32: http 127.0.0.1:{http}, grpc 127.0.0.1:{grpc}\n", process.communicate()
        frame, boxes = scene(np.random.default_rng(1), 3)
        with PoseClient(f"127.0.0.1:{grpc}", "narrow") as remote:
            assert_same(remote(frame, boxes), pose(frame, boxes))
        (below,) = children(process.pid)
        process.send_signal(end)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == (143 if end == signal.SIGTERM else -9) and "Traceback" not in errors
        for _ in range(100):  # of a process that was killed the server ends by itself
            if not alive(below):
                break
            time.sleep(0.1)
        assert not alive(below)
        left = [path for path in tmp_path.iterdir() if path.name.endswith(".posert-part")]
        assert not left or end == signal.SIGKILL  # the next command that needs such a folder removes it
    finally:
        process.kill()
        process.wait()


def test_serve_says_what_is_wrong_first(narrow_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from posert.runtime.cli.commands.serve import COMMAND
    from posert.runtime.serving import server as module

    def run(**changes: Any) -> None:
        import argparse

        values = {"bundle": narrow_bundle, "backend": "auto", "precision": "auto", "host": "127.0.0.1", "json": False}
        COMMAND.run(argparse.Namespace(**{**values, "port": 8000, "grpc_port": 8001, **changes}))

    with pytest.raises(InputError, match="both 8000"):
        run(grpc_port=8000)
    with pytest.raises(PosertError, match="has no int8 graph"):
        run(precision="int8")
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(ServerError, match="pip install --no-deps nvidia-pytriton"):
        run()
