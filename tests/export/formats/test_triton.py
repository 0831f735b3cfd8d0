"""`posert export triton`: repositories that a real server takes, and graphs that give the golden joints."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from posert.runtime import PoseEstimator
from posert.runtime.backends import BACKENDS
from posert.runtime.bundle.archive import Bundle
from posert.runtime.cli.main import main
from posert.runtime.compilation import origin_of
from posert.runtime.engines.builder import Options
from posert.runtime.engines.sidecar import Engine, EngineMetadata, write_engine
from posert.runtime.errors import ServerError
from posert.runtime.serving import PoseClient, Server
from posert.runtime.serving.model_config import ModelFacts
from posert.runtime.serving.server import find_server

PLAN = b"ftrt" + bytes(range(256))
# What Triton's ONNX Runtime backend does with a model: names and types of its config, the graph as it is.
STAND_IN = """
import os, site
for folder in os.environ["PYTHONPATH"].split(os.pathsep):
    site.addsitedir(folder)
import json, pathlib
import numpy as np, onnxruntime
import triton_python_backend_utils as triton

class TritonPythonModel:
    def initialize(self, args):
        self.config = json.loads(args["model_config"])
        path = pathlib.Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    def execute(self, requests):
        names = [tensor["name"] for tensor in self.config["output"]]
        (given,) = self.config["input"]
        arrays = [np.from_dlpack(triton.get_input_tensor_by_name(r, given["name"])) for r in requests]
        found = self.session.run(names, {given["name"]: np.concatenate(arrays)})
        responses, first = [], 0
        for array in arrays:
            rows = slice(first, first := first + len(array))
            parts = [triton.Tensor.from_dlpack(n, f[rows].copy()) for n, f in zip(names, found)]
            responses.append(triton.InferenceResponse(parts))
        return responses
"""


def has_triton() -> bool:
    try:
        import tritonclient.grpc  # noqa: F401

        find_server()
    except (ImportError, ServerError):
        return False
    return True


real_server = pytest.mark.skipif(not has_triton(), reason="Triton or its client is not installed: make test-triton")


@pytest.fixture
def export(narrow_bundle: Path, tmp_path: Path) -> Callable[..., int]:
    def run(*options: object) -> int:
        return main(["export", "triton", str(narrow_bundle), "--output", str(tmp_path / "out"), *map(str, options)])

    return run


def script(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an emitted script where posert cannot be imported."""
    code = "import sys; sys.modules['posert'] = None; sys.argv = sys.argv[1:]; import runpy; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    line = [sys.executable, "-c", code, str(path), *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=120)


def read_config(folder: Path) -> Any:
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient is not installed")
    from google.protobuf import text_format

    return text_format.Parse((folder / "models" / "narrow" / "config.pbtxt").read_text("utf-8"), schema.ModelConfig())


@pytest.mark.parametrize("kind", ["keypoints", "heatmaps"])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_graphs(export: Callable[..., int], tmp_path: Path, backend: str, kind: str) -> None:
    assert export("--backend", backend, "--output-kind", kind) == 0
    files = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    graph = (
        {"models/narrow/1/model.onnx"}
        if backend == "onnxruntime"
        else {f"models/narrow/1/model.{e}" for e in ("xml", "bin")}
    )
    model = {f"models/narrow/{name}" for name in ("config.pbtxt", "contract.json", "warmup/golden.crops")}
    assert files == graph | model | {"client.py", "golden.npz", "posert-export.json", "run.py", "smoke.py"}
    done = script(tmp_path / "out" / "run.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out/models/narrow/warmup/golden.crops").stat().st_size == 128 * 96 * 3


def test_a_config_says_what_the_graph_is(export: Callable[..., int], tmp_path: Path) -> None:
    """Triton compares them when it loads the model: types and shapes without the batch, and names."""
    for kind in ("keypoints", "heatmaps"):
        assert export("--output-kind", kind) == 0
        read = read_config(tmp_path / "out")
        session = onnxruntime.InferenceSession(tmp_path / "out/models/narrow/1/model.onnx")
        types = {"tensor(uint8)": 2, "tensor(float)": 11}  # TYPE_UINT8 and TYPE_FP32 of Triton's model_config.proto
        for tensors, values in ((read.input, session.get_inputs()), (read.output, session.get_outputs())):
            said = [(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in tensors]
            assert said == [(value.name, types[value.type], value.shape[1:]) for value in values]
            assert all(isinstance(value.shape[0], str) for value in values)  # all share a dynamic batch
        assert read.name == "narrow" and read.max_batch_size == 8 and read.HasField("dynamic_batching")


@pytest.mark.parametrize("backend", ["onnxruntime", "python"])
def test_requests_wait_for_others_only_if_asked_to(export: Callable[..., int], tmp_path: Path, backend: str) -> None:
    for delay, most, microseconds in (([], [], 0), (["--queue-delay", "30"], [8], 30_000)):
        assert export("--backend", backend, *delay) == 0
        batching = read_config(tmp_path / "out").dynamic_batching
        assert list(batching.preferred_batch_size) == most
        assert batching.max_queue_delay_microseconds == microseconds


def engines(bundle_path: Path, folder: Path, **changes: Any) -> list[Path]:
    """Engines as `posert compile --backend tensorrt` leaves them, but with a plan that no library wrote."""
    with Bundle(bundle_path) as bundle:
        origin = origin_of(bundle, BACKENDS.load("tensorrt"), "fp32")
    paths = []
    for sm, most in (("sm86", 32), ("sm89", 16)):
        values: dict[str, Any] = {
            "model": origin.artifact.sha256,
            "precision": "fp32",
            "backend": "tensorrt",
            "version": "10.3.0",
            "devices": (f"GPU {sm}",),
            "batch": ((1, 8, most),),
            "options": Options().recorded(),
            "layers": {},
            "architecture": sm,
        }
        metadata = EngineMetadata(**{**values, **changes})
        paths.append(folder / f"narrow.{sm}.engine")
        write_engine(paths[-1], Engine(metadata, PLAN + sm.encode(), origin))
    return paths


def test_plans_of_several_gpus(export: Callable[..., int], narrow_bundle: Path, tmp_path: Path) -> None:
    assert export("--backend", "tensorrt", "--engines", *engines(narrow_bundle, tmp_path)) == 0
    read = read_config(tmp_path / "out")
    files = dict(read.cc_model_filenames)
    assert files == {"8.6": "model_sm86.plan", "8.9": "model_sm89.plan"}
    for name in files.values():  # as the library wrote them: no header, which ultralytics#21029 is about
        plan = (tmp_path / "out/models/narrow/1" / name).read_bytes()
        assert plan == PLAN + name[6:10].encode()
    assert (read.backend, read.max_batch_size, read.default_model_filename) == ("tensorrt", 16, "model_sm86.plan")
    assert [output.name for output in read.output] == ["heatmaps"]


def test_what_cannot_be_written_is_told_before_any_work(
    export: Callable[..., int], narrow_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "others").mkdir()
    good = engines(narrow_bundle, tmp_path)
    rtx = engines(narrow_bundle, tmp_path / "others", backend="tensorrt_rtx", devices=("sm86",), architecture="")
    for options, message in (
        (("--precision", "int8"), "unknown graph 'int8'"),
        (("--backend", "python", "--precision", "int8"), "has fp32, not 'int8'"),
        (("--backend", "python", "--output-kind", "heatmaps"), "the python backend gives keypoints"),
        (("--backend", "tensorrt"), "needs --engines FILE"),
        (("--backend", "tensorrt", "--output-kind", "keypoints"), "engines give heatmaps"),
        (("--backend", "tensorrt", "--engines", good[0], good[0]), "are both for sm86: give one"),
        (("--backend", "tensorrt", "--engines", rtx[0]), "is of tensorrt_rtx; Triton's TensorRT backend runs"),
        (("--backend", "tensorrt", "--engines", tmp_path / "no.engine"), "no such file"),
        (("--engines", good[0]), "--engines is for --backend tensorrt"),
        (("--backend", "tensorflow"), "invalid choice"),
    ):
        assert export(*options) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


@real_server
@pytest.mark.slow
def test_the_server_parses_every_config(
    export: Callable[..., int], narrow_bundle: Path, tmp_path: Path, free_ports: Callable[[], tuple[int, int]]
) -> None:
    """As far as a server without these backends goes: it says which one is missing, and nothing of the config."""
    http, grpc = free_ports()
    given = {"onnxruntime": (), "openvino": (), "tensorrt": ("--engines", *engines(narrow_bundle, tmp_path))}
    for backend, options in given.items():
        assert export("--backend", backend, *options) == 0
        with pytest.raises(ServerError, match=rf"(?i)unable to find.*backend.*{backend}"):
            Server(tmp_path / "out" / "models", http_port=http, grpc_port=grpc).__enter__()


@real_server
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["keypoints", "heatmaps"])
def test_served_by_onnx_runtime(
    export: Callable[..., int],
    narrow_bundle: Path,
    tmp_path: Path,
    free_ports: Callable[[], tuple[int, int]],
    kind: str,
) -> None:
    """The emitted repository with another backend: its config, its warm-up and its graph, the client, the script."""
    http, grpc = free_ports()
    assert export("--output-kind", kind) == 0
    folder = tmp_path / "out" / "models" / "narrow"
    config = folder / "config.pbtxt"
    config.write_text(config.read_text().replace('backend: "onnxruntime"', 'backend: "python"'))
    (folder / "1" / "model.py").write_text(STAND_IN)
    pose = PoseEstimator(narrow_bundle, backend="onnxruntime")
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (90, 120, 3), np.uint8)
    with Server(folder.parent, http_port=http, grpc_port=grpc):
        done = script(tmp_path / "out" / "smoke.py", f"127.0.0.1:{grpc}")
        assert done.returncode == 0, done.stdout + done.stderr
        for people in (0, 1, 3, 19):
            first = rng.uniform(0, 60, (people, 2))
            boxes = np.hstack([first, first + 40])
            with PoseClient(f"127.0.0.1:{http}", "narrow", protocol="http") as remote:
                found, expected = remote(frame, boxes), pose(frame, boxes)
            # a batch of another size adds in another order; in the graph decoding is single precision
            np.testing.assert_allclose(found.score, expected.score, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(found.xy, expected.xy, atol=0.01)
    golden = dict(np.load(tmp_path / "out" / "golden.npz"))
    wrong = "keypoints" if kind == "keypoints" else "outputs_0"
    np.savez(tmp_path / "out" / "golden.npz", **{**golden, wrong: golden[wrong] + 5})
    with Server(folder.parent, http_port=http, grpc_port=grpc):
        assert script(tmp_path / "out" / "smoke.py", f"127.0.0.1:{grpc}").returncode == 1


@real_server
@pytest.mark.slow
def test_frames(
    export: Callable[..., int], narrow_bundle: Path, tmp_path: Path, free_ports: Callable[[], tuple[int, int]]
) -> None:
    http, grpc = free_ports()
    assert export("--backend", "python") == 0
    out = tmp_path / "out"
    with Server(out / "models", http_port=http, grpc_port=grpc):
        done = script(out / "smoke.py", f"127.0.0.1:{grpc}")
        assert done.returncode == 0, done.stdout + done.stderr
        frame = Path(__file__).parents[3] / "runtime" / "bench" / "frame.jpg"
        line = [sys.executable, str(out / "client.py"), str(frame), "10,10,120,200"]
        for more in (["--url", f"127.0.0.1:{grpc}"], ["--url", f"127.0.0.1:{http}", "--http"]):
            said = subprocess.run([*line, *more], capture_output=True, text=True)
            assert said.returncode == 0 and said.stdout.startswith("nose "), said.stderr
            assert len(said.stdout.splitlines()) == 17


def test_the_facts_are_one_json(narrow_bundle: Path) -> None:
    with Bundle(narrow_bundle) as bundle:
        facts = ModelFacts(bundle.contract, "crops", "keypoints", "passed", 8, {"name": "crops"}, ("keypoints",))
    config = {"max_batch_size": 8, "parameters": {"metadata": {"string_value": facts.parameter()}}}
    assert ModelFacts.from_config(config) == facts
    assert replace(facts, verdict="failed").parameter() != facts.parameter()
    assert json.loads(facts.parameter())["contract"]["width"] == 96
