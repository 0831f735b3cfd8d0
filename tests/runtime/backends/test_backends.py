"""Backends: found by their files, missing ones say how to get them, and each gives what PyTorch gives."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from posert.export.graph.reference import Reference, random_crops
from posert.runtime import backends as package
from posert.runtime.accuracy.golden import check_session
from posert.runtime.backends import AsyncSession, Backend, backends, installed_backends, load_backend, pip_line
from posert.runtime.bundle.archive import Bundle
from posert.runtime.errors import BackendError, InputError
from posert.runtime.selection import open_session, select

INSTALLED = list(installed_backends())
DROPPED = """
from posert.runtime.backends import Backend
BACKEND = Backend(name="{name}", library="json", precisions={{"fp32": "fp32"}}, rank={rank}, open=lambda *given: None)
"""
PLUGIN = """
import numpy as np
from posert.runtime.backends import Backend

class Session:
    def __init__(self, model, precision, threads=None):
        self.size = len(model)

    def infer(self, crops):
        return (np.full((len(crops), 17, 32, 24), self.size, np.float32),)

BACKEND = Backend(
    name="echo",
    library="posert_echo",
    precisions={"fp32": "fp32", "fp8": "fp32"},
    unsupported=lambda: {"fp8": "no such unit"},
    open=Session,
    rank=1,
)
"""


def hide(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    """As if the library were not installed."""
    monkeypatch.setitem(sys.modules, library, None)


def processors_of(work: Callable[[], object]) -> set[int]:
    """On how many processors the calling thread may run, as another one sees it while it works."""
    me, seen, done = threading.get_native_id(), set[int](), threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.add(len(os.sched_getaffinity(me)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(50):
        work()
    done.set()
    watcher.join()
    return seen


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder that counts as part of the backends' folder."""
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    yield tmp_path
    for name in [n for n in sys.modules if n.startswith("posert.runtime.backends.dropped")]:
        del sys.modules[name]


def test_preferred_first_and_a_new_file_is_found(dropped: Path) -> None:
    before = backends()
    assert before[:2] == ["tensorrt", "tensorrt_rtx"]
    on_cpu = [name for name in before if name in ("torchscript", "onnxruntime", "openvino")]
    assert on_cpu == ["openvino", "onnxruntime", "torchscript"]
    (dropped / "dropped.py").write_text(DROPPED.format(name="dropped", rank=100))
    (dropped / "dropped_first.py").write_text(DROPPED.format(name="dropped_first", rank=1))
    (dropped / "_hidden.py").write_text("raise RuntimeError")
    names = backends()
    assert names[0] == "dropped_first" and names.index("dropped") > names.index("torchscript")
    assert set(names) == {*before, "dropped", "dropped_first"}
    assert load_backend("dropped").runnable() == {"fp32": "fp32"}
    assert list(installed_backends()) == [n for n in names if n in (*INSTALLED, "dropped", "dropped_first")]


def test_the_specs_need_no_library() -> None:
    """The order, the device and the extra are known of a backend whose library is not installed."""
    script = """
import sys
libraries = ("openvino", "onnxruntime", "torch", "tensorrt", "tensorrt_rtx")
for name in libraries: sys.modules[name] = None
from posert.runtime.backends import BACKENDS, backends
print(*((s.name, s.device, s.pip_line) for s in map(BACKENDS.load, backends())), sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    rows = [
        str(row)
        for row in (
            ("tensorrt", "cuda", 'pip install "posert[tensorrt]"'),
            ("tensorrt_rtx", "cuda", 'pip install "posert[tensorrt-rtx]"'),
            ("onnxruntime_cuda", "cuda", 'pip install "posert[onnxruntime-cuda]"'),
            ("torchscript_cuda", "cuda", 'pip install "posert[torch]"'),
            ("openvino", "cpu", 'pip install "posert[openvino]"'),
            ("onnxruntime", "cpu", 'pip install "posert[onnxruntime]"'),
            ("torchscript", "cpu", 'pip install "posert[torch]"'),
        )
    ]
    assert [line for line in done.stdout.splitlines() if line in rows] == rows


def test_a_backend_from_another_package_runs_a_bundle(
    install_plugin: Callable[..., Path], narrow_bundle: Path, narrow_reference: Reference
) -> None:
    install_plugin("posert-echo", PLUGIN, "posert.backends", echo="posert_echo:BACKEND")
    assert backends()[0] == "echo" and load_backend("echo").pip_line == "pip install posert_echo"
    crops = random_crops(narrow_reference.contract, 2)
    with Bundle(narrow_bundle) as bundle:
        assert select(bundle).backend == "echo"
        assert (
            open_session(bundle, "echo", "fp32").infer(crops)[0] == len(bundle.read(bundle.artifacts["fp32"]))
        ).all()
        with pytest.raises(BackendError, match="fp8 cannot run on echo: no such unit"):
            open_session(bundle, "echo", "fp8")


def test_a_plug_in_that_does_not_import_stops_no_other(
    install_plugin: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    install_plugin("posert-echo", "import no_such_library", "posert.backends", echo="posert_echo:BACKEND")
    with caplog.at_level(logging.WARNING, "posert"):
        assert list(installed_backends()) == INSTALLED
    assert "posert.backends: echo (posert-echo) does not import: ModuleNotFoundError" in caplog.text
    assert backends()[-1] == "echo" and pip_line("echo") == "pip install --force-reinstall posert-echo"


def test_a_device_that_there_is_not() -> None:
    with pytest.raises(BackendError, match="backend 'toy': device 'gpu'; expected 'cpu' or 'cuda'"):
        Backend("toy", "toy", {}, open=lambda *_: None, device="gpu")  # type: ignore[arg-type, return-value]


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(BackendError, match="unknown backend 'openvin'. Did you mean openvino") as caught:
        load_backend("openvin")
    assert all(name in str(caught.value) for name in backends())


@pytest.mark.parametrize(
    ("backend", "library", "extra"),
    [
        ("openvino", "openvino", "openvino"),
        ("onnxruntime", "onnxruntime", "onnxruntime"),
        ("torchscript", "torch", "torch"),
    ],
)
def test_a_missing_library_says_the_pip_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, backend: str, library: str, extra: str
) -> None:
    hide(monkeypatch, library)
    with pytest.raises(BackendError, match=rf"needs the Python package '{library}'.*pip install \"posert\[{extra}\]\""):
        load_backend(backend)
    with caplog.at_level(logging.WARNING, "posert"):
        assert backend not in installed_backends()
    assert not caplog.records  # what nobody installed is no news


def test_pip_lines_name_extras_that_exist() -> None:
    import configparser

    config = configparser.ConfigParser()
    config.read(Path(__file__).parents[3] / "setup.cfg")
    extras = set(config["options.extras_require"])
    lines = {name: pip_line(name) for name in backends()}
    named = {name: line for name, line in lines.items() if "posert[" in line}  # another package's backend has none
    assert set(named) >= {"tensorrt", "tensorrt_rtx", "onnxruntime_cuda", "openvino", "onnxruntime", "torchscript"}
    for line in named.values():
        assert line.removeprefix('pip install "posert[').removesuffix(']"') in extras


@pytest.mark.parametrize("error", ["ImportError('libGL.so: cannot open')", "OSError('libgomp.so: wrong ELF class')"])
def test_a_broken_library_is_told_apart_and_does_not_stop_the_others(
    dropped: Path, caplog: pytest.LogCaptureFixture, error: str
) -> None:
    (dropped / "dropped_broken.py").write_text(f"raise {error}\n")
    with pytest.raises(BackendError, match="installed but does not load: lib"):
        load_backend("dropped_broken")
    with caplog.at_level(logging.WARNING, "posert"):
        found = installed_backends()
    assert list(found) == INSTALLED
    assert "dropped_broken" in caplog.text


def test_a_fault_of_ours_is_not_taken_for_a_missing_library(dropped: Path) -> None:
    (dropped / "dropped_faulty.py").write_text("import posert.runtime.no_such_module\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        load_backend("dropped_faulty")


@pytest.mark.parametrize("backend", INSTALLED)
class TestSession:
    def test_equals_pytorch_at_any_batch(self, backend: str, narrow_bundle: Path, narrow_reference: Reference) -> None:
        with Bundle(narrow_bundle) as bundle:
            session = open_session(bundle, backend, "fp32", threads=1)
        crops = random_crops(narrow_reference.contract, 5, seed=3)
        (expected,) = narrow_reference.infer(crops)
        # float32 in another order, through 30 layers: measured at 4e-6 of the range
        bound = 5e-5 * float(np.abs(expected).max())
        for n in (1, 5, 2):
            (seen,) = session.infer(np.ascontiguousarray(crops[:n]))
            assert seen.dtype == np.float32 and seen.shape == expected[:n].shape
            np.testing.assert_allclose(seen, expected[:n], rtol=0, atol=bound)

    def test_leaves_the_crops_alone(self, backend: str, narrow_bundle: Path, narrow_reference: Reference) -> None:
        with Bundle(narrow_bundle) as bundle:
            session = open_session(bundle, backend, "fp32", threads=1)
        crops = random_crops(narrow_reference.contract, 2)
        before = crops.copy()
        session.infer(crops)
        np.testing.assert_array_equal(crops, before)

    @pytest.mark.parametrize("model", [b"", b"not a graph" * 50])
    def test_refuses_what_is_no_graph(self, backend: str, model: bytes) -> None:
        with pytest.raises(BackendError, match="refused the (fp32|TorchScript) graph"):
            load_backend(backend).open(model, "fp32")

    def test_a_run_that_fails_is_the_backends_error(
        self, backend: str, narrow_bundle: Path, narrow_reference: Reference
    ) -> None:
        with Bundle(narrow_bundle) as bundle:
            session: Any = open_session(bundle, backend, "fp32", threads=1)
        crops = random_crops(narrow_reference.contract, 1)
        larger = np.zeros((1, 130, 98, 3), np.uint8)
        with pytest.raises(BackendError, match="failed while it ran"):
            session.infer(larger)
        assert np.isfinite(session.infer(crops)[0]).all()  # and it goes on
        for request in session.requests()[:1] if isinstance(session, AsyncSession) else ():
            with pytest.raises(BackendError, match="failed while it ran"):
                request.start(larger)
                request.wait()

    def test_bf16_is_refused_by_name_where_it_cannot_run(self, backend: str, narrow_bundle: Path) -> None:
        if "bf16" in load_backend(backend).runnable():
            pytest.skip("it can")
        with Bundle(narrow_bundle) as bundle, pytest.raises(BackendError, match="'?bf16'?"):
            open_session(bundle, backend, "bf16")

    def test_refuses_a_thread_count_that_means_nothing(self, backend: str, narrow_bundle: Path) -> None:
        with Bundle(narrow_bundle) as bundle, pytest.raises(InputError, match="0 threads"):
            open_session(bundle, backend, "fp32", threads=0)

    @pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux tells where a thread may run")
    def test_bounded_threads_leave_the_processors_free(
        self, backend: str, narrow_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two programs of one thread each, which both were pinned to the first processor, ran at half their speed."""
        if len(os.sched_getaffinity(0)) < 2:
            pytest.skip("one processor")
        monkeypatch.setenv("POSERT_CACHE", str(tmp_path))
        crops = np.zeros((1, 128, 96, 3), np.uint8)
        with Bundle(narrow_bundle) as bundle:
            for _ in range(2):  # compiled, and from the cache of compiled graphs
                session = open_session(bundle, backend, "fp32", threads=1, cached=True)
                assert processors_of(partial(session.infer, crops)) == {len(os.sched_getaffinity(0))}

    def test_refuses_a_precision_that_there_is_not(self, backend: str, narrow_bundle: Path) -> None:
        with Bundle(narrow_bundle) as bundle, pytest.raises(BackendError) as caught:
            open_session(bundle, backend, "fp8")
        assert "unknown precision 'fp8'" in str(caught.value) and "Known: " in str(caught.value)
        assert "posert build" not in str(caught.value), "which would refuse it too"


def test_bf16_is_the_fp32_graph_in_bfloat16(narrow_bundle: Path, narrow_reference: Reference) -> None:
    pytest.importorskip("openvino")
    if "bf16" not in load_backend("openvino").runnable():
        pytest.skip("this CPU has no bfloat16 arithmetic")
    crops = random_crops(narrow_reference.contract, 3, seed=3)
    (expected,) = narrow_reference.infer(crops)
    with Bundle(narrow_bundle) as bundle:
        errors = {}
        for precision in ("fp32", "bf16"):
            (seen,) = open_session(bundle, "openvino", precision, threads=1).infer(crops)
            errors[precision] = np.linalg.norm(seen - expected) / np.linalg.norm(expected)
        golden, artifact = bundle.golden(), bundle.artifacts["fp32"]
        check = check_session(open_session(bundle, "openvino", "bf16"), artifact, golden, bundle.contract, "bf16")
    # 8 bits of mantissa: one rounding is 2 to the power of -9, and networks of the catalog come to 0.004 to 0.011
    assert errors["fp32"] < 1e-5 and 1e-3 < errors["bf16"] < 3e-2
    assert check.passed and check.bound > errors["bf16"]


def test_a_cpu_without_bfloat16(narrow_bundle: Path) -> None:
    """OpenVINO 2026 can be told to use no instruction newer than these."""
    pytest.importorskip("openvino")
    script = f"""
from posert.runtime import PoseEstimator
from posert.runtime.backends import load_backend
from posert.runtime.errors import BackendError
if "bf16" in load_backend("openvino").runnable():
    raise SystemExit("told in vain")
assert PoseEstimator({str(narrow_bundle)!r}, backend="openvino").selection.precision == "fp32"
for backend in ("openvino", "auto"):
    try:
        PoseEstimator({str(narrow_bundle)!r}, backend=backend, precision="bf16")
    except BackendError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "OV_CPU_MAX_ISA": "AVX512_CORE_VNNI"},
        capture_output=True,
        text=True,
    )
    if "told in vain" in done.stderr:
        pytest.skip("this release of OpenVINO cannot be told")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("bf16 cannot run on openvino: this CPU has no bfloat16 arithmetic") == 2


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("name", [b"first", b"last_"])
def test_a_name_that_is_not_utf8(backend: str, name: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """Libraries take them; Python's bindings fail when such a name is read."""
    node = helper.make_node("Cast", ["first"], ["last_"], to=TensorProto.FLOAT)
    given, found = (
        helper.make_tensor_value_info(n, t, ["N", 4, 4, 3])
        for n, t in (("first", TensorProto.UINT8), ("last_", TensorProto.FLOAT))
    )
    made = helper.make_graph([node], "g", [given], [found])
    data = helper.make_model(made, opset_imports=[helper.make_opsetid("", 19)], ir_version=9).SerializeToString()
    data, spec = data.replace(name, b"\xff\xfe\xfd\xfc\x80"), load_backend(backend)
    assert spec.open_graph is not None
    with pytest.raises(BackendError, match="utf-8"):
        spec.open_graph(data)
    crops = np.zeros((1, 4, 4, 3), np.uint8)
    try:
        spec.open(data, "fp32").infer(crops)
    except BackendError as error:
        assert "utf-8" in str(error).lower()
    assert not capfd.readouterr().out


def test_openvino_reports_to_nobody() -> None:
    program = """
import sys
from posert.runtime.backends import load_backend
load_backend("openvino").import_library().Core()
print([name for name, module in sys.modules.items() if "telemetry" in name and "stub" not in name and module])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "openvino_telemetry" not in done.stdout, done.stdout
